"""Let an old instance finish what it has, then stop it.

SIGTERM is not a drain: uvicorn closes every WebSocket at once. An instance drains by being left alone while nothing
new reaches it, so all that happens here is waiting, in a transient unit that outlives the play.
"""

import time

from asgictl import history, state
from asgictl.app import App
from asgictl.settle import settle
from asgictl.systemd import Instance, releases_up

POLL_SECONDS = 0.5
# The edge may still hold an idle connection for a moment; a single zero can lie between two of its requests.
QUIET_POLLS = 4


def retire(app: App, release: str) -> str:
    """Wait until nobody is connected to the instance, or its time is up, then stop it; return what happened.

    Its time is the policy's retire_seconds, counted from its replacement. Then SIGTERM closes each WebSocket with 1012 and
    lets responses end within graceful_timeout.
    """
    instance = Instance(app, release)
    until = state.load(app).until(release)
    began = time.time()
    deadline = (until or began) + app.policy()["retire_seconds"]
    quiet = 0
    while quiet < QUIET_POLLS and time.time() < deadline:
        if app.live() == release:
            return "live again"
        connections = instance.connections()
        quiet = 0 if connections else quiet + 1
        time.sleep(POLL_SECONDS)
    with state.transaction(app) as record:
        if release in (app.live(), record.live(), record.serving()):
            return "live again"
        connections = instance.connections()
        waited = round(time.time() - began, 1)
        history.record(app, kind="retire", outcome="stopped", release=release, seconds=waited, closed=connections)
        instance.stop(block=False)
    while release in releases_up(app):
        time.sleep(POLL_SECONDS)
    with state.transaction(app) as record:
        # Its files may now be pruned.
        settle(app, record)
    return f"stopped after {waited} s; closed {connections} connections"
