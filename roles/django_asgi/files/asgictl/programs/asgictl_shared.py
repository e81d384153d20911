"""What the programs share; `text_of` makes it a module of theirs."""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path


def inside_manage(run: Callable[[], None]) -> None:
    """Run a function inside the project's own manage.py, in place of a command: its preparations may be more than Django's."""
    from django.core import management

    # manage.py imports this name when it runs, whether from Django or from what django-configurations wraps around it.
    management.execute_from_command_line = lambda _argv=None: run()
    sys.argv = ["manage.py", "check"]
    if Path("manage.py").exists():
        runpy.run_path("manage.py", run_name="__main__")
    else:
        run()


def migrated_databases(named: list[str]) -> list[str]:
    """Return the aliases of the databases to migrate: those that are named, or else those that the project's routers allow.

    A database besides `default` counts only if a router says so: Django takes silence for consent, and replicas have none.
    """
    from django.apps import apps
    from django.db import DEFAULT_DB_ALIAS, connections, router

    def is_meant(alias: str, app: str) -> bool:
        answers = (one.allow_migrate(alias, app) for one in router.routers if hasattr(one, "allow_migrate"))
        return next((answer for answer in answers if answer is not None), alias == DEFAULT_DB_ALIAS)

    return [
        alias
        for alias in named or connections
        if not connections.settings[alias]["ENGINE"].endswith(".dummy")
        and (named or any(is_meant(alias, config.label) for config in apps.get_app_configs()))
    ]


def compared_migrations(named: list[str]) -> dict:
    """Compare the code's migrations with those of the databases `named` (as for `migrated_databases`).

    Returns what the code has and a database lacks (`pending`), and the other way round (`unknown`); a name from any but the
    first database begins with the alias. If a database does not answer: `database`, its alias, and the `reason`.
    """
    # If a firewall drops packets, libpq would wait for two minutes.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    from django.db import OperationalError, connections
    from django.db.migrations.executor import MigrationExecutor

    pending, unknown = [], []
    aliases = migrated_databases(named)
    for alias in aliases:
        # A pool would report how long it has waited, not why.
        connections[alias].settings_dict["OPTIONS"].pop("pool", None)
        try:
            executor = MigrationExecutor(connections[alias])
        except OperationalError as error:
            return {"database": alias, "reason": " ".join(str(error).split())}
        loader = executor.loader
        known = set(loader.disk_migrations) | {key for migration in loader.disk_migrations.values() for key in migration.replaces}
        plan = executor.migration_plan(loader.graph.leaf_nodes())
        before = "" if alias == aliases[0] else f"{alias}:"
        pending += sorted(f"{before}{migration.app_label}.{migration.name}" for migration, _ in plan)
        unknown += sorted(f"{before}{label}.{name}" for label, name in set(loader.applied_migrations) - known)
    return {"pending": pending, "unknown": unknown}
