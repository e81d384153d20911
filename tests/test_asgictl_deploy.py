"""asgictl's deploys: complete, undone by abort, or killed before any of their changes."""

import io
import itertools
import json
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from asgictl import deploy as deploys
from asgictl import gate, history, jobs, settle, stage
from asgictl import release as releases
from asgictl import systemd as systemd_of_app
from asgictl.app import App
from asgictl.deploy import BACKUP_LEASE_SECONDS, LEASE_SECONDS, Deploy, roll_back
from asgictl.environment import Builder
from asgictl.errors import Refused
from asgictl.migrations import Migrations
from asgictl.prepare import prepare as prepare_project
from asgictl.release import Release, read_environment_file
from asgictl.state import load
from asgictl.systemd import Instance
from fake_host import (
    MEMORY,
    A,
    B,
    C,
    D,
    Systemd,
    assert_converged,
    deploy,
    manifest,
    order_of,
    previous_of,
    put_environment,
    put_release,
)
from killing import KILLER


def last_entry(app: App) -> dict:
    """The newest entry in the app's history."""
    return history.entries(app, 1)[0]


def test_the_first_deploy_brings_a_release_live(app: App, systemd: Systemd) -> None:
    done = deploy(app, A)
    assert done["retiring"] == done["pruned"] == []
    assert previous_of(app) is None
    assert_converged(app, systemd, live=A)
    assert last_entry(app) | {"time": "", "seconds": 0} == {
        "time": "",
        "seconds": 0,
        "kind": "deploy",
        "outcome": "succeeded",
        "release": A,
        "from": None,
        "by": "ann@laptop",
        "step": "commit",
    }


def test_a_deploy_lets_the_old_release_retire_in_the_background(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    systemd.connections[A] = 20
    done = deploy(app, B)
    assert done["retiring"] == [A]
    assert systemd.running() == {A, B}
    assert systemd.enabled() == {B}
    (command,) = systemd.transient.values()
    assert command == ("/usr/local/bin/asgictl", "--app", "shop", "retire", A)
    assert_converged(app, systemd, live=B)


def test_deploying_the_live_release_again_changes_nothing(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    steps = Deploy(app, "again")
    steps.begin(A, "ann@laptop")
    assert not steps.ready(A)["changed"]
    assert not steps.switch(A)["changed"]
    steps.commit(A)
    assert_converged(app, systemd, live=A)


def test_the_switch_is_one_rename_and_the_socket_follows(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    deploy(app, B)
    assert (app.live_link / "socket").readlink() == Release(app, B).socket
    assert (app.live_link / "static" / f"site.{B}.css").read_text() == B


def test_a_release_that_passed_no_gate_is_not_switched_to(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "ann@laptop")
    with pytest.raises(Refused, match="has not passed its gate in this deploy; start it first"):
        steps.switch(B)
    assert app.live() == A


def test_a_gate_passed_in_another_deploy_does_not_count(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    first = Deploy(app, "first")
    first.begin(B, "ann@laptop")
    first.ready(B)
    second = Deploy(app, "second")
    second.begin(B, "bob@desk", takeover="any")
    with pytest.raises(Refused, match="has not passed its gate"):
        second.switch(B)


def test_the_edge_is_asked_before_the_switch_and_after_it(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(gate, "require_edge", lambda release, edge: asked.append(("before", edge, app.live())))

    def wait_for_edge(release: Release, edge: str, alone: float, timeout: float) -> float:
        asked.append((alone, edge, app.live()))
        return 0.0

    monkeypatch.setattr(gate, "wait_for_edge", wait_for_edge)
    for release in (A, B):
        put_release(app, release)
        steps = Deploy(app, release)
        steps.begin(release, "ann@laptop")
        steps.ready(release, "http://127.0.0.1")
        steps.switch(release, "http://127.0.0.1")
        steps.commit(release)
    edge = "http://127.0.0.1"
    assert asked == [("before", edge, None), (0, edge, A), ("before", edge, A), (0.2, edge, B)]


@pytest.mark.parametrize("way", ["fails", "hangs", "fails_gate"])
def test_a_release_that_does_not_start_or_pass_leaves_the_live_one_alone(app: App, systemd: Systemd, way: str) -> None:
    deploy(app, A)
    getattr(systemd, way).add(B)
    put_release(app, B, gate_timeout=0.1, environment="e2")
    steps = Deploy(app, "second")
    steps.begin(B, "bob@desk")
    with pytest.raises(Refused, match=B):
        steps.ready(B)
    assert steps.abort("The gate said no.\nwith details") == {"changed": True, "live": A, "migrated": ()}
    assert last_entry(app)["outcome"] == "failed"
    assert last_entry(app)["reason"] == "The gate said no."
    assert (order_of(app), app.staged(), app.live()) == ([A], [A], A)
    deploy(app, C)
    assert_converged(app, systemd, live=C)


def test_the_journal_comes_with_a_failed_start_without_secrets(app: App, systemd: Systemd) -> None:
    systemd.fails.add(A)
    systemd.journal = "OperationalError: password correct horse refused"
    put_release(app, A)
    steps = Deploy(app, "first")
    steps.begin(A, "ann@laptop")
    with pytest.raises(Refused) as refused:
        steps.ready(A)
    assert f"shop@{A}.service did not start" in str(refused.value)
    assert refused.value.details == "OperationalError: password ******** refused"


def test_an_abort_after_the_switch_goes_back(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "bob@desk")
    steps.ready(B)
    steps.switch(B)
    assert (app.live(), systemd.enabled()) == (B, {A, B})
    assert steps.abort("Another host of the fleet failed.")["live"] == A
    assert (app.live(), systemd.enabled(), order_of(app)) == (A, {A}, [A])
    assert systemd.retiring() <= {B}
    deploy(app, B)
    assert_converged(app, systemd, live=B)


def test_an_abort_after_the_switch_lets_the_new_release_keep_its_connections(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "bob@desk")
    steps.ready(B)
    steps.switch(B)
    systemd.connections[B] = 3
    steps.abort("Another host of the fleet failed.")
    assert B in systemd.running()
    assert systemd.retiring() == {B}
    assert previous_of(app) is None, "a rollback must not return to a failed release"


def test_a_failed_first_deploy_leaves_nothing_live(app: App, systemd: Systemd) -> None:
    put_release(app, A)
    steps = Deploy(app, "first")
    steps.begin(A, "ann@laptop")
    steps.ready(A)
    steps.switch(A)
    steps.abort("The edge did not follow.")
    assert not app.live_link.is_symlink()
    assert (app.live(), order_of(app), app.staged(), systemd.running()) == (None, [], [], set())
    deploy(app, A)
    assert_converged(app, systemd, live=A)


def test_an_abort_without_the_lock_touches_nothing(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    other = Deploy(app, "other")
    other.begin(B, "bob@desk")
    assert Deploy(app, "mine").abort("The lock was held.") == {"changed": False, "live": A}
    assert load(app).attempt.token == "other"
    assert B in app.staged()


def test_an_abort_without_a_reason_still_gives_the_lock_back(app: App, systemd: Systemd) -> None:
    steps = Deploy(app, "first")
    steps.begin(A, "ann@laptop")
    steps.abort(str(KeyboardInterrupt()))
    assert load(app).attempt is None


def test_a_deploy_that_lost_its_lock_stops_before_its_next_step(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    first = Deploy(app, "first")
    first.begin(B, "ann@laptop")
    first.ready(B)
    put_release(app, C)
    second = Deploy(app, "second")
    second.begin(C, "bob@desk", takeover="any")
    for step in (first.pending, first.migrate, first.ready, first.switch, first.commit):
        with pytest.raises(Refused, match="no longer holds its lock"):
            step(B)
    assert app.live() == A


def test_what_is_pending_is_told_before_it_is_applied(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploys, "migrations_of", lambda _release: Migrations(["shop.0002_price"], []))
    put_release(app, A)
    steps = Deploy(app, "first")
    steps.begin(A, "ann@laptop")
    assert steps.pending(A) == {"migrations": ["shop.0002_price"]}
    held = load(app).attempt
    assert held.step == "pending"
    assert held.lease == BACKUP_LEASE_SECONDS, "the lock lasts through a long backup"
    monkeypatch.setattr(deploys, "migrate", lambda _release: ["shop.0002_price"])
    steps.migrate(A)
    assert load(app).attempt.lease == LEASE_SECONDS, "the next step has the usual lease"
    assert steps.abort("The gate said no.")["migrated"] == ("shop.0002_price",), "an abort does not reverse them"


def test_a_release_on_disk_needs_no_bundle(app: App, systemd: Systemd) -> None:
    assert not Deploy(app, "first").begin(A, "ann@laptop")["staged"]
    put_release(app, A)
    assert Deploy(app, "first").begin(A, "ann@laptop")["staged"]
    assert not Deploy(app, "first").stage({"release": A, "key": "key"})["changed"]


def test_the_next_deploy_notes_that_the_last_one_died(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    Deploy(app, "first").begin(B, "ann@laptop")
    taken = Deploy(app, "second")
    assert taken.begin(C, "bob@desk", takeover="first")["taken_over"]
    assert (last_entry(app)["outcome"], last_entry(app)["release"], last_entry(app)["by"]) == ("died", B, "ann@laptop")


def test_a_rollback_returns_to_the_previous_release_and_twice_to_the_one_before(app: App, systemd: Systemd) -> None:
    for release in (A, B, C):
        deploy(app, release)
    assert rolled_back(app) == (B, C)
    assert rolled_back(app) == (A, B)
    with pytest.raises(Refused, match="shop has no release before the live one"):
        rolled_back(app)
    assert order_of(app) == [C, B, A]
    assert last_entry(app)["kind"] == "rollback"
    deploy(app, C)
    assert_converged(app, systemd, live=C)


def rolled_back(app: App, target: str | None = None, force: bool = True) -> tuple[str, str]:
    """Roll back as an operator does; return the release that is now live and the one before it."""
    done = roll_back(app, target, edge="", force=force, takeover=False)
    return done["release"], done["from"]


def test_a_rollback_goes_to_any_release_that_has_been_live(app: App, systemd: Systemd) -> None:
    for release in (A, B, C):
        deploy(app, release)
    assert rolled_back(app, A) == (A, C)
    assert rolled_back(app, C) == (C, A)


def test_a_rollback_to_another_path_prefix_is_refused_and_a_deploy_goes_there(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    deploy(app, B, path_prefix="/shop")
    with pytest.raises(Refused, match=f"Release {A} is made for /, but the edge serves the app at /shop/"):
        rolled_back(app)
    assert (app.live(), load(app).attempt) == (B, None)
    deploy(app, C)
    assert app.live() == C


def test_a_release_that_was_never_live_is_no_target(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    with pytest.raises(Refused, match="has never been live on this host"):
        rolled_back(app, B)


def test_a_rollback_whose_gate_fails_leaves_everything_as_it_was(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    deploy(app, B)
    systemd.let_retire()
    systemd.fails_gate.add(A)
    with pytest.raises(Refused, match="failed its gate"):
        rolled_back(app)
    assert (app.live(), order_of(app), app.staged()) == (B, [A, B], [A, B])
    assert load(app).attempt is None


def test_a_rollback_to_a_retiring_release_stops_its_retirement(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    systemd.connections[A] = 5
    deploy(app, B)
    assert systemd.retiring() == {A}
    rolled_back(app)
    assert systemd.retiring() == {B}


def test_a_rollback_asks_for_migrations_unless_forced(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: Release, live: Release, _recorded: set[str]) -> None:
        raise Refused(f"The database holds migrations that release {target.id} does not know, but {live.id} does.")

    monkeypatch.setattr(deploys, "refuse_unknown", refuse)
    deploy(app, A)
    deploy(app, B)
    with pytest.raises(Refused, match=f"{A} does not know, but {B} does"):
        rolled_back(app, force=False)
    assert load(app).attempt is None
    assert rolled_back(app, force=True) == (A, B)


def test_an_interrupted_rollback_gives_the_lock_back(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(app, A)
    deploy(app, B)

    def interrupt(_release: Release) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gate, "pass_gate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rolled_back(app)
    assert app.live() == B
    assert load(app).attempt is None


def test_waiting_for_the_old_release_names_it_when_time_is_up(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(app, A)
    systemd.connections[A] = 1
    deploy(app, B)
    monkeypatch.setattr(deploys.time, "sleep", lambda _seconds: None)
    with pytest.raises(Refused, match=rf"Still running after 0 s: {A}"):
        Deploy(app, "any").wait_for_retired(0)
    systemd.let_retire()
    assert Deploy(app, "any").wait_for_retired(0) == {"changed": False}


def test_nobody_waits_for_a_celery_worker_of_the_old_release(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    deploy(app, B)
    put_jobs(app, A)
    systemd.let_retire()
    systemd.states[f"shop.celery@{A}.service"] = "deactivating"
    assert Deploy(app, "any").wait_for_retired(0) == {"changed": False}


def test_an_app_is_removed_with_all_that_is_its_own_but_its_data(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    systemd.connections[A] = 1
    deploy(app, B)
    app.state_directory.mkdir(parents=True)
    (app.policy_file.parent / "blog.json").write_text("{}")
    removed = Deploy(app, "").remove()
    assert removed == {"changed": True, "others": ["blog"]}
    assert systemd.running() == systemd.enabled() == set()
    assert not app.home.exists()
    assert not app.socket_directory.exists()
    assert not list(app.units.glob("shop@*"))
    assert app.state_directory.exists()
    assert (app.policy_file.parent / "blog.json").exists()


def test_an_app_that_is_being_deployed_is_not_removed(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    Deploy(app, "second").begin(B, "bob@desk")
    with pytest.raises(Refused, match="bob@desk is deploying shop"):
        Deploy(app, "").remove()
    assert app.live() == A


# --- After the point of no return -----------------------------------------------------------------------------------
def test_what_cannot_be_finished_is_told_and_the_release_stays_live(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(app, A)
    put_release(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "ann@laptop")
    steps.ready(B)
    steps.switch(B)

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(settle, "prune", full)
        patch.setattr(history, "record", full)
        done = steps.commit(B)
    left = f"Release {B} is live, but this is left to the next deploy or rollback: [Errno 28] No space left on device."
    assert left in done["warnings"]
    assert "The history of shop can't be written" in done["warnings"][1]
    assert steps.abort("Another host could not finish.") == {"changed": False, "live": B}
    assert (app.live(), load(app).live(), load(app).attempt) == (B, B, None)
    deploy(app, C)
    assert_converged(app, systemd, live=C)


def test_a_deploy_is_committed_only_when_it_has_the_traffic(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "ann@laptop")
    steps.ready(B)
    with pytest.raises(Refused, match="has not been switched to in this deploy"):
        steps.commit(B)
    assert load(app).live() == A


def test_the_next_try_at_a_release_that_has_the_traffic_goes_on_from_there(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    killed = Deploy(app, "killed")
    killed.begin(B, "ann@laptop")
    killed.ready(B)
    killed.switch(B)
    again = Deploy(app, "again")
    again.begin(B, "ann@laptop", takeover="any")
    assert app.live() == B, "visitors don't go back and forth"
    again.ready(B)
    assert not again.switch(B)["changed"]
    again.commit(B)
    assert previous_of(app) == A
    assert_converged(app, systemd, live=B)


# --- Celery ---------------------------------------------------------------------------------------------------------
def beats(systemd: Systemd) -> set[str]:
    """The releases whose beat runs."""
    return {
        unit.partition("@")[2].partition(".")[0]
        for unit, state in systemd.states.items()
        if ".beat@" in unit and state == "active"
    }


def put_jobs(app: App, release: str) -> None:
    """Give a release the units of a worker and a beat."""
    for kind in ("celery", "beat"):
        (app.units / f"shop.{kind}@{release}.service").touch()


def deploy_with_jobs(app: App, release: str, leader: bool = True) -> dict:
    """Deploy a release that has Celery."""
    steps = Deploy(app, release)
    steps.begin(release, "ann@laptop")
    put_release(app, release) if release not in app.staged() else None
    put_jobs(app, release)
    steps.ready(release)
    steps.switch(release)
    return steps.commit(release, leader=leader)


def test_beat_survives_a_rollback_and_is_one_at_any_time(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_pings", lambda _release: nullcontext(lambda: True))
    deploy_with_jobs(app, A)
    assert beats(systemd) == {A}
    deploy_with_jobs(app, B)
    assert beats(systemd) == {B}
    rolled_back(app)
    assert beats(systemd) == {A}
    deploy_with_jobs(app, A, leader=False)
    assert beats(systemd) == set(), "it has moved to another host"
    rolled_back(app, B)
    assert beats(systemd) == set()


def test_a_worker_that_does_not_answer_fails_the_deploy_before_any_traffic(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent: set[str] = set()
    monkeypatch.setattr(jobs, "_pings", lambda release: nullcontext(lambda: release.id not in silent))
    monkeypatch.setattr(jobs, "journal", lambda *_arguments, **_options: "Cannot connect to amqp")
    deploy_with_jobs(app, A)
    silent.add(B)
    put_release(app, B, gate_timeout=0.1)
    put_jobs(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "ann@laptop")
    with pytest.raises(Refused, match=rf"shop.celery@{B}.service does not answer"):
        steps.ready(B)
    assert app.live() == A
    steps.abort("The worker does not answer.")
    assert (beats(systemd), systemd.states[f"shop.celery@{A}.service"]) == ({A}, "active")


def test_nobody_waits_for_a_worker_that_still_ends_its_tasks(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_pings", lambda release: nullcontext(lambda: release.id != A))
    put_release(app, A)
    put_jobs(app, A)
    systemd.states[f"shop.celery@{A}.service"] = "deactivating"
    began = time.monotonic()
    jobs.start_jobs(Release(app, A), timeout=600)
    assert time.monotonic() - began < 60


@pytest.fixture
def quick(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make staging quick, without uv and manage.py, which are tested elsewhere."""

    def build(_builder: Builder) -> tuple[str, bool]:
        put_environment(app, "e1")
        return "e1", True

    def prepare(staging: Release, _order: dict) -> dict:
        static = staging.directory / "static"
        static.mkdir()
        (static / f"site.{staging.id}.css").write_text(staging.id)
        return {"findings": [], "pending": []}

    monkeypatch.setattr(Builder, "build", build)
    monkeypatch.setattr(stage, "prepare", prepare)
    monkeypatch.setattr(stage, "_compile", lambda *_: None)
    monkeypatch.setattr(stage, "sync", lambda _path: None)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def order(app: App, release: str, **changes: object) -> dict:
    """The order for a stage, as the role sends it; the bundle is a project of two files."""
    bundle = app.root / "bundle.tar"
    if not bundle.exists():
        with tarfile.open(bundle, "w") as archive:
            for name, text in (("manage.py", MANAGE_PY), ("shop/settings.py", "X = 1\n")):
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
    return {
        "release": release,
        "manifest": manifest(),
        "files": {"gunicorn.conf.py": "timeout = 30\n"},
        "units": {"service": "[Service]\n", "socket": "[Socket]\n"},
        "timers": {},
        "secrets": {"PASSWORD": "correct horse"},
        "sources": {},
        "bundle": str(bundle),
        "requirements": "requirements.txt",
        "requirements_kind": "hashed",
        "requirements_extras": [],
        "requirements_groups": [],
        "server_lock": "",
        "python": "python3",
        "uv": "/bin/false",
        "uv_environment": {},
        "python_downloads": False,
        "python_downloads_json": "",
        "python_mirror": "",
        "module": "shop.asgi:application",
        "check_fail_level": "ERROR",
        "collectstatic": True,
        "migrate": True,
        "static_url": "/static/",
        "media_url": "",
        "edge_names": [],
        "shared_paths": [],
        "writable_paths": [],
        "key": "key",
        **changes,
    }


MANAGE_PY = """
import os, pathlib, sys
command = sys.argv[1]
if os.environ.get("FAILS") == command:
    sys.exit(f"SystemCheckError in {command}: {os.environ['PASSWORD']} is short")
if command == "collectstatic":
    static = pathlib.Path(os.environ["STATIC_ROOT"])
    (static / "css").mkdir()
    (static / "css/site.0123.css").write_text("body {}")
"""


# Stands in for programs/prepare.py, which needs Django: it runs manage.py for each part.
PREPARE = """
import json, os, runpy, sys
messages = os.fdopen(int(sys.argv[1]), "w", buffering=1)
storage = {"class": "", "local": True, "manifest": False}
facts = {
    "apps": ["django.contrib.staticfiles"], "debug": False, "static_url": "/static/", "media_url": "", "databases": {},
    "static_root": os.environ["STATIC_ROOT"], "media_root": "", "static_storage": storage, "default_storage": storage,
    "channel_layers": {}, "caches": {}, "log_files": [], "allowed_hosts": ["*"], "ssl_redirect": False, "proxy_ssl_header": False,
}
print(json.dumps({"facts": facts}), file=messages)
if json.loads(sys.stdin.readline())["collect"]:
    sys.argv = ["manage.py", "collectstatic"]
    runpy.run_path("manage.py")
print(json.dumps({"collected": True}), file=messages)
sys.argv = ["manage.py", "check"]
runpy.run_path("manage.py")
print(json.dumps({"checks": []}), file=messages)
print(json.dumps({"imported": True}), file=messages)
print(json.dumps({"pending": ["shop.0002_price"]}), file=messages)
"""


def deploy_from_source(app: App, release: str, token: str) -> None:
    """Deploy as the role does, including stage; take over from a dead deploy."""
    steps = Deploy(app, token)
    steps.begin(release, "ann@laptop", takeover="any")
    steps.stage(order(app, release))
    steps.ready(release)
    steps.switch(release)
    steps.commit(release)


def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[App, Systemd]]:
    """One fresh host after another."""
    while True:
        with tempfile.TemporaryDirectory(prefix="unit", dir=MEMORY) as directory:
            app = App("shop", Path(directory))
            app.ensure_directories()
            app.units.mkdir(parents=True)
            app.policy_file.parent.mkdir(parents=True)
            yield app, Systemd(app, monkeypatch)


@pytest.mark.parametrize("then", [B, C], ids=["the-same-again", "another"])
@pytest.mark.parametrize("before", [None, A], ids=["first-deploy", "second-deploy"])
def test_killed_before_any_of_its_changes_the_next_deploy_converges(
    monkeypatch: pytest.MonkeyPatch, quick: None, before: str | None, then: str
) -> None:
    failures = []
    for number, (app, systemd) in zip(itertools.count(1), hosts(monkeypatch), strict=False):
        monkeypatch.setattr(Builder, "build", lambda _builder, app=app: (put_environment(app, "e1").name, True))
        if before:
            deploy(app, before)
            systemd.let_retire()
        killed = KILLER.run(app.root, number, lambda app=app: deploy_from_source(app, B, "killed"))
        where = f"killed before change {number}: {KILLER.changes[-1]}"
        if before:
            assert app.live() in (A, B), where
            assert systemd.states[f"shop@{app.live()}.service"] == "active", f"nothing serves when {where}"
        if not killed:
            assert_converged(app, systemd, live=B)
            break
        if app.live() == B:
            systemd.connections[B] = 7
        try:
            deploy_from_source(app, then, "next")
            assert_converged(app, systemd, live=then)
            assert set(order_of(app)) <= {A, B, then}
            assert previous_of(app) in ({before, B} if then == C else {before}), "the rollback target is right"
            changed = KILLER.run(app.root, 1000, lambda app=app: settle.settle(app, load(app))) or KILLER.changes
            assert not changed, f"settling again has changed {changed}"
        except (Refused, AssertionError, OSError) as error:
            failures.append(f"{where}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
    assert number > 40, "the killer did not see the changes"


@pytest.mark.parametrize("before", [None, A], ids=["first-deploy", "second-deploy"])
def test_an_abort_that_is_killed_is_made_good_by_the_next_deploy(
    monkeypatch: pytest.MonkeyPatch, quick: None, before: str | None
) -> None:
    failures = []
    for number, (app, systemd) in zip(itertools.count(1), hosts(monkeypatch), strict=False):
        if before:
            deploy(app, before)
            systemd.let_retire()
        put_release(app, B)
        steps = Deploy(app, "second")
        steps.begin(B, "ann@laptop")
        steps.ready(B)
        steps.switch(B)
        killed = KILLER.run(app.root, number, lambda steps=steps: steps.abort("Another host of the fleet failed."))
        where = f"abort killed before change {number}: {KILLER.changes[-1]}"
        if before:
            assert systemd.states[f"shop@{app.live()}.service"] == "active", f"nothing serves when {where}"
        if not killed:
            break
        try:
            put_release(app, C)
            deploy_taking_over(app, C)
            assert_converged(app, systemd, live=C)
        except (Refused, AssertionError, OSError) as error:
            failures.append(f"{where}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
    assert number > 8, "the killer did not see the changes"


def deploy_taking_over(app: App, release: str) -> None:
    """Deploy a release that is on disk, taking the lock from a dead deploy."""
    steps = Deploy(app, "next")
    steps.begin(release, "bob@desk", takeover="any")
    steps.ready(release)
    steps.switch(release)
    steps.commit(release)


def test_staging_makes_a_release_that_only_root_can_change(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    python_environment(app, monkeypatch)
    staged = stage.stage(app, order(app, A))
    release = Release(app, A)
    assert staged["changed"]
    assert staged["worker_count"] == 2
    assert set(staged["seconds"]) == {"unpack", "environment", "prepare", "compile"}
    assert release.secrets == {"PASSWORD": "correct horse"}
    modes = {name: stat.S_IMODE((release.directory / name).stat().st_mode) for name in ("src", "secrets", "environment")}
    assert modes == {"src": 0o750, "secrets": 0o600, "environment": 0o640}
    assert stat.S_IMODE((release.directory / "static/css/site.0123.css").stat().st_mode) == 0o644
    assert (app.static_pool / "css/site.0123.css").read_text() == "body {}"
    variables = read_environment_file((release.directory / "environment").read_text())
    assert variables["STATIC_ROOT"] == str(app.releases / A / "static")
    assert "PASSWORD" not in variables
    assert (app.units / f"shop@{A}.service").read_text() == "[Service]\n"


def python_environment(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a build create an environment with the Python that runs the tests."""

    def build(_builder: Builder) -> tuple[str, bool]:
        return put_environment(app, "e1").name, True

    monkeypatch.setattr(Builder, "build", build)
    monkeypatch.setattr(releases, "text_of", lambda _name: PREPARE)
    monkeypatch.setattr("os.geteuid", os.getuid) if os.getuid() else None
    monkeypatch.setattr("os.getegid", lambda: os.getgid() if os.getuid() else 1000)


def test_placeholders_lead_into_the_staging_directory_and_then_into_the_release(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_environment(app, monkeypatch)
    seen = {}

    def prepare(staging: Release, given: dict) -> list[str]:
        seen.update(staging.process_settings()["env"])
        return prepare_project(staging, given)

    monkeypatch.setattr(stage, "prepare", prepare)
    text = "{source}|{static_root}|{state}|{release}|{{source}} \\$ {}"
    given = {"manifest": manifest(env={"PLAIN": text}), "secrets": {"PASSWORD": "correct horse", "SECRET": text}}
    stage.stage(app, order(app, A, **given))

    def expected(directory: Path) -> str:
        return f"{directory}/src|{directory}/static|{app.state_directory}|{A}|{{source}} \\$ {{}}"

    assert seen["PLAIN"] == seen["SECRET"] == expected(app.releases / f".{A}")
    release = Release(app, A)
    env = release.process_settings()["env"]
    assert env["PLAIN"] == env["SECRET"] == expected(release.directory)
    assert read_environment_file((release.directory / "environment").read_text())["PLAIN"] == expected(release.directory)
    assert stat.S_IMODE((release.directory / "secrets").stat().st_mode) == 0o600


def test_a_release_counts_as_complete_only_when_it_is_on_the_disk(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_environment(app, monkeypatch)
    seen = []

    def sync(path: Path) -> None:
        seen.append((path.name, (app.releases / A).exists(), (app.units / f"shop@{A}.service").exists()))

    monkeypatch.setattr(stage, "sync", sync)
    stage.stage(app, order(app, A))
    assert seen == [(f".{A}", False, False)]


def test_staging_again_does_nothing(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    python_environment(app, monkeypatch)
    stage.stage(app, order(app, A))
    inode = (app.releases / A).stat().st_ino
    assert not stage.stage(app, order(app, A))["changed"]
    assert (app.releases / A).stat().st_ino == inode


def test_a_live_release_without_its_python_is_staged_again_and_serves_meanwhile(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_environment(app, monkeypatch)
    stage.stage(app, order(app, A))
    deploy(app, A)
    python = app.environments / "e1/bin/python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.0")
    there = []
    compile_ = stage._compile
    monkeypatch.setattr(stage, "_compile", lambda staging: there.append((app.live_link / "src").is_dir()) or compile_(staging))
    assert stage.stage(app, order(app, A))["changed"]
    assert there == [True]
    assert stage.is_complete(Release(app, A))
    assert [path.name for path in app.releases.iterdir()] == [A]


def test_a_link_that_the_app_has_planted_is_not_written_through(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    python_environment(app, monkeypatch)
    target = app.root / "target"
    links = f"""
    (static / "big.css").write_text("body {{}} " * 1000)
    (static / "big.css.gz").symlink_to({str(target)!r})
    (static / "link.css").symlink_to("/etc/passwd")
"""
    bundle = order(app, A)["bundle"]
    with tarfile.open(bundle, "w") as archive:
        text = (MANAGE_PY + links).encode()
        entry = tarfile.TarInfo("manage.py")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    stage.stage(app, order(app, A, bundle=bundle))
    assert not target.exists()
    assert not (app.static_pool / "link.css").exists()
    assert (app.static_pool / "big.css").exists()


def test_what_a_stage_has_left_half_made_is_made_anew(app: App, systemd: Systemd, quick: None) -> None:
    (app.releases / f".{A}" / "src").mkdir(parents=True)
    (app.releases / A).mkdir()
    (app.releases / A / "junk").touch()
    assert stage.stage(app, order(app, A))["changed"]
    assert sorted(path.name for path in (app.releases / A / "src").iterdir()) == ["manage.py", "shop"]
    assert [path.name for path in app.releases.iterdir()] == [A]


def test_units_of_a_release_that_is_gone_are_taken_away_by_the_next_deploy(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    for kind in ("service", "socket"):
        (app.units / f"shop@{B}.{kind}").touch()
    deploy(app, C)
    assert_converged(app, systemd, live=C)


def test_files_of_killed_writes_are_taken_away_and_another_apps_are_not(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    mine = [app.home / ".live.41", app.units / f".shop@{B}.service.42", app.units / f".shop.celery@{B}.service.43"]
    other = app.units / f".shop-2@{B}.service.44"
    for file in (*mine, other):
        file.touch()
    deploy(app, B)
    assert [file for file in (*mine, other) if file.exists()] == [other]
    mine[1].touch()
    Deploy(app, "").remove()
    assert [path.name for path in app.units.glob(".*")] == [other.name]


@pytest.mark.parametrize("command", ["check", "collectstatic"])
def test_a_failed_manage_py_tells_its_last_lines_without_secrets(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    python_environment(app, monkeypatch)
    with pytest.raises(Refused) as refused:
        stage.stage(app, order(app, A, manifest=manifest(env={"FAILS": command})))
    assert command in str(refused.value)
    assert refused.value.details == f"SystemCheckError in {command}: ******** is short"
    assert app.staged() == []


def test_static_files_are_collected_only_where_asked_for(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    python_environment(app, monkeypatch)
    stage.stage(app, order(app, A, collectstatic=False))
    assert list((app.releases / A / "static").iterdir()) == []


def test_a_full_disk_is_a_sentence_and_the_next_deploy_works(
    app: App, systemd: Systemd, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(app, A)
    steps = Deploy(app, "second")
    steps.begin(B, "ann@laptop")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "prepare", full)
        with pytest.raises(Refused, match=f"Release {B} can't be staged on this host: .*No space left on device"):
            steps.stage(order(app, B))
    steps.abort("The disk is full.")
    assert (app.live(), app.staged(), list(app.releases.glob(".*"))) == (A, [A], [])
    deploy_from_source(app, B, "third")
    assert_converged(app, systemd, live=B)


def test_a_bundle_that_is_no_archive_is_refused(app: App, systemd: Systemd, quick: None) -> None:
    (app.root / "broken.tar").write_bytes(b"no tar")
    with pytest.raises(Refused, match=f"Release {A} can't be unpacked") as refused:
        stage.stage(app, order(app, A, bundle=str(app.root / "broken.tar")))
    assert "tar" in refused.value.details


def test_auto_workers_become_a_number_in_the_manifest(app: App, systemd: Systemd, quick: None) -> None:
    stage.stage(app, order(app, A, manifest=manifest(workers="auto")))
    chosen = json.loads((app.releases / A / "release.json").read_text())
    assert isinstance(chosen["worker_count"], int)
    assert chosen["worker_count_why"]


def keep(app: App, releases: int) -> None:
    """Set the host's policy."""
    app.policy_file.write_text(json.dumps({"keep_releases": releases}))


def test_an_installed_python_goes_with_the_last_environment_that_uses_it(app: App, systemd: Systemd) -> None:
    for name in ("used", "unused"):
        (app.pythons / name / "cpython/bin").mkdir(parents=True)
        (app.pythons / name / "cpython/bin/python3").touch()
    put_release(app, A)
    program = app.environments / "e1/bin/python"
    program.unlink()
    program.symlink_to(app.pythons / "used/cpython/bin/python3")
    stage.prune(app, load(app), protected={A})
    assert [python.name for python in app.pythons.iterdir()] == ["used"]
    put_environment(app, "newer")
    stage.prune(app, load(app), protected=set())
    assert list(app.pythons.iterdir()) == []


def test_the_environment_of_a_deploy_that_failed_is_there_for_the_next_try(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    for environment in ("first-try", "second-try"):
        steps = Deploy(app, environment)
        steps.begin(B, "ann@laptop")
        put_release(app, B, environment=environment)
        steps.abort("The gate failed.")
        assert {path.name for path in app.environments.iterdir()} == {"e1", environment}


def test_old_releases_are_pruned_with_the_environments_that_nothing_uses(app: App, systemd: Systemd) -> None:
    keep(app, 2)
    deploy(app, A, environment="old")
    systemd.let_retire()
    deploy(app, B)
    systemd.let_retire()
    assert deploy(app, C)["pruned"] == [A]
    assert app.staged() == [B, C]
    assert {path.name for path in app.environments.iterdir()} == {"e1"}
    assert not list(app.units.glob(f"shop@{A}*"))
    assert {path.name for path in app.static_pool.iterdir()} == {f"site.{B}.css", f"site.{C}.css"}


def test_a_release_that_still_serves_connections_is_not_pruned(app: App, systemd: Systemd) -> None:
    keep(app, 2)
    deploy(app, A)
    systemd.connections[A] = 1
    deploy(app, B)
    assert deploy(app, C)["pruned"] == []
    assert A in app.staged()
    systemd.let_retire()
    assert app.staged() == [B, C], "the end of its retirement is the end of its files"
    assert deploy(app, D)["pruned"] == [B]


def test_live_and_previous_are_kept_even_when_they_are_old(app: App, systemd: Systemd) -> None:
    for release in (A, B, C, D):
        deploy(app, release)
        systemd.let_retire()
    rolled_back(app, B)
    systemd.let_retire()
    keep(app, 2)
    assert settle.settle(app, load(app))["pruned"] == [A]
    assert app.staged() == [B, C, D], "C is where a rollback goes, though D was live after it"
    assert previous_of(app) == C


def test_the_pool_holds_the_static_files_of_every_release(app: App, systemd: Systemd) -> None:
    put_release(app, A, static={"css/site.1.css": "1", "both.js": "same"})
    put_release(app, B, static={"css/site.2.css": "2", "both.js": "same"})
    files = {str(path.relative_to(app.static_pool)) for path in app.static_pool.rglob("*") if path.is_file()}
    assert files == {"css/site.1.css", "css/site.2.css", "both.js"}
    assert (app.static_pool / "css/site.1.css").samefile(app.releases / A / "static/css/site.1.css")


def test_a_release_that_goes_takes_only_its_own_files_out_of_the_pool(app: App, systemd: Systemd) -> None:
    deploy(app, A, static={"css/site.1.css": "1", "both.js": "same"})
    put_release(app, B, static={"css/site.2.css": "2", "both.js": "same"})
    assert settle.settle(app, load(app))["pruned"] == [B]
    files = {str(path.relative_to(app.static_pool)) for path in app.static_pool.rglob("*") if path.is_file()}
    assert files == {"css/site.1.css", "both.js"}


def test_an_instance_that_does_not_serve_in_time_is_refused(app: App, systemd: Systemd) -> None:
    put_release(app, A)
    systemd.hangs.add(A)
    began = time.monotonic()
    with pytest.raises(Refused, match=rf"shop@{A}.service did not serve within 0.1 s") as refused:
        Instance(app, A).start(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 120, "it gives up"
    assert refused.value.details == "the last line of the journal"


def test_a_commit_asks_systemd_as_often_with_many_kept_releases_as_with_few(app: App, systemd: Systemd) -> None:
    app.policy_file.write_text(json.dumps({"keep_releases": 20}))
    asked = []
    ask = systemd.systemctl

    def count(*arguments: str, check: bool = True) -> str:
        asked.append(arguments)
        return ask(*arguments, check=check)

    counts = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (systemd_of_app, jobs, settle, deploys):
            patch.setattr(module, "systemctl", count)
        for number in range(20):
            asked.clear()
            deploy(app, f"{number:012x}")
            counts.append(len(asked))
            systemd.let_retire()
    assert len(app.staged()) == 20
    assert counts[-1] == counts[2], asked
