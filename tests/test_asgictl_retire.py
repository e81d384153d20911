"""asgictl's retirement: an old instance is left alone until nobody is connected, but not for ever."""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from asgictl import history, retire
from asgictl.app import App, link_atomically
from asgictl.deploy import Deploy
from asgictl.settle import settle
from asgictl.state import load, save
from asgictl.systemd import Instance
from fake_host import A, B, C, D, Systemd, deploy


class Clock:
    """Time that passes only in `sleep`, which then calls `at` with the seconds so far."""

    def __init__(self, at: Callable[[float], None]) -> None:
        self.now = 0.0
        self.since = time.time()
        self.at = at

    def time(self) -> float:
        """Seconds since 1970."""
        return self.since + self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        assert self.now < 1000, "it never ends"
        self.at(self.now)


def run(app: App, monkeypatch: pytest.MonkeyPatch, at: Callable[[float], None], seconds: float = 300) -> str:
    """Retire release A and call `at` as time passes; return its result."""
    set_policy(app, retire_seconds=seconds)
    clock = Clock(at)
    # It was replaced just now.
    record = load(app)
    former, live = record.tenures
    save(app, replace(record, tenures=(replace(former, until=clock.since), live)))
    monkeypatch.setattr(retire, "time", clock)
    return retire.retire(app, A)


@pytest.fixture
def old(app: App, systemd: Systemd) -> App:
    """An app whose former release A has 3 connections."""
    deploy(app, A)
    systemd.connections[A] = 3
    deploy(app, B)
    return app


def test_it_waits_for_the_last_connection_and_then_stops(old: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(now: float) -> None:
        assert A in systemd.running()
        systemd.connections[A] = 3 if now < 20 else 0

    said = run(old, monkeypatch, at)
    assert said == "stopped after 22.0 s; closed 0 connections"
    assert systemd.running() == {B}
    entry = history.entries(old, 1)[0]
    assert (entry["kind"], entry["outcome"], entry["release"], entry["closed"]) == ("retire", "stopped", A, 0)


def test_at_the_deadline_it_stops_with_whoever_is_left(old: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(old, monkeypatch, lambda _now: None, seconds=60)
    assert said == "stopped after 60.0 s; closed 3 connections"
    assert systemd.running() == {B}
    assert history.entries(old, 1)[0]["closed"] == 3


def test_one_quiet_moment_between_two_requests_is_not_the_end(
    old: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = itertools.cycle([0, 0, 0, 1])

    def at(_now: float) -> None:
        systemd.connections[A] = next(turn)

    assert run(old, monkeypatch, at, seconds=60).startswith("stopped after 60.0 s")


def test_a_release_that_is_live_again_is_not_stopped(old: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(now: float) -> None:
        if now > 5:
            link_atomically(old.live_link, f"releases/{A}")

    assert run(old, monkeypatch, at) == "live again"
    assert A in systemd.running()


def test_a_release_that_became_live_in_the_last_moment_is_not_stopped(
    old: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(now: float) -> None:
        if now >= 10:
            link_atomically(old.live_link, f"releases/{A}")

    assert run(old, monkeypatch, at, seconds=10) == "live again"
    assert A in systemd.running()


def test_zero_seconds_stop_at_once(old: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(old, monkeypatch, lambda _now: None, seconds=0) == "stopped after 0.0 s; closed 3 connections"


def set_policy(app: App, **policy: int) -> None:
    """Write the host's policy."""
    app.policy_file.write_text(json.dumps(policy))


def test_of_too_many_the_oldest_is_stopped(app: App, systemd: Systemd) -> None:
    set_policy(app, retire_max=2, keep_releases=9)
    for release in (B, A, D, C):
        systemd.connections[release] = 1
        deploy(app, release)
    assert systemd.running() == {A, C, D}
    assert systemd.retiring() == {A, D}


def test_each_retirement_begins_once(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    deploy(app, B)
    before = dict(systemd.transient)
    assert settle(app, load(app))["retiring"] == [A]
    assert systemd.transient == before


def test_the_live_release_and_that_of_the_deploy_under_way_do_not_retire(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    deploy(app, B)
    systemd.let_retire()
    Deploy(app, "next").begin(A, "ann@laptop")
    Instance(app, A).start(timeout=1)
    assert settle(app, load(app))["retiring"] == []
    assert systemd.retiring() == set()
    assert systemd.running() == {A, B}
