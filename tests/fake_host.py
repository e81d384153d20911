"""A fake host for asgictl in a directory: releases on disk, and a systemd that only records states."""

import fnmatch
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from asgictl import deploy as deploys
from asgictl import gate, history, jobs, settle, stage, systemd
from asgictl.app import App, remove_tree, write_atomically
from asgictl.errors import Refused
from asgictl.release import Release, environment_file
from asgictl.state import load
from asgictl.systemd import Instance

A, B, C, D = (letter * 12 for letter in "abcd")
# In memory, if possible: there a write costs nothing.
MEMORY = next((path for path in ("/dev/shm", "/tmp") if os.access(path, os.W_OK)), None)


class Systemd:
    """A fake of systemctl and systemd-run for the units of one app.

    `fails`, `hangs` and `fails_gate` hold releases whose service fails, never serves, or does not pass its gate;
    `connections` counts the open connections to each release's socket. Each change raises an audit event.
    """

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.states: dict[str, str] = {}
        self.transient: dict[str, tuple[str, ...]] = {}
        self.connections: Counter = Counter()
        self.restarts: Counter = Counter()
        self.main_pid: dict[str, int] = {}
        self.journal = "the last line of the journal"
        self.fails: set[str] = set()
        self.hangs: set[str] = set()
        self.fails_gate: set[str] = set()
        for module in (systemd, jobs, settle, deploys):
            monkeypatch.setattr(module, "systemctl", self.systemctl)
        monkeypatch.setattr(systemd, "run_transient", self.run_transient)
        for module in (systemd, gate):
            monkeypatch.setattr(module, "journal", lambda *_arguments, **_options: self.journal)
        monkeypatch.setattr(deploys.gate, "pass_gate", self._pass_gate)
        monkeypatch.setattr(Instance, "connections", lambda instance: self.connections[instance.release])

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        """Do what systemctl would do; Refused if it would fail."""
        verb, *units = [argument for argument in arguments if not argument.startswith("--")]
        if verb == "show":
            names = arguments[1].removeprefix("--property=").split(",")
            shown = [(name, self._show(name, units[0])) for name in names]
            return "".join(f"{value}\n" if "--value" in arguments else f"{name}={value}\n" for name, value in shown)
        if verb == "list-units":
            there = [unit for unit in self.states if any(fnmatch.fnmatch(unit, pattern) for pattern in units)]
            return json.dumps([{"unit": unit, "active": self.states[unit]} for unit in there])
        sys.audit("fake_host.systemctl", verb, *units)
        for unit in units:
            if verb in ("start", "restart") or (verb == "enable" and "--now" in arguments):
                self._start(unit, check)
            elif verb == "stop" or (verb == "disable" and "--now" in arguments):
                self._stop(unit)
        return ""

    def _show(self, name: str, unit: str) -> str:
        values = {"ActiveState": self.states.get(unit, "inactive"), "SubState": "", "InvocationID": ""}
        values |= {"NRestarts": str(self.restarts[unit]), "NextElapseUSecRealtime": "Sat 2026-11-28 00:00:00 UTC"}
        return {**values, "MainPID": str(self.main_pid.get(unit, 0))}[name]

    def _start(self, unit: str, check: bool) -> None:
        if not (self.app.units / unit).exists():
            if check:
                raise Refused(f"Unit {unit} not found.")
            return
        release = unit.partition("@")[2].partition(".")[0]
        if unit.endswith(".socket"):
            path = Instance(self.app, release).socket_path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        state = "failed" if release in self.fails else "activating" if release in self.hangs else "active"
        self.states[unit] = "active" if unit.endswith(".socket") else state

    def _stop(self, unit: str) -> None:
        self.states.pop(unit, None)
        self.transient.pop(unit, None)
        if unit.endswith(".socket"):
            release = unit.partition("@")[2].partition(".")[0]
            Instance(self.app, release).socket_path.unlink(missing_ok=True)

    def run_transient(self, unit: str, description: str, *command: str) -> None:
        """Start a transient unit, which here does nothing."""
        sys.audit("fake_host.run_transient", unit)
        self.states[unit] = "active"
        self.transient[unit] = command

    def _pass_gate(self, release: Release) -> dict:
        if release.id in self.fails_gate:
            raise Refused(f"Release {release.id} failed its gate: HTTP /: the answer was 500; expected 2xx or 3xx.")
        return {"workers": release.manifest["worker_count"], "seconds": 0.0}

    def running(self) -> set[str]:
        """The releases whose socket or service is up."""
        return {name.partition("@")[2].partition(".")[0] for name in self.states if "@" in name}

    def retiring(self) -> set[str]:
        """The releases that a transient unit waits for."""
        return {command[command.index("retire") + 1] for command in self.transient.values()}

    def enabled(self) -> set[str]:
        """The releases that would be started at boot."""
        return {link.name.partition("@")[2].partition(".")[0] for link in self.app.units.glob("*.wants/*")}

    def let_retire(self) -> None:
        """Close all connections, so that every retirement ends."""
        self.connections.clear()
        for release in self.retiring():
            assert release != self.app.live(), "the live release must not retire"
            self.systemctl("stop", f"{self.app.name}@{release}.socket", f"{self.app.name}@{release}.service")
        for unit in list(self.transient):
            self._stop(unit)
        settle.settle(self.app, load(self.app))


def manifest(**changes: object) -> dict:
    """A release's manifest as the role writes it, with `changes`."""
    return {
        "name": "shop",
        "project_dir": ".",
        "settings_module": "config.settings",
        "env": {"COLOUR": "blue"},
        "files": ["gunicorn.conf.py"],
        "workers": 2,
        "worker_count": 2,
        "worker_count_why": "as asked for",
        "health_path": "/healthz",
        "health_host": "shop.example.org",
        "health_scheme": "https",
        "websocket_path": "",
        "gate_timeout": 5,
        "edge_settle_seconds": 0.2,
        "celery_concurrency": 0,
        "memory_max": "",
        "created": "2026-11-20T10:00:00Z",
        "source": {"address": "/home/me/shop", "version": "HEAD"},
        **changes,
    }


def put_release(app: App, id: str, static: dict[str, str] | None = None, environment: str = "e1", **changes: object) -> Release:
    """Put a complete release on disk, as a stage leaves it; `changes` are made to its manifest."""
    release = Release(app, id)
    directory = Release(app, id, staging=True).directory
    for left in (directory, release.directory):
        remove_tree(left)
    (directory / "src").mkdir(parents=True)
    (directory / "static").mkdir()
    write_atomically(directory / "release.json", json.dumps(manifest(**changes)))
    write_atomically(directory / "secrets", environment_file({"PASSWORD": "correct horse"}), mode=0o600)
    write_atomically(directory / "sources.json", json.dumps({"manage.py": "0123456789abcdef"}))
    (directory / "gunicorn.conf.py").write_text("timeout = 30\n")
    (directory / "socket").symlink_to(release.socket)
    for name, text in (static or {f"site.{id}.css": id}).items():
        file = directory / "static" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    put_environment(app, environment)
    (directory / "venv").symlink_to(f"../../environments/{environment}")
    directory.rename(release.directory)
    stage._fill_static_pool(release)
    for kind in ("socket", "service"):
        (app.units / f"{app.name}@{id}.{kind}").write_text(f"[{kind.title()}]\n")
    return release


def put_environment(app: App, digest: str) -> Path:
    """Put a Python environment on disk, without a Python."""
    directory = app.environments / digest
    (directory / "bin").mkdir(parents=True, exist_ok=True)
    (directory / "bin/python").unlink(missing_ok=True)
    (directory / "bin/python").symlink_to(sys.executable)
    (directory / "requirements.lock").write_text("django==5.2.8 \\\n    --hash=sha256:00\n")
    (directory / ".complete").touch()
    return directory


def deploy(app: App, id: str, **changes: object) -> dict:
    """Deploy a release with all steps; put it on disk if it is not there."""
    steps = deploys.Deploy(app, f"controller/{id}")
    steps.begin(id, "ann@laptop")
    if id not in app.staged():
        put_release(app, id, **changes)
    steps.ready(id)
    steps.switch(id)
    return steps.commit(id)


def order_of(app: App) -> list[str]:
    """The releases that a rollback may go to, the one that was live last at the end."""
    return load(app).targets(app.staged())


def previous_of(app: App) -> str | None:
    """The default target of a rollback."""
    return load(app).previous(app.staged())


def assert_converged(app: App, systemd: Systemd, live: str) -> None:
    """Fail unless `live` is the only release that runs and nothing is left of any other deploy."""
    systemd.let_retire()
    assert app.live() == live
    assert app.live_link.is_dir()
    assert load(app).live() == order_of(app)[-1] == live
    assert systemd.running() == {live}
    assert systemd.enabled() == {live}
    assert not systemd.transient
    assert load(app).attempt is None
    assert {path.name for path in app.releases.iterdir()} == set(order_of(app))
    assert not [*app.home.glob(".*.*"), *app.units.glob(".*")], "an atomic write left its file"
    units = {path.name for path in app.units.glob("shop@*")}
    assert units == {f"shop@{release}.{kind}" for release in order_of(app) for kind in ("service", "socket")}
    assert [path.name for path in (app.root / "run/shop").iterdir()] == [f"{live}.sock"]
    used = {stage.environment_of(Release(app, release)) for release in order_of(app)}
    assert {path.name for path in app.environments.iterdir()} == used
    pool = {path.name for path in app.static_pool.rglob("*") if path.is_file()}
    kept = {path.name for release in order_of(app) for path in (app.releases / release / "static").iterdir()}
    assert pool == kept
    outcomes = [entry["outcome"] for entry in history.entries(app, 100)]
    assert outcomes[-1] == "succeeded"
