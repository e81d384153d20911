"""From one release to another: begin, start, switch, finish; and abort, from wherever it failed."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from asgictl import gate, history
from asgictl.app import App, installed_apps, link_atomically, remove_tree
from asgictl.errors import Refused
from asgictl.jobs import hand_over, start_workers
from asgictl.lock import BACKUP_LEASE_SECONDS, DeployLock, step
from asgictl.migrations import migrate, migrations_of, refuse_unknown
from asgictl.release import Release
from asgictl.retire import retire_others, stop_retirement
from asgictl.stage import discard, prune, stage
from asgictl.systemd import Instance, instances, sweep, systemctl


class Deploy:
    """One deploy or rollback of `app`, known by `token`; each method is a step that may be the last one."""

    def __init__(self, app: App, token: str) -> None:
        self.app = app
        self.token = token
        self.lock = DeployLock(app)

    @contextmanager
    def _step(self, name: str) -> Iterator[dict]:
        with step(self.app):
            yield self.lock.renew(self.token, step=name)

    def begin(self, release: str, owner: str, kind: str = "deploy", takeover: str | None = None) -> dict:
        """Take the lock, and clear away what a deploy that died has left. Refused if somebody else deploys."""
        # Asked before the step lock too: who waits for a long step of another deploy would learn of it late.
        self.lock.refuse_if_held(self.token, takeover)
        with step(self.app):
            self.app.ensure_directories()
            if (live := self.app.live()) and live not in self.app.order():
                # A deploy was killed between its rename and the note of it.
                self.app.append_to_order(live)
            order = self.app.order()
            dead = self.lock.acquire(self.token, owner, release, takeover, kind=kind, began=time.time(), order=order)
            if dead:
                history.record(self.app, **_outcome(dead, "died"))
            self._tidy(keep=release)
        return {"changed": False, "taken_over": bool(dead)}

    def stage(self, order: dict) -> dict:
        """Put the release on disk (see `stage.stage`)."""
        with self._step("stage"):
            return stage(self.app, order)

    def pending(self, release: str) -> dict:
        """Say which `migrations` the step migrate would apply; if any, hold the lock for as long as a backup may take."""
        with self._step("pending"):
            pending = migrations_of(Release(self.app, release)).pending
            if pending:
                self.lock.renew(self.token, lease=BACKUP_LEASE_SECONDS)
            return {"migrations": pending}

    def migrate(self, release: str) -> dict:
        """Apply pending migrations with the new release's code, before any cut-over."""
        with self._step("migrate"):
            applied = migrate(Release(self.app, release))
        return {"changed": bool(applied), "applied": applied}

    def start(self, release: str, guard: bool = False) -> dict:
        """Run the release beside the live one and let it pass its gate; it gets no traffic yet.

        With `guard`, which a rollback has, it is refused if it does not know the database's migrations.
        """
        with self._step("start"):
            target, instance = Release(self.app, release), Instance(self.app, release)
            if guard and (live := self.app.live()):
                refuse_unknown(target, Release(self.app, live))
            stop_retirement(instance)
            ran = instance.state() == "active"
            began = time.monotonic()
            try:
                instance.start(target.manifest["gate_timeout"])
            except Refused as refused:
                refused.details = target.redact(refused.details)
                raise
            boot = round(time.monotonic() - began, 2)
            passed = gate.pass_gate(target)
            self.lock.renew(self.token, gated=release)
        return {"changed": not ran, "boot_seconds": boot, "gate": passed}

    def switch(self, release: str, edge: str = "", beat: bool = False) -> dict:
        """The cut-over: one rename, then wait until the edge answers from `release` alone.

        Celery workers of the release are started first, and with `beat` its beat becomes the fleet's.
        """
        with self._step("switch") as held:
            if held.get("gated") != release:
                raise Refused(f"Release {release} has not passed its gate in this deploy; start it first.")
            target, before = Release(self.app, release), self.app.live()
            if edge:
                gate.require_edge(target, edge)
            start_workers(target, target.manifest["gate_timeout"])
            Instance(self.app, release).enable(True)
            link_atomically(self.app.live_link, f"releases/{release}")
            if held["kind"] == "deploy":
                self.app.append_to_order(release)
            if before and before != release:
                Instance(self.app, before).enable(False)
            alone = target.manifest["edge_settle_seconds"] if before and before != release else 0
            seconds = gate.wait_for_edge(target, edge, alone, timeout=30) if edge else 0.0
            self.lock.renew(self.token, beat=beat)
        return {"changed": before != release, "from": before, "edge_seconds": seconds}

    def finish(self, release: str) -> dict:
        """Give the lock back, let the old instances retire, remove what is too old, and write it down."""
        with self._step("finish") as held:
            hand_over(self.app, release, held.get("beat", False))
            retiring = retire_others(self.app)
            pruned = prune(self.app, protected={instance.release for instance in instances(self.app) if instance.runs()})
            history.record(self.app, **_outcome(held, "succeeded"))
            self.lock.release(self.token)
        seconds = round(time.time() - held["began"], 1)
        return {"changed": True, "retiring": retiring, "pruned": pruned, "seconds": seconds}

    def wait_for_retired(self, seconds: float) -> dict:
        """Return when no old instance runs any more; Refused after `seconds`."""
        deadline = time.monotonic() + seconds
        while running := [one.release for one in instances(self.app) if one.runs() and one.release != self.app.live()]:
            if time.monotonic() > deadline:
                raise Refused(f"Still running after {seconds:g} s: {', '.join(running)}. 'asgictl status' says why.")
            time.sleep(0.5)
        return {"changed": False}

    def abort(self, reason: str) -> dict:
        """Put the host back to where it was before this deploy; nothing happens if the lock is not this deploy's."""
        with step(self.app):
            held = self.lock.holder()
            if not held or held["token"] != self.token:
                return {"changed": False, "live": self.app.live()}
            release, before = held["release"], held["from"]
            if self.app.live() == release != before:
                self._switch_back(release, before)
            self.app.set_order(held["order"])
            history.record(self.app, **_outcome(held, "failed", reason=_first_line(reason)))
            self._tidy()
            self.lock.release(self.token)
        return {"changed": True, "live": self.app.live()}

    def remove(self) -> dict:
        """Take the app off this host, but for its data; `others` are the apps that stay."""
        with step(self.app):
            held = self.lock.holder()
            if held:
                raise Refused(f"{held['owner']} is deploying {self.app.name}; remove it when that has ended.")
            found = self.app.home.exists()
            sweep(self.app)
            for instance in instances(self.app):
                stop_retirement(instance)
                instance.uninstall()
            systemctl("daemon-reload")
            for directory in (self.app.home, self.app.cache_directory, self.app.socket_directory):
                remove_tree(directory)
            for file in (self.app.policy_file, self.app.key_file, self.app.history_file):
                file.unlink(missing_ok=True)
        return {"changed": found, "others": installed_apps(self.app.root)}

    def _switch_back(self, release: str, before: str | None) -> None:
        if before:
            Instance(self.app, before).enable(True)
            link_atomically(self.app.live_link, f"releases/{before}")
        else:
            self.app.live_link.unlink()
        Instance(self.app, release).enable(False)

    def _tidy(self, keep: str = "") -> None:
        """Bring the host to a state that a deploy can start from, whatever the last one has left behind."""
        live = self.app.live()
        sweep(self.app)
        for unfinished in self.app.releases.glob(".*"):
            remove_tree(unfinished)
        running = set()
        for instance in instances(self.app):
            if instance.release in (live, keep):
                continue
            instance.enable(False)
            if instance.release not in self.app.order() and not instance.connections():
                discard(self.app, instance.release)
            elif instance.runs():
                running.add(instance.release)
        for release in self.app.staged():
            if release not in {live, keep, *self.app.order(), *running}:
                discard(self.app, release)
        retire_others(self.app, spare=keep)


def roll_back(app: App, target: str | None, edge: str, force: bool, takeover: bool) -> dict:
    """What an operator's `asgictl rollback` does: all steps to `target`, or to the release before the live one."""
    target = target or app.previous()
    if not target:
        raise Refused(f"{app.name} has no release before the live one on this host; 'asgictl releases' lists what it has.")
    if target not in app.order():
        raise Refused(f"Release {target} has never been live on this host, so it is no target of a rollback.")
    owner = f"{os.environ.get('SUDO_USER', 'root')}@{socket.gethostname()}"
    deploy = Deploy(app, f"{owner}:{os.getpid()}:{time.time()}")
    deploy.begin(target, owner, kind="rollback", takeover="any" if takeover else None)
    try:
        started = deploy.start(target, guard=not force)
        switched = deploy.switch(target, edge)
    except BaseException as error:
        deploy.abort(str(error))
        raise
    return {"release": target, **started, **switched, **deploy.finish(target)}


def _first_line(reason: str) -> str:
    # An interrupt has no text.
    return (reason.splitlines() or ["interrupted"])[0]


def _outcome(held: dict, outcome: str, **more: object) -> dict:
    """A history entry from a lock's record."""
    return {
        "kind": held.get("kind", "deploy"),
        "outcome": outcome,
        "release": held["release"],
        "from": held["from"],
        "by": held["owner"],
        "step": held.get("step", "begin"),
        "seconds": round(time.time() - held.get("began", held["since"]), 1),
        **more,
    }
