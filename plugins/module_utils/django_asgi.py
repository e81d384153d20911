"""The variables of the role django_asgi: rules between them, and what runs beside the web service."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, wrong

# Variables that asgictl itself sets in the app's environment.
RESERVED = ("DJANGO_SETTINGS_MODULE", "STATIC_ROOT", "STATE_DIRECTORY", "APP_RELEASE", "WEB_CONCURRENCY", "APP_PATH_PREFIX")
WORKER_CLASS = "draining_worker.DrainingUvicornWorker"
MOST_WORKERS = 128
SHORTEST_SECRET = 4
STOP_SECONDS = 30
TIMER_SECONDS = 3600
COMMANDS = ("django_asgi_build_commands", "django_asgi_prepare_commands", "django_asgi_after_commands")
# Names of jobs that the role itself uses: those of Celery, and of units that are no jobs.
RESERVED_JOBS = ("celery", "beat", "retire", "service", "socket")


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are valid on their own.

    `inventory` has its `hosts`, those `played`, and the `directory` that relative paths start from.
    """
    yield from _of_variables(values)
    yield from _of_hosts(values, inventory["hosts"])
    yield from _of_prefix(values)
    yield from _of_pools(values, len(inventory["played"]))
    yield from _of_threads(values, len(inventory["played"]))
    yield from _of_jobs(values, inventory["hosts"])
    for variable in COMMANDS:
        for command in values[variable]:
            yield from _of_command(f"{variable}: {command}", command)
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


def _of_prefix(values: dict) -> Iterator[Fault]:
    """A path prefix reaches the app through the role's worker class and PYTHONPATH."""
    if not (prefix := values["django_asgi_path_prefix"]):
        return
    if (given := values["django_asgi_worker_class"]) != WORKER_CLASS:
        yield wrong("django_asgi_worker_class", given, f"{WORKER_CLASS}, which alone serves below django_asgi_path_prefix")
    for variable in ("django_asgi_static_url", "django_asgi_media_url"):
        if values[variable].startswith(f"{prefix}/"):
            yield wrong(variable, values[variable], f"a path without django_asgi_path_prefix, {prefix}, which comes before it")
    for variable in ("django_asgi_env", "django_asgi_secrets"):
        if "PYTHONPATH" in values[variable]:
            expected = "names besides PYTHONPATH, which leads to the role's own module if django_asgi_path_prefix is set"
            yield wrong(variable, "PYTHONPATH", expected, "has")


def _of_hosts(values: dict, hosts: list[str]) -> Iterator[Fault]:
    for name, other in (("celery_beat_host", "celery_app"), ("backup_host", "backup_unit")):
        host = values[f"django_asgi_{name}"]
        if host and (host not in hosts or not values[f"django_asgi_{other}"]):
            yield wrong(f"django_asgi_{name}", host, f"a host of the inventory, and django_asgi_{other} set")


def _of_jobs(values: dict, hosts: list[str]) -> Iterator[Fault]:
    used: set[str] = set(RESERVED_JOBS)
    for variable in ("django_asgi_processes", "django_asgi_timers"):
        for entry in values[variable]:
            if entry["name"] in used:
                yield wrong(
                    variable, entry["name"], f"names that nothing else has; {', '.join(RESERVED_JOBS)} are the role's", "has"
                )
            used.add(entry["name"])
            yield from _of_command(f"{variable}: {entry['name']}: command", entry["command"])
    leader, beat = values["django_asgi_leader_host"], values["django_asgi_celery_beat_host"]
    if leader and leader not in hosts:
        yield wrong("django_asgi_leader_host", leader, "a host of the inventory")
    if leader and beat and leader != beat:
        yield wrong("django_asgi_leader_host", leader, f"the same host as django_asgi_celery_beat_host, {beat}, or nothing")


def _of_command(where: str, command: str) -> Iterator[Fault]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        yield Fault(where, f"can't be split into words ({error}); expected quotes in pairs")
    else:
        if not words:
            yield wrong(where, "", "a program and its arguments")


def exec_line(command: str, programs: str) -> str:
    """Return a command as systemd reads it in ExecStart= (systemd.service(5)).

    The first word is manage.py, a program in the directory `programs`, or an absolute path. The words are split as a shell does,
    and reach the program as they are: nothing expands $ and %.
    """
    words = shlex.split(command)
    first = [f"{programs}/python", "manage.py"] if words[0] == "manage.py" else [words[0]]
    if not words[0].startswith("/") and words[0] != "manage.py":
        first = [f"{programs}/{words[0]}"]
    # The path holds systemd's own %i.
    return " ".join([*(first if first[0].startswith(programs) else map(_quoted, first)), *map(_quoted, words[1:])])


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", word) else f'"{escaped}"'


def jobs(processes: list[dict], timers: list[dict], programs: str, celery: dict) -> list[dict]:
    """Return what runs beside the web service: `name`, `on` (all, one or timer), `command`, and its times in seconds.

    `processes` and `timers` are the variables; `programs` the directory of the release's programs, with systemd's %i for the
    release; `celery` has `app` (empty for none), `name` of the app, `concurrency`, `queues`, `stop_seconds`, `log_level` and
    `beat` (whether the fleet has one).
    """
    found = []
    if celery["app"]:
        base = f"{programs}/python -m celery --app {celery['app']}"
        name, level = celery["name"], celery["log_level"]
        worker = f"{base} worker --hostname {name}-%i@%H --concurrency {celery['concurrency']} --loglevel {level}"
        worker += f"{' --queues ' + ','.join(celery['queues']) if celery['queues'] else ''} --without-gossip --without-mingle"
        found.append({"name": "celery", "on": "all", "command": worker, "stop_seconds": celery["stop_seconds"]})
        if celery["beat"]:
            beat = f"{base} beat --schedule /var/lib/{name}/celerybeat-schedule --pidfile= --loglevel {level}"
            found.append({"name": "beat", "on": "one", "command": beat, "stop_seconds": STOP_SECONDS})
    for entry in processes:
        number = int(entry.get("number", 1))
        job = {
            "on": entry.get("hosts", "all"),
            "command": exec_line(entry["command"], programs),
            "stop_seconds": int(entry.get("stop_seconds", STOP_SECONDS)),
        }
        names = [f"{entry['name']}-{count + 1}" for count in range(number)] if number > 1 else [entry["name"]]
        found += [{"name": name, **job} for name in names]
    for entry in timers:
        found.append(
            {
                "name": entry["name"],
                "on": "timer",
                "command": exec_line(entry["command"], programs),
                "calendar": entry["calendar"],
                "random_delay": entry.get("random_delay", "0"),
                "seconds": int(entry.get("seconds", TIMER_SECONDS)),
            }
        )
    return found


def _of_threads(values: dict, hosts: int) -> Iterator[Fault]:
    """Without a pool, each thread for sync views has a connection, and so has each of Celery's processes."""
    most, automatic = values["django_asgi_database_max_connections"], values["django_asgi_workers"] == "auto"
    if not most or values["django_asgi_database_pool"] or values["django_asgi_sync_views"] != "one_hop":
        return
    connections = (MOST_WORKERS if automatic else int(values["django_asgi_workers"])) * values["django_asgi_threads"]
    connections += values["django_asgi_celery_concurrency"] if values["django_asgi_celery_app"] else 0
    if connections * hosts * 2 > most:
        yield wrong(
            "django_asgi_threads",
            values["django_asgi_threads"],
            f"a number that keeps the threads' connections within django_asgi_database_max_connections, {most}; they come to "
            f"{connections * hosts * 2} (django_asgi_workers times threads, and Celery's processes, times hosts, times two releases "
            "during a deploy" + ("; auto counts as 128 workers: give a number)" if automatic else ")"),
        )


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
