"""The steps of a deploy: begin, stage, migrate, ready, switch, commit; and abort, after any of them.

Each step writes the record before it acts. Until `commit` has written it, any failure undoes the deploy; from then on the
release is live, and what could not be finished is reported and finished by the next command.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from asgictl import gate, history
from asgictl.app import App, installed_apps, link_atomically, remove_tree
from asgictl.commands import follow
from asgictl.errors import Refused
from asgictl.jobs import run_timers, start_jobs
from asgictl.migrations import migrate, migrations_of, refuse_unknown
from asgictl.progress import file_of, part, restart
from asgictl.release import Release
from asgictl.settle import settle
from asgictl.stage import is_complete, stage
from asgictl.state import Attempt, Phase, State, load, save, transaction
from asgictl.systemd import Instance, instances, releases_up, sweep, systemctl

LEASE_SECONDS = 900
# A backup runs between two steps, outside asgictl.
BACKUP_LEASE_SECONDS = 4 * 3600


class Deploy:
    """One deploy or rollback of `app`, identified by `token`; each method is a step, and any step may be the last."""

    def __init__(self, app: App, token: str) -> None:
        self.app = app
        self.token = token

    @contextmanager
    def _step(self, name: str) -> Iterator[State]:
        with transaction(self.app) as state:
            restart(self.app)
            yield self._note(state, step=name)

    def _note(self, state: State, lease: float = LEASE_SECONDS, **changes: object) -> State:
        """Hold the app for another `lease` seconds and record `changes`; Refused if somebody has taken it over."""
        attempt = state.attempt
        if not attempt or attempt.token != self.token:
            by = f"taken over by {attempt.owner}" if attempt else "released"
            raise Refused(f"This deploy of {self.app.name} no longer holds its lock: it was {by}. Start it again.")
        renewed = replace(attempt, renewed=time.time(), lease=lease, **changes)
        return save(self.app, replace(state, attempt=renewed))

    def begin(self, release: str, owner: str, kind: str = "deploy", takeover: str | None = None) -> dict:
        """Take the lock, and undo what a dead deploy has left. Refused if another deploy is under way.

        `takeover` is the token of a holder that the caller knows to be dead, or `any`. `staged` reports whether the release is
        on disk already, so that the caller need not send its bundle.
        """
        # Checked before the transaction too: behind a long step of another deploy, the refusal would come late.
        self._refuse_if_held(load(self.app), takeover)
        with transaction(self.app) as state:
            self.app.ensure_directories()
            held, now = self._refuse_if_held(state, takeover), time.time()
            mine = held is not None and held.token == self.token
            # A retry of a release that was switched to continues from there, so that visitors don't go back and forth.
            goes_on = held is not None and held.release == release and (mine or held.phase == Phase.SWITCHED)
            if held and not mine:
                _note_in_history(self.app, held, "died")
            if held and not goes_on:
                state = state.undone(now)
            attempt = Attempt(self.token, owner, kind, release, state.live(), held.since if mine else now, now, LEASE_SECONDS)
            if goes_on:
                attempt = replace(attempt, phase=held.phase, migrated=held.migrated)
            settle(self.app, save(self.app, replace(state, attempt=attempt)))
        staged = is_complete(Release(self.app, release))
        return {"changed": False, "taken_over": bool(held) and not mine, "staged": staged}

    def stage(self, order: dict) -> dict:
        """Put the release on disk (see `stage.stage`)."""
        with self._step("stage"):
            return stage(self.app, order)

    def pending(self, release: str) -> dict:
        """Report which `migrations` the step migrate would apply; if any, hold the app for as long as a backup may take."""
        with self._step("pending") as state:
            pending = migrations_of(Release(self.app, release)).pending
            if pending:
                self._note(state, lease=BACKUP_LEASE_SECONDS)
            return {"migrations": pending}

    def migrate(self, release: str) -> dict:
        """Apply pending migrations with the new release's code, before any cut-over."""
        with self._step("migrate") as state:
            with part(self.app, "migrations"):
                applied = migrate(Release(self.app, release))
            self._note(state, migrated=(*state.attempt.migrated, *applied))
        return {"changed": bool(applied), "applied": applied}

    def ready(self, release: str, edge: str = "", guard: bool = False) -> dict:
        """Start the release beside the live one and check all that could fail; it gets no traffic yet.

        On return its instance has passed the gate, the edge answers, and what runs beside it on every host is up. With `guard`, for a rollback,
        Refused if the database holds migrations that the release lacks; any rollback if the edge has another path prefix.
        """
        with self._step("ready") as state:
            target, instance = Release(self.app, release), Instance(self.app, release)
            if guard and (live := state.live()):
                refuse_unknown(target, Release(self.app, live), state.migrated_since(release))
            if state.attempt.kind == "rollback" and (live := state.live()):
                gate.require_prefix(target, Release(self.app, live))
            instance.cancel_retirement()
            ran = instance.state() == "active"
            began = time.monotonic()
            try:
                with part(self.app, "starting the workers"):
                    instance.start(target.manifest["gate_timeout"])
            except Refused as refused:
                refused.details = target.redact(refused.details)
                raise
            boot = round(time.monotonic() - began, 2)
            with part(self.app, "gate"):
                passed = gate.pass_gate(target)
            if edge:
                gate.require_edge(target, edge)
            with part(self.app, "processes beside the web service"):
                start_jobs(target, target.manifest["gate_timeout"])
            if state.attempt.phase == Phase.BEGUN:
                self._note(state, phase=Phase.READY)
        return {"changed": not ran, "boot_seconds": boot, "gate": passed}

    def switch(self, release: str, edge: str = "") -> dict:
        """Cut over: one rename, then wait until the edge answers only from `release`."""
        with self._step("switch") as state:
            if state.attempt.phase == Phase.BEGUN or state.attempt.release != release:
                raise Refused(f"Release {release} has not passed its gate in this deploy; start it first.")
            target, served = Release(self.app, release), self.app.live()
            self._note(state, phase=Phase.SWITCHED)
            Instance(self.app, release).enable(True)
            link_atomically(self.app.live_link, f"releases/{release}")
            alone = target.manifest["edge_settle_seconds"] if served and served != release else 0
            seconds = 0.0
            if edge:
                with part(self.app, "edge"):
                    seconds = gate.wait_for_edge(target, edge, alone, timeout=30 + alone)
                gate.require_static(target, edge)
        return {"changed": served != release, "from": state.live(), "edge_seconds": seconds}

    def commit(self, release: str, leader: bool | None = None) -> dict:
        """Make the release live with one write, after which nothing is undone; then settle what follows from it.

        `leader` is whether this host runs what runs once in the fleet; None leaves it as it is. `warnings` reports what can't be
        finished.
        """
        with self._step("commit") as state:
            attempt = state.attempt
            if attempt.phase != Phase.SWITCHED or attempt.release != release:
                raise Refused(f"Release {release} has not been switched to in this deploy; switch to it first.")
            committed = replace(state.committed(time.time()), leader=state.leader if leader is None else leader)
            committed = save(self.app, committed)
            settled, warnings = {"retiring": [], "pruned": []}, []
            try:
                settled = settle(self.app, committed)
            except (OSError, Refused) as error:
                reason = str(error).rstrip(".")
                warnings.append(f"Release {release} is live, but this is left to the next deploy or rollback: {reason}.")
            warnings += _note_in_history(self.app, attempt, "succeeded")
        return {"changed": True, **settled, "seconds": round(time.time() - attempt.since, 1), "warnings": warnings}

    def after(self, release: str, commands: list[str]) -> dict:
        """Run `commands` in the live release, outside of any lock; `warnings` reports those that fail."""
        return {"changed": True, "warnings": follow(Release(self.app, release), commands)}

    def wait_for_retired(self, seconds: float) -> dict:
        """Wait until no old instance serves; Refused after `seconds`. A worker may still finish its tasks."""
        deadline = time.monotonic() + seconds
        while running := sorted(releases_up(self.app, web=True) - {self.app.live()}):
            if time.monotonic() > deadline:
                raise Refused(f"Still running after {seconds:g} s: {', '.join(running)}. 'asgictl status' shows why.")
            time.sleep(0.5)
        return {"changed": False}

    def abort(self, reason: str) -> dict:
        """Return the host to its state before this deploy; do nothing if the deploy is committed or taken over.

        `migrated` lists the migrations that it has applied, which stay.
        """
        with transaction(self.app) as state:
            attempt = state.attempt
            if not attempt or attempt.token != self.token:
                return {"changed": False, "live": state.serving()}
            restart(self.app)
            undone = save(self.app, state.undone(time.time()))
            _note_in_history(self.app, attempt, "failed", reason=_first_line(reason))
            with part(self.app, "undoing the deploy"):
                settle(self.app, undone)
        return {"changed": True, "live": undone.live(), "migrated": attempt.migrated}

    def remove(self) -> dict:
        """Remove the app from this host, except its data; `others` lists the apps that stay."""
        with transaction(self.app) as state:
            if state.attempt and not state.attempt.is_expired(time.time()):
                raise Refused(f"{state.attempt.owner} is deploying {self.app.name}; remove it when the deploy has ended.")
            found = self.app.releases.exists()
            sweep(self.app)
            run_timers(self.app, None)
            for instance in instances(self.app):
                instance.cancel_retirement()
                instance.uninstall()
            systemctl("daemon-reload")
            for directory in (self.app.home, self.app.cache_directory, self.app.socket_directory):
                remove_tree(directory)
            for file in (self.app.policy_file, self.app.key_file, self.app.history_file, file_of(self.app)):
                file.unlink(missing_ok=True)
        return {"changed": found, "others": installed_apps(self.app.root)}

    def _refuse_if_held(self, state: State, takeover: str | None) -> Attempt | None:
        """Refuse if a deploy other than this one or `takeover` is under way; otherwise return the one under way."""
        held, now = state.attempt, time.time()
        if held and held.token not in (self.token, takeover) and takeover != "any" and not held.is_expired(now):
            raise Refused(_held_by(self.app, held, now), locked=asdict(held))
        return held


def roll_back(app: App, target: str | None, edge: str, force: bool, takeover: bool) -> dict:
    """Roll back with all steps to `target`, or to the release before the live one (`asgictl rollback`)."""
    state = load(app)
    target = target or state.previous(app.staged())
    if not target:
        raise Refused(f"{app.name} has no release before the live one on this host; 'asgictl releases' lists what it has.")
    if target not in state.targets(app.staged()):
        raise Refused(f"Release {target} has never been live on this host, so you can't roll back to it.")
    owner = f"{os.environ.get('SUDO_USER', 'root')}@{socket.gethostname()}"
    deploy = Deploy(app, f"{owner}:{os.getpid()}:{time.time()}")
    deploy.begin(target, owner, kind="rollback", takeover="any" if takeover else None)
    try:
        ready = deploy.ready(target, edge, guard=not force)
        switched = deploy.switch(target, edge)
    except BaseException as error:
        deploy.abort(str(error))
        raise
    return {"release": target, **ready, **switched, **deploy.commit(target)}


def _held_by(app: App, held: Attempt, now: float) -> str:
    since = time.strftime("%H:%M:%S UTC", time.gmtime(held.since))
    frees = max(0, round(held.lease - (now - held.renewed)))
    return (
        f"{held.owner} has been deploying {app.name} (release {held.release}) since {since} "
        f"({round(now - held.since)} s). Wait until that deploy has ended and run again; if it is dead, its lock "
        f"expires in {frees} s. To take over now, run the same command with "
        f"-e django_asgi_lock_takeover=true (asgictl: --take-over)."
    )


def _first_line(reason: str) -> str:
    # An interrupt has no text.
    return (reason.splitlines() or ["interrupted"])[0]


def _note_in_history(app: App, attempt: Attempt, outcome: str, **more: object) -> list[str]:
    """Record a deploy's end in the history, a log that nothing depends on; return a warning if that fails."""
    entry = {
        "kind": attempt.kind,
        "outcome": outcome,
        "release": attempt.release,
        "from": attempt.before,
        "by": attempt.owner,
        "step": attempt.step,
        "seconds": round(time.time() - attempt.since, 1),
        **more,
    }
    try:
        history.record(app, **entry)
    except OSError as error:
        return [f"The history of {app.name} can't be written: {error}."]
    return []
