"""What an operator wants to know at night: what is live, what else runs, what is wrong."""

import time
from dataclasses import asdict

from asgictl import history
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.jobs import timers_of
from asgictl.migrations import migrations_of
from asgictl.release import Release
from asgictl.stage import free_space
from asgictl.state import load
from asgictl.systemd import Instance, releases_up

LITTLE_SPACE = 1 << 30
LONG_DEPLOY_SECONDS = 3600


def status(app: App, quick: bool = False) -> dict:
    """The app on this host: live, previous, retiring, lock, last deploys and a list of problems in words.

    With `quick`, skip the check for pending migrations, which takes as long as Django takes to start.
    """
    live, state = app.live(), load(app)
    return {
        "app": app.name,
        "live": describe(app, live) if live else None,
        "previous": state.previous(app.staged()),
        "retiring": [describe(app, release) for release in sorted(releases_up(app) - {live})],
        "deploying": asdict(state.attempt) if state.attempt else None,
        "timers": timers_of(app),
        "history": history.entries(app, 8),
        "problems": problems(app) + ([] if quick else database_problems(app)),
    }


def describe(app: App, release: str) -> dict:
    """A running release: its instance's state, connections and workers, and where it came from."""
    instance = Instance(app, release)
    return {
        "release": release,
        "state": instance.state(),
        "connections": instance.connections(),
        "workers": instance.workers(),
        "jobs": {name: instance.property("ActiveState", unit) for name, unit in instance.jobs.items()},
        "source": Release(app, release).manifest["source"],
    }


def problems(app: App) -> list[str]:
    """A sentence for each problem: what is wrong, and what to do."""
    live = app.live()
    if not live:
        return ["Nothing is live yet: run playbooks/deploy.yml."]
    found = []
    instance = Instance(app, live)
    if not app.live_link.is_dir():
        found.append(f"{app.live_link} points to release {live}, which is not on disk: deploy or roll back.")
    elif instance.state() != "active":
        found.append(f"The live release {live} is {instance.state()}: 'asgictl logs' shows why, 'asgictl rollback' goes back.")
    else:
        # What runs once in the fleet is inactive on the other hosts, and a timer's command between its runs.
        for unit in (*instance.jobs_on("all"), *instance.jobs_on("one")):
            if (state := instance.property("ActiveState", unit)) not in ("active", "inactive"):
                found.append(f"{unit} is {state}: 'asgictl logs' shows why.")
        for name, timer in timers_of(app).items():
            if timer["last"] and timer["last"]["result"] != "success":
                last = timer["last"]
                found.append(f"The timer {name} ended with {last['result']} at {last['ended']}: 'asgictl logs' shows why.")
        wanted, serving = Release(app, live).manifest["worker_count"], len(instance.workers())
        if serving < wanted:
            found.append(f"Only {serving} of {wanted} workers of the live release run: 'asgictl logs' shows why.")
    attempt = load(app).attempt
    if attempt and time.time() - attempt.since > LONG_DEPLOY_SECONDS:
        found.append(f"{attempt.owner} has been deploying for over an hour: the next deploy takes over.")
    if app.maintenance_file.exists():
        found.append("Visitors see the maintenance page: 'asgictl maintenance off' opens the site.")
    if free_space(app) < LITTLE_SPACE:
        found.append(f"Less than 1 GiB is free below {app.home}: the next deploy may not fit.")
    return found


def database_problems(app: App) -> list[str]:
    """The problems of the live release with its database: pending migrations, or no answer."""
    live = app.live()
    if not live or not app.live_link.is_dir():
        return []
    try:
        pending = migrations_of(Release(app, live)).pending
    except Refused as refused:
        return [f"{refused} 'asgictl manage check --database default' shows more."]
    return [f"Migrations are pending: {', '.join(pending)}. Deploy again to apply them."] if pending else []


def releases(app: App) -> list[dict]:
    """The releases on disk in the order of their deploys, oldest first."""
    state, on_disk = load(app), app.staged()
    live, previous, up = app.live(), state.previous(on_disk), releases_up(app)
    marks = dict.fromkeys(up, "retiring") | {live: "live", previous: "previous"}
    listed = []
    for release in state.targets(on_disk):
        manifest = Release(app, release).manifest
        listed.append(
            {"release": release, "is": marks.get(release, ""), "made": manifest["created"], "source": manifest["source"]}
        )
    return listed
