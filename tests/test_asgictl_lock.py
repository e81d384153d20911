"""asgictl's locks: one deploy at a time, said in words, and never kept by the dead."""

import multiprocessing
import os
import threading
import time

import pytest
from asgictl import lock as locks
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.lock import LEASE_SECONDS, DeployLock, step
from fake_host import A, B


@pytest.fixture
def lock(app: App) -> DeployLock:
    """The lock of an app that nobody deploys."""
    return DeployLock(app)


def test_a_free_lock_has_no_holder(lock: DeployLock) -> None:
    assert lock.holder() is None


def test_the_record_tells_who_what_and_from_where(lock: DeployLock) -> None:
    before = time.time()
    assert lock.acquire("one", "ann@laptop", A, kind="deploy") is None
    held = lock.holder()
    assert (held["token"], held["owner"], held["release"], held["from"]) == ("one", "ann@laptop", A, None)
    assert held["kind"] == "deploy"
    assert before <= held["since"] == held["renewed"] <= time.time()


def test_a_second_deploy_is_told_who_holds_it_since_when_and_what_to_do(lock: DeployLock) -> None:
    lock.acquire("one", "ann@laptop", A)
    with pytest.raises(Refused) as refused:
        lock.acquire("two", "bob@desk", B)
    since = time.strftime("%H:%M:%S UTC", time.gmtime(lock.holder()["since"]))
    for part in ("ann@laptop is deploying shop", A, f"since {since}", "s ago", "Wait until"):
        assert part in str(refused.value)
    assert "run the same command with -e django_asgi_lock_takeover=true (asgictl: --take-over)" in str(refused.value)
    assert refused.value.facts["locked"]["token"] == "one"
    assert lock.holder()["token"] == "one"


def test_the_same_deploy_may_ask_twice_and_stays_the_holder_since_the_first_time(lock: DeployLock) -> None:
    lock.acquire("one", "ann@laptop", A)
    since = lock.holder()["since"]
    assert lock.acquire("one", "ann@laptop", A) is None
    assert lock.holder()["since"] == since


@pytest.mark.parametrize("takeover", ["one", "any"])
def test_a_take_over_returns_the_record_of_the_dead_deploy(lock: DeployLock, takeover: str) -> None:
    lock.acquire("one", "ann@laptop", A)
    dead = lock.acquire("two", "bob@desk", B, takeover=takeover)
    assert (dead["owner"], dead["release"]) == ("ann@laptop", A)
    assert lock.holder()["owner"] == "bob@desk"


def test_a_take_over_of_somebody_else_is_refused(lock: DeployLock) -> None:
    lock.acquire("one", "ann@laptop", A)
    with pytest.raises(Refused):
        lock.acquire("two", "bob@desk", B, takeover="zero")


def test_a_lease_that_ran_out_frees_the_lock(lock: DeployLock, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.acquire("one", "ann@laptop", A)
    later = lock.holder()["renewed"] + LEASE_SECONDS
    monkeypatch.setattr(locks.time, "time", lambda: later - 1)
    with pytest.raises(Refused, match=r"its lock ends by itself in 1 s"):
        lock.acquire("two", "bob@desk", B)
    monkeypatch.setattr(locks.time, "time", lambda: later + 1)
    assert lock.acquire("two", "bob@desk", B)["token"] == "one"


def test_each_step_renews_the_lease_and_is_noted(lock: DeployLock, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.acquire("one", "ann@laptop", A)
    later = lock.holder()["renewed"] + LEASE_SECONDS - 1
    monkeypatch.setattr(locks.time, "time", lambda: later)
    lock.renew("one", step="stage")
    monkeypatch.setattr(locks.time, "time", lambda: later + LEASE_SECONDS - 1)
    with pytest.raises(Refused):
        lock.acquire("two", "bob@desk", B)
    assert lock.holder()["step"] == "stage"


def test_a_deploy_that_lost_its_lock_is_told_to_whom(lock: DeployLock) -> None:
    lock.acquire("one", "ann@laptop", A)
    lock.acquire("two", "bob@desk", B, takeover="any")
    with pytest.raises(Refused, match=r"it was taken over by bob@desk\. Start it again"):
        lock.renew("one")


def test_a_step_after_the_end_is_refused(lock: DeployLock) -> None:
    lock.acquire("one", "ann@laptop", A)
    lock.release("one")
    assert lock.holder() is None
    with pytest.raises(Refused, match="it was released"):
        lock.renew("one")


def test_only_its_holder_gives_the_lock_back(lock: DeployLock) -> None:
    lock.acquire("one", "ann@laptop", A)
    lock.release("two")
    assert lock.holder()["token"] == "one"


def hold_step(app: App, channel: object) -> None:
    """Be another process in the middle of a step, until told to go on."""
    with step(app):
        channel.send("in")
        channel.recv()


def test_a_step_waits_for_the_step_of_another_process(app: App) -> None:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    other = fork.Process(target=hold_step, args=(app, there), daemon=True)
    other.start()
    assert here.recv() == "in"
    entered = threading.Event()

    def enter() -> None:
        with step(app):
            entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    waiting.start()
    assert not entered.wait(0.3), "two steps ran at the same time"
    here.send("go on")
    assert entered.wait(locks.STEP_SECONDS)
    waiting.join()
    other.join()


def test_a_killed_process_does_not_keep_the_step(app: App) -> None:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    other = fork.Process(target=hold_step, args=(app, there), daemon=True)
    other.start()
    assert here.recv() == "in"
    os.kill(other.pid, 9)
    other.join()
    # Where it did, this would give up with an error.
    with step(app):
        pass


def test_a_step_gives_up_with_a_sentence(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "STEP_SECONDS", 0.1)
    with (
        step(app),
        pytest.raises(Refused, match=r"Another asgictl step of shop has been running for 0\.1 s"),
        step(app),
    ):
        raise AssertionError("two steps ran at the same time")
