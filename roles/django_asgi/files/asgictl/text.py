"""asgictl's answers as text for a terminal."""

from collections.abc import Callable


def source_of(source: dict) -> str:
    """Where a release came from, in a few words."""
    return " ".join(filter(None, (source.get("address", ""), source.get("version", ""))))


def instance_lines(title: str, instance: dict) -> list[str]:
    """A running release with its workers, indented below a title."""
    state = f"{instance['state']}, {instance['connections']} connections, from {source_of(instance['source'])}"
    lines = [f"{title:<10} {instance['release']}  {state}"]
    for worker in instance["workers"]:
        lines.append(f"{'':<10} worker {worker['pid']:<8} {worker['memory_mib']:>5} MiB  up {duration(worker['age_seconds'])}")
    lines += [f"{'':<10} {kind:<15} {state}" for kind, state in instance.get("jobs", {}).items()]
    return lines


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 12 min, 3 h, 5 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def status(facts: dict) -> str:
    """The answer to `asgictl status`."""
    lines = [f"{'app':<10} {facts['app']}"]
    if facts["live"]:
        lines += instance_lines("live", facts["live"])
    lines.append(f"{'previous':<10} {facts['previous'] or '-'}")
    for instance in facts["retiring"]:
        lines += instance_lines("retiring", instance)
    if held := facts["deploying"]:
        lines.append(f"{'deploying':<10} {held['release']} by {held['owner']}, step {held.get('step', 'begin')}")
    for entry in facts["history"]:
        by = f" by {entry['by']}" if "by" in entry else ""
        reason = f": {entry['reason']}" if "reason" in entry else ""
        lines.append(
            f"{'history':<10} {entry['time']}  {entry['kind']} {entry['release']} {entry['outcome']}"
            f" in {entry['seconds']} s{by}{reason}"
        )
    for name, timer in facts["timers"].items():
        last = f", last {timer['last']['result']} at {timer['last']['ended']}" if timer["last"] else ""
        lines.append(f"{'timer':<10} {name:<15} next {timer['next'] or '-'}{last}")
    lines += [f"{'PROBLEM':<10} {problem}" for problem in facts["problems"]] or [f"{'problems':<10} none"]
    return "\n".join(lines)


def releases(listed: list[dict]) -> str:
    """The answer to `asgictl releases`."""
    rows = [f"{one['release']}  {one['is']:<9} {one['made']}  {source_of(one['source'])}" for one in listed]
    return "\n".join(rows) or "no release has been deployed yet"


def inspect(report: dict) -> str:
    """The answer to `asgictl inspect`."""
    lines = [f"{'release':<17} {report['release']}"]
    for name, value in report["facts"].items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for key, entry in entries:
            lines.append(" ".join(filter(None, (f"{name.replace('_', ' '):<17}", str(key), _shown(entry)))))
    lines += [f"{'finding':<17} {finding}" for finding in report["findings"]] or [f"{'findings':<17} none"]
    return "\n".join(lines)


def _shown(value: object) -> str:
    """A fact in a few words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items() if entry not in ("", False))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "-"


def rollback(done: dict) -> str:
    """The answer to `asgictl rollback`."""
    return f"release {done['release']} is live again (before: {done['from']}), after {done['seconds']} s"


def maintenance(state: dict) -> str:
    """The answer to `asgictl maintenance`."""
    return f"{state['app']}: " + ("visitors see the maintenance page" if state["maintenance"] else "the site is open")


RENDERERS: dict[str, Callable] = {
    "status": status,
    "releases": releases,
    "inspect": inspect,
    "rollback": rollback,
    "maintenance": maintenance,
}


def render(command: str, result: object) -> str:
    """The text for what `command` returned."""
    return RENDERERS.get(command, str)(result)
