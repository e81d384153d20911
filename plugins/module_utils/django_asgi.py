"""Rules between the variables of the role django_asgi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, wrong

# Variables that asgictl itself sets in the app's environment.
RESERVED = ("DJANGO_SETTINGS_MODULE", "STATIC_ROOT", "STATE_DIRECTORY", "APP_RELEASE", "WEB_CONCURRENCY")
MOST_WORKERS = 128
SHORTEST_SECRET = 4


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are valid on their own.

    `inventory` has its `hosts`, those `played`, and the `directory` that relative paths start from.
    """
    yield from _of_variables(values)
    yield from _of_hosts(values, inventory["hosts"])
    yield from _of_pools(values, len(inventory["played"]))
    path = values["django_asgi_project_dir"]
    if path.startswith("/") or ".." in path.split("/"):
        yield wrong("django_asgi_project_dir", path, "a path inside the source")
    source = values["django_asgi_source"]
    if not re.search(r"^\w+://|@|\.git$", source) and not (Path(inventory["directory"]) / Path(source).expanduser()).exists():
        yield wrong("django_asgi_source", source, "a directory or an archive on this machine, or a git address")


def _of_variables(values: dict) -> Iterator[Fault]:
    plain, secret = values["django_asgi_env"], values["django_asgi_secrets"]
    for name in plain.keys() & {*RESERVED, *secret}:
        yield wrong(
            "django_asgi_env",
            name,
            f"names that are neither the role's own ({', '.join(RESERVED)}) nor in django_asgi_secrets",
            "has",
        )
    for name in secret.keys() & set(RESERVED):
        yield wrong("django_asgi_secrets", name, f"names that are not the role's own ({', '.join(RESERVED)})", "has")
    for name, value in secret.items():
        if len(str(value)) < SHORTEST_SECRET:
            expected = f"{SHORTEST_SECRET} characters or more, because a shorter secret protects nothing"
            yield wrong(f"django_asgi_secrets: {name}", value, expected, secret=True)


def _of_hosts(values: dict, hosts: list[str]) -> Iterator[Fault]:
    for name, other in (("celery_beat_host", "celery_app"), ("backup_host", "backup_unit")):
        host = values[f"django_asgi_{name}"]
        if host and (host not in hosts or not values[f"django_asgi_{other}"]):
            yield wrong(f"django_asgi_{name}", host, f"a host of the inventory, and django_asgi_{other} set")


def _of_pools(values: dict, hosts: int) -> Iterator[Fault]:
    """All pools of all processes on all hosts, of two releases during a cut-over, share the database's connections."""
    most, automatic = values["django_asgi_database_max_connections"], values["django_asgi_workers"] == "auto"
    processes = MOST_WORKERS if automatic else int(values["django_asgi_workers"])
    processes += values["django_asgi_celery_concurrency"] if values["django_asgi_celery_app"] else 0
    pooled = processes * values["django_asgi_database_pool"] * hosts * 2
    if most and pooled > most:
        yield wrong(
            "django_asgi_database_pool",
            values["django_asgi_database_pool"],
            f"a size that keeps all pools together within django_asgi_database_max_connections, {most}; they come to {pooled} "
            "(django_asgi_workers and Celery's processes, times hosts, times two releases during a deploy"
            + ("; auto counts as 128 workers: give a number)" if automatic else ")"),
        )
