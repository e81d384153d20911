"""The record of an app on a host: which releases were live when, and the deploy under way.

One file, <home>/state.json, holds all of it; what runs, what retires and where a rollback goes follow from it. It is
written before each action that it describes, so that the next command after a crash can undo or finish the action.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from asgictl.app import App, write_atomically
from asgictl.errors import Refused

FORMAT = 1
# The longest time that a step waits for another one.
STEP_SECONDS = 120


class Phase(StrEnum):
    """The progress of a deploy; any failure undoes it until it is committed, and then no longer in the record."""

    BEGUN = "begun"
    READY = "ready"
    SWITCHED = "switched"


class End(StrEnum):
    """Why a release is no longer live."""

    REPLACED = "replaced"
    ROLLED_BACK = "rolled back"
    ABORTED = "aborted"


@dataclass(frozen=True)
class Tenure:
    """A period in which a release was live on this host, in seconds since 1970; `until` is None while it is live.

    `migrated` are the migrations that its deploy applied.
    """

    release: str
    since: float
    until: float | None = None
    end: End | None = None
    migrated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """The deploy or rollback under way: its owner, its lease, its progress and the release before it."""

    token: str
    owner: str
    kind: str
    release: str
    before: str | None
    since: float
    renewed: float
    lease: float
    phase: Phase = Phase.BEGUN
    step: str = "begin"
    migrated: tuple[str, ...] = ()

    def is_expired(self, now: float) -> bool:
        """Whether its owner has been silent for longer than its lease."""
        return now - self.renewed > self.lease


@dataclass(frozen=True)
class State:
    """The record: tenures oldest first, the deploy under way, and whether this host runs what runs once in the fleet."""

    tenures: tuple[Tenure, ...] = ()
    attempt: Attempt | None = None
    leader: bool = False

    def live(self) -> str | None:
        """The release of the last deploy that was committed; None before the first one."""
        return self.tenures[-1].release if self.tenures and self.tenures[-1].until is None else None

    def serving(self) -> str | None:
        """The release that should get the traffic: the one under way once it was switched to, else the live one."""
        if self.attempt and self.attempt.phase == Phase.SWITCHED:
            return self.attempt.release
        return self.live()

    def last_tenures(self) -> list[Tenure]:
        """The last tenure of each release, oldest first."""
        last: dict[str, Tenure] = {}
        for tenure in self.tenures:
            last.pop(tenure.release, None)
            last[tenure.release] = tenure
        return list(last.values())

    def targets(self, on_disk: Collection[str]) -> list[str]:
        """The releases that a rollback may name: on disk and once live; the one that was live last comes last."""
        return [one.release for one in self.last_tenures() if one.release in on_disk and one.end != End.ABORTED]

    def previous(self, on_disk: Collection[str]) -> str | None:
        """The default target of a rollback: the last release that was live and was not rolled back from."""
        return next(
            (one.release for one in reversed(self.last_tenures()) if one.end == End.REPLACED and one.release in on_disk), None
        )

    def is_older(self, release: str, than: str) -> bool:
        """Whether `release` was first live before the other one was."""
        order = list(dict.fromkeys(tenure.release for tenure in self.tenures))
        return release in order and than in order and order.index(release) < order.index(than)

    def migrated_since(self, release: str) -> set[str]:
        """The migrations that deploys have applied since the release was live for the last time."""
        after = [number for number, one in enumerate(self.tenures) if one.release == release]
        return {name for one in self.tenures[after[-1] + 1 if after else 0 :] for name in one.migrated}

    def was_aborted(self, release: str) -> bool:
        """Whether the release had the traffic only until its deploy was undone."""
        return any(one.release == release and one.end == End.ABORTED for one in self.last_tenures())

    def until(self, release: str) -> float | None:
        """When the release was replaced for the last time; None if it is live or never was."""
        return next((one.until for one in reversed(self.tenures) if one.release == release), None)

    def committed(self, now: float) -> "State":
        """The record once the deploy under way is done: its release is live, and the one before it no longer."""
        attempt = self.attempt
        if attempt.release == attempt.before:
            return replace(self, attempt=None)
        back = attempt.kind == "rollback" and attempt.before and self.is_older(attempt.release, attempt.before)
        ended = tuple(
            replace(one, until=now, end=End.ROLLED_BACK if back else End.REPLACED) if one.until is None else one
            for one in self.tenures
        )
        return replace(self, tenures=(*ended, Tenure(attempt.release, now, migrated=attempt.migrated)), attempt=None)

    def undone(self, now: float) -> "State":
        """The record once the deploy under way is undone: the release before it is live again."""
        attempt = self.attempt
        if attempt.phase != Phase.SWITCHED or attempt.release == attempt.before:
            return replace(self, attempt=None)
        # It may have connections, which drain like those of any former release.
        last = [number for number, one in enumerate(self.tenures) if one.release == attempt.release]
        tenures = list(self.tenures)
        if last:
            # One that was live before keeps its place: a failed retry does not change where a rollback goes.
            tenures[last[-1]] = replace(tenures[last[-1]], until=now)
        else:
            tenures.insert(len(tenures) - 1 if self.live() else len(tenures), Tenure(attempt.release, now, now, End.ABORTED))
        return replace(self, tenures=tuple(tenures), attempt=None)


def load(app: App) -> State:
    """Read the record, or that of an older asgictl, which was in several files."""
    try:
        found = json.loads(_file(app).read_text())
    except FileNotFoundError:
        return _load_former(app)
    if found["format"] > FORMAT:
        raise Refused(f"{_file(app)} was written by a newer asgictl; run playbooks/deploy.yml from the newer version.")
    attempt = found["attempt"]
    return State(
        tuple(
            Tenure(**one | {"end": End(one["end"]) if one["end"] else None, "migrated": tuple(one["migrated"])})
            for one in found["tenures"]
        ),
        Attempt(**attempt | {"phase": Phase(attempt["phase"]), "migrated": tuple(attempt["migrated"])}) if attempt else None,
        # Up to version 0.1 only beat ran once.
        found.get("leader", found.get("beat", False)),
    )


def save(app: App, state: State) -> State:
    """Write the record, without the tenures of releases that are no longer on disk; return what was written."""
    there = {*app.staged(), state.live()}
    kept = replace(state, tenures=tuple(one for one in state.tenures if one.release in there))
    write_atomically(_file(app), json.dumps({"format": FORMAT, **asdict(kept)}, indent=1) + "\n", mode=0o600)
    for former in filter(Path.exists, _former_files(app)):
        former.unlink()
    return kept


@contextlib.contextmanager
def transaction(app: App) -> Iterator[State]:
    """Lock the app while the record is read, changed and acted on; the lock ends with the process. Refused if it is not free."""
    app.home.mkdir(parents=True, exist_ok=True)
    with (app.home / ".step").open("a+") as file:
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise Refused(
                        f"Another asgictl step of {app.name} has been running for over {STEP_SECONDS} s: process {file.read()}. "
                        f"Wait until it has ended, or check it with 'asgictl --app {app.name} status'."
                    ) from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield load(app)


def _file(app: App) -> Path:
    return app.home / "state.json"


def _former_files(app: App) -> list[Path]:
    return [app.home / "order.json", app.home / "deploy.json"]


def _load_former(app: App) -> State:
    """The record as it follows from the order.json, deploy.json and live link of an older asgictl."""
    order_file, deploy_file = _former_files(app)
    live = app.live()
    order = json.loads(order_file.read_text()) if order_file.exists() else []
    switched = app.live_link.lstat().st_mtime if live else 0.0
    if live in order:
        before, after = order[: order.index(live)], order[order.index(live) + 1 :]
    else:
        before, after = order, []
    tenures = [Tenure(release, switched, switched, End.REPLACED) for release in before]
    tenures += [Tenure(release, switched, switched, End.ROLLED_BACK) for release in after]
    tenures += [Tenure(live, switched)] if live else []
    attempt = None
    if deploy_file.exists():
        held = json.loads(deploy_file.read_text())
        attempt = Attempt(
            **{name: held[name] for name in ("token", "owner", "release", "since", "renewed")},
            kind=held.get("kind", "deploy"),
            before=held["from"],
            lease=held.get("lease", 0),
            step=held.get("step", "begin"),
        )
    beat = app.units / "multi-user.target.wants" / f"{app.name}-beat@{live}.service"
    return State(tuple(tenures), attempt, beat.is_symlink())
