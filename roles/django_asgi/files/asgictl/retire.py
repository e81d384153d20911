"""Let an old instance finish what it has, then stop it.

SIGTERM is not a drain: uvicorn closes every WebSocket at once. An instance drains by being left alone while nothing
new reaches it, so all that happens here is waiting, in a transient unit that outlives the play.
"""

import time

from asgictl import history
from asgictl.app import App
from asgictl.jobs import stop_workers
from asgictl.lock import step
from asgictl.systemd import Instance, instances, run_transient, systemctl

POLL_SECONDS = 0.5
# The edge may still hold an idle connection for a moment; a single zero can lie between two of its requests.
QUIET_POLLS = 4


def retire_others(app: App, spare: str = "") -> list[str]:
    """Begin to retire each running instance that is neither live nor `spare`; return the ids of all that retire.

    More than the policy's `retire_max` at once are too many: the oldest are stopped now.
    """
    policy, order = app.policy(), app.order()
    old = [instance for instance in instances(app) if instance.release not in (app.live(), spare) and instance.runs()]
    old.sort(key=lambda instance: order.index(instance.release) if instance.release in order else -1)
    too_many = max(0, len(old) - policy["retire_max"])
    for instance in old:
        stop_workers(instance)
    for instance in old[:too_many]:
        stop_retirement(instance)
        instance.stop(block=False)
    for instance in old[too_many:]:
        if not instance.retiring():
            begin_retirement(instance, policy["retire_seconds"])
    return [instance.release for instance in old[too_many:]]


def begin_retirement(instance: Instance, seconds: float) -> None:
    """Start the transient unit that runs `retire`."""
    app = instance.app
    command = ("/usr/local/bin/asgictl", "--app", app.name, "retire", instance.release, "--seconds", str(seconds))
    systemctl("reset-failed", instance.retirement, check=False)
    run_transient(instance.retirement, f"Retire release {instance.release} of {app.name}", *command)


def stop_retirement(instance: Instance) -> None:
    """Let the instance live on."""
    systemctl("stop", instance.retirement, check=False)


def retire(app: App, release: str, seconds: float) -> str:
    """Wait until nobody is connected to the instance, `seconds` at most, then stop it; return what happened.

    At the deadline SIGTERM gives each WebSocket a close 1012 and lets responses end within graceful_timeout.
    """
    instance = Instance(app, release)
    began = time.monotonic()
    quiet = 0
    while quiet < QUIET_POLLS and time.monotonic() - began < seconds:
        if app.live() == release:
            return "live again"
        connections = instance.connections()
        quiet = 0 if connections else quiet + 1
        time.sleep(POLL_SECONDS)
    with step(app):
        if app.live() == release:
            return "live again"
        connections = instance.connections()
        waited = round(time.monotonic() - began, 1)
        history.record(app, kind="retire", outcome="stopped", release=release, seconds=waited, closed=connections)
        instance.stop(block=False)
    return f"stopped after {waited} s with {connections} connections"
