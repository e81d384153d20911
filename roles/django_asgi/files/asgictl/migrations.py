"""What a release knows of the database's migrations, asked in a process of the release's own environment."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from asgictl.as_app import as_app
from asgictl.errors import Refused
from asgictl.release import Release

# Runs in the app's environment, not in asgictl's: it may import nothing but Django.
QUESTION = """
import json
import sys
import django
django.setup()
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor
applied, known, pending = set(), set(), set()
for alias in connections:
    # A pool would say how long it has waited, and not for what.
    connections[alias].settings_dict["OPTIONS"].pop("pool", None)
    try:
        executor = MigrationExecutor(connections[alias])
    except OperationalError as error:
        print(json.dumps({"database": alias, "reason": " ".join(str(error).split())}))
        sys.exit()
    loader = executor.loader
    applied |= set(loader.applied_migrations)
    known |= set(loader.disk_migrations) | {key for m in loader.disk_migrations.values() for key in m.replaces}
    pending |= {(m.app_label, m.name) for m, _ in executor.migration_plan(loader.graph.leaf_nodes())}
name = ".".join
print(json.dumps({"pending": sorted(map(name, pending)), "unknown": sorted(map(name, applied - known))}))
"""

# Two hosts of a fleet, or a fleet and a person, may migrate at the same time; PostgreSQL lets the second one wait.
MIGRATION = """
import contextlib
import zlib
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.db import connection
with connection.cursor() if connection.vendor == "postgresql" else contextlib.nullcontext() as cursor:
    if cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [zlib.crc32(settings.SETTINGS_MODULE.encode())])
    call_command("migrate", interactive=False)
"""


@dataclass(frozen=True)
class Migrations:
    """`pending`: the release has them, the database does not; `unknown`: the other way round."""

    pending: list[str]
    unknown: list[str]


def migrations_of(release: Release) -> Migrations:
    """Compare the release's migrations with the database's; Refused if the database does not answer."""
    result = _ask(release, QUESTION)
    answer = _last_object(result.stdout)
    if "reason" in answer:
        raise Refused(
            f"Release {release.id} can't reach its database {answer['database']!r}: {release.redact(answer['reason'])}. "
            f"Look whether the server runs and lets this host in, and whether its address and password in "
            f"django_asgi_env and django_asgi_secrets are right."
        )
    if not answer:
        raise Refused(
            f"Release {release.id} can't read the state of its database's migrations; is the database there?",
            details=release.redact("\n".join(result.stderr.splitlines()[-15:])),
        )
    return Migrations(**answer)


def _last_object(output: str) -> dict:
    """The JSON object in the last line, whatever the settings have printed before it; empty if there is none."""
    try:
        return dict(json.loads(output.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        return {}


def _ask(release: Release, program: str) -> subprocess.CompletedProcess:
    """Run a Python program in the release's environment, as the app's user."""
    settings = release.process_settings()
    # Where a firewall swallows packets libpq would wait for two minutes.
    settings["env"] = {"PGCONNECT_TIMEOUT": "10"} | settings["env"]
    return as_app(release.app, [release.directory / "venv/bin/python", "-"], **settings, stdin=program)


def migrate(release: Release) -> list[str]:
    """Apply what is pending, if anything is; return its names. Refused if a migration fails."""
    pending = migrations_of(release).pending
    if pending:
        result = _ask(release, MIGRATION)
        if result.returncode:
            raise Refused(
                f"A migration of release {release.id} failed; the live release goes on serving.",
                details=release.redact("\n".join(result.stderr.splitlines()[-25:])),
            )
    return pending


def refuse_unknown(target: Release, live: Release, recorded: set[str]) -> None:
    """Refuse a way back to `target` if the database holds migrations that `live` knows and `target` does not.

    Where the live release is too broken to answer, what this host has `recorded` of the deploys since then counts.
    """
    with ThreadPoolExecutor() as pool:
        of_target, of_live = pool.submit(migrations_of, target), pool.submit(migrations_of, live)
    unknown = set(of_target.result().unknown)
    try:
        lost = sorted(unknown - set(of_live.result().unknown))
    except Refused:
        lost = sorted(unknown & recorded)
    if lost:
        raise Refused(
            f"The database holds migrations that release {target.id} does not know: {', '.join(lost)}. "
            f"Reverse them first; or, to go back all the same, run the same command with "
            f"-e django_asgi_force=true (asgictl: --force).",
            migrations=lost,
        )
