"""asgictl's record: one deploy at a time, a lock that a dead deploy doesn't keep, and what was live when."""

import json
import multiprocessing
import os
import stat
import threading
import time
from dataclasses import replace

import pytest
from asgictl import deploy as deploys
from asgictl import state as records
from asgictl.app import App, link_atomically
from asgictl.deploy import LEASE_SECONDS, Deploy
from asgictl.errors import Refused
from asgictl.state import Attempt, End, Phase, State, Tenure, load, save, transaction
from fake_host import A, B, C, D, Systemd, put_release


def begin(app: App, token: str, owner: str = "ann@laptop", release: str = A, takeover: str | None = None) -> bool:
    """Begin a deploy; return whether it took over from a dead one."""
    return Deploy(app, token).begin(release, owner, takeover=takeover)["taken_over"]


def test_before_the_first_deploy_there_is_nothing(app: App) -> None:
    assert load(app) == State()
    assert (load(app).live(), load(app).previous([]), load(app).targets([])) == (None, None, [])


def test_the_record_tells_who_what_and_from_where(app: App, systemd: Systemd) -> None:
    before = time.time()
    assert not begin(app, "one")
    held = load(app).attempt
    assert (held.token, held.owner, held.release, held.before, held.kind) == ("one", "ann@laptop", A, None, "deploy")
    assert before <= held.since == held.renewed <= time.time()
    assert stat.S_IMODE((app.home / "state.json").stat().st_mode) == 0o600


def test_a_second_deploy_is_told_who_holds_it_since_when_and_what_to_do(app: App, systemd: Systemd) -> None:
    begin(app, "one")
    with pytest.raises(Refused) as refused:
        begin(app, "two", "bob@desk", B)
    since = time.strftime("%H:%M:%S UTC", time.gmtime(load(app).attempt.since))
    for part in ("ann@laptop has been deploying shop", A, f"since {since}", " s)", "Wait until"):
        assert part in str(refused.value)
    assert "run the same command with -e django_asgi_lock_takeover=true (asgictl: --take-over)" in str(refused.value)
    assert refused.value.facts["locked"]["token"] == "one"
    assert load(app).attempt.token == "one"


def test_the_same_deploy_may_ask_twice_and_stays_the_holder_since_the_first_time(app: App, systemd: Systemd) -> None:
    begin(app, "one")
    since = load(app).attempt.since
    assert not begin(app, "one")
    assert load(app).attempt.since == since


@pytest.mark.parametrize("takeover", ["one", "any"])
def test_a_take_over_is_noted(app: App, systemd: Systemd, takeover: str) -> None:
    begin(app, "one")
    assert begin(app, "two", "bob@desk", B, takeover)
    assert load(app).attempt.owner == "bob@desk"


def test_a_take_over_of_somebody_else_is_refused(app: App, systemd: Systemd) -> None:
    begin(app, "one")
    with pytest.raises(Refused):
        begin(app, "two", "bob@desk", B, takeover="zero")


def test_a_lease_that_ran_out_frees_the_app(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(app, "one")
    later = load(app).attempt.renewed + LEASE_SECONDS
    monkeypatch.setattr(deploys.time, "time", lambda: later - 1)
    with pytest.raises(Refused, match=r"its lock expires in 1 s"):
        begin(app, "two", "bob@desk", B)
    monkeypatch.setattr(deploys.time, "time", lambda: later + 1)
    assert begin(app, "two", "bob@desk", B)


def test_a_deploy_that_lost_its_lock_is_told_to_whom(app: App, systemd: Systemd) -> None:
    begin(app, "one")
    begin(app, "two", "bob@desk", B, takeover="any")
    with pytest.raises(Refused, match=r"it was taken over by bob@desk\. Start it again"):
        Deploy(app, "one").migrate(A)
    Deploy(app, "two").abort("It was not to be.")
    with pytest.raises(Refused, match="it was released"):
        Deploy(app, "two").migrate(B)


# --- Tenures --------------------------------------------------------------------------------------------------------
def after(*events: str | tuple[str, str]) -> State:
    """The record after deploys of releases, and after rollbacks, as ("rollback", release)."""
    state = State()
    for number, event in enumerate(events):
        kind, release = event if isinstance(event, tuple) else ("deploy", event)
        attempt = Attempt("token", "ann@laptop", kind, release, state.live(), number, number, 60, Phase.SWITCHED)
        state = replace(state, attempt=attempt).committed(number)
    return state


EVERYTHING = [A, B, C, D]


@pytest.mark.parametrize(
    ("events", "previous"),
    [
        ([A], None),
        ([A, B, C], B),
        ([A, B, B], A),
        ([A, B, C, A], C),
        ([A, B, ("rollback", A)], None),
        ([A, B, C, ("rollback", B), ("rollback", A)], None),
        # A release that was rolled back from is no target, whatever came after it.
        ([A, B, ("rollback", A), C], A),
        ([A, B, C, ("rollback", B), D], B),
        # Forward again: the mark is gone, and the older release was not rolled back from.
        ([A, B, C, ("rollback", B), ("rollback", C)], B),
        ([A, B, C, ("rollback", A), ("rollback", C)], A),
        # Deployed again, it counts like any other.
        ([A, B, ("rollback", A), B, C], B),
    ],
)
def test_a_rollback_goes_to_the_last_release_that_nobody_went_back_from(events: list, previous: str | None) -> None:
    assert after(*events).previous(EVERYTHING) == previous


def test_a_release_that_is_gone_from_disk_is_no_way_back() -> None:
    assert after(A, B, C).previous([A, C]) == A
    assert after(A, B, C).targets([A, C]) == [A, C]


def test_an_undone_deploy_leaves_the_record_as_it_was_but_for_its_connections() -> None:
    state = after(A, B)
    attempt = Attempt("token", "ann@laptop", "deploy", C, B, 5, 6, 60)
    for phase in (Phase.BEGUN, Phase.READY):
        assert replace(state, attempt=replace(attempt, phase=phase)).undone(9) == state
    undone = replace(state, attempt=replace(attempt, phase=Phase.SWITCHED)).undone(9)
    assert (undone.live(), undone.previous(EVERYTHING), undone.targets(EVERYTHING)) == (B, A, [A, B])
    assert undone.until(C) == 9
    assert undone.was_aborted(C)


def test_an_undone_deploy_of_a_former_release_keeps_it_a_former_release() -> None:
    attempt = Attempt("token", "ann@laptop", "rollback", A, B, 5, 6, 60, Phase.SWITCHED)
    undone = replace(after(A, B), attempt=attempt).undone(9)
    assert (undone.live(), undone.previous(EVERYTHING), undone.until(A)) == (B, A, 9)


def test_migrations_since_a_release_are_those_of_the_deploys_after_it() -> None:
    tenures = (
        Tenure(A, 0, 1, End.REPLACED, ("one",)),
        Tenure(B, 1, 2, End.REPLACED, ("two",)),
        Tenure(C, 2, None, None, ("three",)),
    )
    assert State(tenures).migrated_since(A) == {"two", "three"}
    assert State(tenures).migrated_since(C) == set()


def test_the_record_is_read_as_it_was_written(app: App) -> None:
    attempt = Attempt("token", "ann@laptop", "deploy", C, B, 5, 6, 60, Phase.READY, "ready", ("shop.0002_price",))
    state = replace(after(A, B), attempt=attempt, leader=True)
    for release in (A, B):
        put_release(app, release)
    assert save(app, state) == load(app) == state


def test_what_is_gone_from_disk_is_forgotten(app: App) -> None:
    put_release(app, B)
    assert [one.release for one in save(app, after(A, B)).tenures] == [B]


def test_a_newer_record_is_refused(app: App) -> None:
    (app.home / "state.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(Refused, match="was written by a newer asgictl"):
        load(app)


def test_the_files_of_an_older_asgictl_are_understood_and_then_gone(app: App) -> None:
    for release in (A, B, C):
        put_release(app, release)
    link_atomically(app.live_link, f"releases/{B}")
    (app.home / "order.json").write_text(json.dumps([A, B, C]))
    held = {
        "token": "one",
        "owner": "ann@laptop",
        "since": 1,
        "renewed": 2,
        "lease": 900,
        "release": D,
        "from": B,
        "kind": "deploy",
    }
    (app.home / "deploy.json").write_text(json.dumps(held))
    found = load(app)
    assert (found.live(), found.previous(EVERYTHING), found.targets(EVERYTHING)) == (B, A, [A, C, B])
    assert (found.attempt.token, found.attempt.release, found.attempt.before) == ("one", D, B)
    assert found.until(A) == app.live_link.lstat().st_mtime, "what retires may continue"
    assert load(app) == save(app, found)
    assert not [*app.home.glob("order.json"), *app.home.glob("deploy.json")]


# --- The transaction ------------------------------------------------------------------------------------------------
def hold_step(app: App, channel: object) -> None:
    """Act as another process in the middle of a step until the channel has a message."""
    with transaction(app):
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
        with transaction(app):
            entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    waiting.start()
    assert not entered.wait(0.3), "two steps ran at the same time"
    here.send("go on")
    assert entered.wait(records.STEP_SECONDS)
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
    # If it did, this would fail with an error.
    with transaction(app):
        pass


def test_a_step_gives_up_with_a_sentence(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "STEP_SECONDS", 0.1)
    with (
        transaction(app),
        pytest.raises(Refused, match=r"Another asgictl step of shop has been running for over 0\.1 s: process \d+\."),
        transaction(app),
    ):
        raise AssertionError("two steps ran at the same time")
