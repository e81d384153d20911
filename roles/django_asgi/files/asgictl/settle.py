"""Make systemd and the disk agree with the record. This decides nothing; it may run at any time, and again."""

import time
from enum import StrEnum

from asgictl.app import App, link_atomically, remove_tree
from asgictl.jobs import run_once, run_timers, stop_jobs
from asgictl.stage import prune
from asgictl.state import Phase, State
from asgictl.systemd import Instance, instances, releases_up, sweep, systemctl


class Wish(StrEnum):
    """The wanted state of an instance."""

    SERVE = "serve"  # it runs, and starts at boot
    SPARE = "spare"  # a deploy works on it
    DRAIN = "drain"  # it finishes what it has
    GO = "go"  # it stops


def wishes(state: State, policy: dict, running: dict[str, int], now: float) -> dict[str, Wish]:
    """Return the wanted state of each release that runs or should run.

    `running` maps each running release to its open connections; only retire_seconds and retire_max of the policy are used.
    """
    attempt = state.attempt
    wished = dict.fromkeys(running, Wish.GO)
    former = [
        (until, release)
        for release, connections in running.items()
        if (until := state.until(release)) and until + policy["retire_seconds"] > now
        # A release that was committed may still get a last request, even without connections.
        if connections or not state.was_aborted(release)
    ]
    # At most retire_max drain at once: the oldest ones go now.
    wished |= {release: Wish.DRAIN for _, release in sorted(former)[-policy["retire_max"] :]}
    if attempt and attempt.phase != Phase.SWITCHED:
        wished[attempt.release] = Wish.SPARE
    for release in (state.live(), state.serving()):
        if release:
            wished[release] = Wish.SERVE
    return wished


def settle(app: App, state: State) -> dict:
    """Bring the host to the record's state; return the retiring and the removed releases. The caller holds the transaction."""
    _point(app, state.serving())
    sweep(app)
    for unfinished in app.releases.glob(".*"):
        remove_tree(unfinished)
    found, up = instances(app), releases_up(app)
    connected = {one.release: one.connections() for one in found if one.release in up}
    wished = wishes(state, app.policy(), connected, time.time())
    # What runs once stops in the former release before it starts in the new one.
    for instance in sorted(found, key=lambda one: one.release == state.serving()):
        _fulfil(instance, wished.get(instance.release, Wish.GO), state, connected.get(instance.release))
    if not state.attempt:
        run_timers(app, state.live() if state.leader else None)
    running = {one.release for one in found} & releases_up(app)
    under_way = {state.attempt.release} if state.attempt else set()
    pruned = prune(app, state, protected=running | under_way)
    return {"retiring": sorted(one for one in running if wished[one] == Wish.DRAIN), "pruned": pruned}


def _point(app: App, release: str | None) -> None:
    """Point the live link to the release, or remove the link."""
    if release is None:
        app.live_link.unlink(missing_ok=True)
    elif app.live() != release:
        link_atomically(app.live_link, f"releases/{release}")


def _fulfil(instance: Instance, wish: Wish, state: State, connections: int | None) -> None:
    """Bring one instance to its wanted state; wait only for an idle one, without `connections` (None if it is down), to stop."""
    if wish == Wish.SPARE:
        return
    instance.enable(wish == Wish.SERVE)
    if wish == Wish.SERVE:
        instance.cancel_retirement()
        if not state.attempt:
            run_once(instance, state.leader)
        return
    if connections is None:
        return
    stop_jobs(instance)
    if wish == Wish.DRAIN and not instance.retiring():
        instance.start_retirement()
    elif wish == Wish.GO:
        instance.cancel_retirement()
        systemctl("stop", *(["--no-block"] if connections else []), instance.socket, instance.service, check=False)
        systemctl("reset-failed", instance.socket, instance.service, check=False)
