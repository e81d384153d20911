"""Metrics of the apps on this host for Prometheus, in text exposition format 0.0.4."""

import calendar
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asgictl import history
from asgictl.app import App, write_atomically
from asgictl.errors import Refused
from asgictl.jobs import timers_of
from asgictl.release import Release
from asgictl.state import load
from asgictl.status import problems
from asgictl.systemd import Instance, releases_up

# name: (type, help), in the order of the output.
FAMILIES = {
    "asgi_collect_success": ("gauge", "Whether the app's state could be read; if not, its other metrics are missing."),
    "asgi_live_release_info": ("gauge", "The live release and where it came from; always 1."),
    "asgi_instance_up": ("gauge", "Whether systemd counts the instance as active."),
    "asgi_instance_connections": ("gauge", "Open connections to the instance's socket, including WebSockets."),
    "asgi_workers": ("gauge", "Running worker processes."),
    "asgi_workers_wanted": ("gauge", "Worker processes that the live release was deployed with."),
    "asgi_worker_memory_bytes": ("gauge", "Memory of a worker: its proportional set size."),
    "asgi_worker_age_seconds": ("gauge", "Time since a worker was started."),
    "asgi_retiring_instances": ("gauge", "Former releases that run until their connections end."),
    "asgi_instance_retire_deadline_timestamp_seconds": ("gauge", "When a retiring instance is stopped at the latest."),
    "asgi_deploys_total": ("counter", "Deploys and rollbacks in the host's history."),
    "asgi_last_deploy_success": ("gauge", "Whether the last deploy or rollback succeeded."),
    "asgi_last_deploy_timestamp_seconds": ("gauge", "When the last deploy of this kind and outcome ended."),
    "asgi_last_deploy_duration_seconds": ("gauge", "How long the last deploy of this kind and outcome took."),
    "asgi_deploy_lock_age_seconds": ("gauge", "How long the current deploy has been under way; 0 if there is none."),
    "asgi_timer_last_success": ("gauge", "Whether the last run of a timer's command succeeded."),
    "asgi_timer_last_end_timestamp_seconds": ("gauge", "When the last run of a timer's command ended."),
    "asgi_problems": ("gauge", "Problems reported by 'asgictl status'."),
}
# Present from the first scrape on: a counter that appears with its first failure hides that failure from rate().
KINDS, OUTCOMES = ("deploy", "rollback"), ("succeeded", "failed", "died")


@dataclass(frozen=True)
class Sample:
    """One line of the output."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The line."""
        labels = ",".join(f'{name}="{escape(value)}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}} {self.value!r}" if labels else f"{self.name} {self.value!r}"


def escape(value: object) -> str:
    """Escape a label's value as the format requires."""
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def exposition(samples: Iterable[Sample]) -> str:
    """The samples in the text format, each family once and in the order of FAMILIES."""
    families: dict[str, list[Sample]] = {name: [] for name in FAMILIES}
    for sample in samples:
        families[sample.name].append(sample)
    lines = []
    for name, found in families.items():
        if found:
            kind, text = FAMILIES[name]
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *map(str, found)]
    return "\n".join(lines)


def metrics(apps: Iterable[App], output: str = "") -> str:
    """The metrics of all `apps`; with `output`, replace that file with them in one step and return a message."""
    text = exposition(sample for app in apps for sample in of_app(app))
    if not output:
        return text
    write_atomically(Path(output), f"{text}\n" if text else "")
    return f"Wrote {output}."


def of_app(app: App) -> list[Sample]:
    """The metrics of one app; one that can't be read yields a single failed sample, so that the others still appear."""
    try:
        samples = [*of_instances(app), *of_history(app), *of_lock(app), *of_timers(app)]
    except (Refused, OSError, ValueError, LookupError) as error:
        print(f"asgictl: {app.name}: {error!r}", file=sys.stderr)
        return [Sample("asgi_collect_success", 0, {"app": app.name})]
    return [Sample("asgi_collect_success", 1, {"app": app.name}), *samples]


def of_instances(app: App) -> Iterator[Sample]:
    """Samples of the running instances, and of what should run."""
    live, deadlines = app.live(), retire_deadlines(app)
    retiring = [Instance(app, release) for release in sorted(releases_up(app) - {live})]
    if live:
        manifest = manifest_of(app, live)
        source = manifest.get("source", {})
        labels = {"app": app.name, "release": live}
        origin = {"source": source.get("address", ""), "version": source.get("version", "")}
        yield Sample("asgi_live_release_info", 1, labels | origin)
        yield Sample("asgi_workers_wanted", manifest.get("worker_count", 0), labels)
        yield from of_instance(Instance(app, live), "live")
    for instance in retiring:
        yield from of_instance(instance, "retiring")
        if instance.release in deadlines:
            labels = {"app": app.name, "release": instance.release}
            yield Sample("asgi_instance_retire_deadline_timestamp_seconds", deadlines[instance.release], labels)
    yield Sample("asgi_retiring_instances", len(retiring), {"app": app.name})
    yield Sample("asgi_problems", len(problems(app)), {"app": app.name})


def of_instance(instance: Instance, state: str) -> Iterator[Sample]:
    """Samples of one instance, its connections and its workers."""
    labels = {"app": instance.app.name, "release": instance.release}
    workers = instance.workers()
    yield Sample("asgi_instance_up", int(instance.state() == "active"), labels | {"state": state})
    yield Sample("asgi_instance_connections", instance.connections(), labels | {"state": state})
    yield Sample("asgi_workers", len(workers), labels | {"state": state})
    for worker in workers:
        process = labels | {"pid": worker["pid"]}
        yield Sample("asgi_worker_memory_bytes", worker["memory_mib"] << 20, process)
        yield Sample("asgi_worker_age_seconds", worker["age_seconds"], process)


def of_history(app: App) -> Iterator[Sample]:
    """Samples of all deploys and rollbacks in the host's history."""
    done = [entry for entry in history.entries(app, sys.maxsize) if entry["kind"] in KINDS]
    counts = Counter({(kind, outcome): 0 for kind in KINDS for outcome in OUTCOMES})
    counts.update((entry["kind"], entry["outcome"]) for entry in done)
    last = {(entry["kind"], entry["outcome"]): entry for entry in done}
    for (kind, outcome), count in counts.items():
        labels = {"app": app.name, "kind": kind, "outcome": outcome}
        yield Sample("asgi_deploys_total", count, labels)
        if entry := last.get((kind, outcome)):
            yield Sample("asgi_last_deploy_timestamp_seconds", seconds_of(entry["time"]), labels)
            yield Sample("asgi_last_deploy_duration_seconds", entry["seconds"], labels)
    if done:
        yield Sample("asgi_last_deploy_success", int(done[-1]["outcome"] == "succeeded"), {"app": app.name})


def of_lock(app: App) -> Iterator[Sample]:
    """The sample of the deploy under way."""
    attempt = load(app).attempt
    age = max(0.0, round(time.time() - attempt.since, 1)) if attempt else 0
    yield Sample("asgi_deploy_lock_age_seconds", age, {"app": app.name})


def of_timers(app: App) -> Iterator[Sample]:
    """Samples of the timers that have run on this host."""
    for name, timer in timers_of(app).items():
        if last := timer["last"]:
            labels = {"app": app.name, "timer": name}
            yield Sample("asgi_timer_last_success", int(last["result"] == "success"), labels)
            yield Sample("asgi_timer_last_end_timestamp_seconds", seconds_of(last["ended"]), labels)


def retire_deadlines(app: App) -> dict[str, float]:
    """When each former release must be stopped, in seconds since 1970, counted from its replacement."""
    state, seconds = load(app), app.policy()["retire_seconds"]
    return {one.release: one.until + seconds for one in state.last_tenures() if one.until}


def manifest_of(app: App, release: str) -> dict:
    """The release's manifest; empty if it is no longer on disk."""
    try:
        return Release(app, release).manifest
    except Refused:
        return {}


def seconds_of(moment: str) -> int:
    """A time that asgictl has written, in seconds since 1970."""
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
