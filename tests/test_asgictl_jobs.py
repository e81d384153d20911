"""What runs beside the web service: processes on all hosts or on one, and timers of the live release."""

import json
from contextlib import nullcontext

import pytest
from asgictl import cli, jobs
from asgictl.app import App
from asgictl.deploy import Deploy, roll_back
from asgictl.errors import Refused
from asgictl.metrics import metrics
from asgictl.release import Release
from asgictl.status import status
from asgictl.text import render
from fake_host import A, B, Systemd, put_release

JOBS = {"mailer-1": "all", "mailer-2": "all", "bot": "one", "tidy": "timer"}
# As a template may leave it: without a line's end.
TIMER = "[Timer]\nOnCalendar=daily\n# the end"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait until a process is steady."""
    monkeypatch.setattr(jobs, "STEADY_SECONDS", -1)


def put(app: App, release: str, **changes: object) -> None:
    """Put a release with all kinds of jobs on disk."""
    put_release(app, release, jobs=JOBS, **changes)
    for name in JOBS:
        (app.units / f"shop.{name}@{release}.service").write_text("[Service]\n")
    (Release(app, release).directory / "timers.json").write_text(json.dumps({"tidy": TIMER}))


def deploy(app: App, release: str, leader: bool = True) -> None:
    """Deploy that release."""
    steps = Deploy(app, release)
    steps.begin(release, "ann@laptop")
    if release not in app.staged():
        put(app, release)
    steps.ready(release)
    steps.switch(release)
    steps.commit(release, leader=leader)


def up(systemd: Systemd, name: str) -> set[str]:
    """The releases whose job of this name runs."""
    units = [unit for unit, state in systemd.states.items() if unit.startswith(f"shop.{name}@") and state == "active"]
    return {unit.partition("@")[2].partition(".")[0] for unit in units}


def test_processes_on_all_hosts_start_before_the_cut_over_and_stop_after_it(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put(app, B)
    steps = Deploy(app, "second")
    steps.begin(B, "ann@laptop")
    steps.ready(B)
    assert up(systemd, "mailer-1") == up(systemd, "mailer-2") == {A, B}
    assert up(systemd, "bot") == {A}, "there may be only one"
    steps.switch(B)
    steps.commit(B, leader=True)
    assert up(systemd, "mailer-1") == up(systemd, "bot") == {B}
    wanted = {link.name for link in (app.units / "multi-user.target.wants").iterdir()}
    assert wanted >= {f"shop.mailer-1@{B}.service", f"shop.mailer-2@{B}.service"}
    assert f"shop.mailer-1@{A}.service" not in wanted


def test_a_process_that_does_not_stay_up_fails_the_deploy_before_any_traffic(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "journal", lambda *_arguments, **_options: "the password is correct horse")
    monkeypatch.setattr(jobs, "STEADY_SECONDS", 60)
    systemd.restarts[f"shop.mailer-2@{A}.service"] = 1
    put(app, A)
    steps = Deploy(app, "first")
    steps.begin(A, "ann@laptop")
    with pytest.raises(Refused, match=rf"shop.mailer-[12]@{A}.service does not stay up") as refused:
        monkeypatch.setattr(jobs, "_is_steady", lambda _instance, unit, _began: "mailer-1" in unit)
        steps.ready(A)
    assert refused.value.details == "the password is ********"
    assert app.live() is None


def test_a_timer_runs_the_command_of_the_live_release(app: App, systemd: Systemd) -> None:
    timer = app.units / "shop.tidy.timer"
    deploy(app, A)
    assert timer.read_text() == f"{TIMER}\nUnit=shop.tidy@{A}.service\n"
    assert systemd.states["shop.tidy.timer"] == "active"
    deploy(app, B)
    assert f"Unit=shop.tidy@{B}.service" in timer.read_text()
    roll_back(app, None, edge="", force=True, takeover=False)
    assert f"Unit=shop.tidy@{A}.service" in timer.read_text()
    deploy(app, A, leader=False)
    assert not timer.exists(), "another host leads the fleet"
    assert "shop.tidy.timer" not in systemd.states


def test_a_removed_app_has_no_timer(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    Deploy(app, "").remove()
    assert not [*app.units.glob("shop*"), *(app.root / "run").rglob("shop*")]


def test_a_command_of_a_timer_may_end_in_a_release_that_retires(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    systemd.states[f"shop.tidy@{A}.service"] = "activating"
    systemd.connections[A] = 1
    deploy(app, B)
    systemd.let_retire()
    assert systemd.states[f"shop.tidy@{A}.service"] == "activating"
    assert A in app.staged()


def test_the_end_of_a_timers_command_is_remembered_and_told(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(app, A)
    assert "timer      tidy            next Sat 2026-11-28 00:00:00 UTC\n" in render("status", status(app, quick=True))
    monkeypatch.setenv("SERVICE_RESULT", "success")
    assert jobs.note_end(app, "tidy") == "tidy ended with success."
    assert 'asgi_timer_last_success{app="shop",timer="tidy"} 1' in metrics([app])
    deploy(app, B)
    monkeypatch.setenv("SERVICE_RESULT", "timeout")
    jobs.note_end(app, "tidy")
    told = status(app, quick=True)
    assert any(problem.startswith("The timer tidy ended with timeout at 20") for problem in told["problems"])
    assert ", last timeout at 20" in render("status", told)
    assert 'asgi_timer_last_success{app="shop",timer="tidy"} 0' in metrics([app])


def test_a_calendar_that_systemd_does_not_understand_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    program = tmp_path / "systemd-analyze"
    program.write_text('#!/bin/sh\n[ "$3" = daily ] || { echo "Failed to parse" >&2; exit 1; }\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    jobs.require_calendars({"tidy": TIMER})
    with pytest.raises(Refused, match="django_asgi_timers: tidy: calendar is daly, which systemd does not understand"):
        jobs.require_calendars({"tidy": TIMER.replace("daily", "daly")})


def test_a_release_of_an_older_asgictl_keeps_its_worker_and_beat(app: App, systemd: Systemd) -> None:
    put_release(app, A)
    for name in ("celery", "beat"):
        (app.units / f"shop-{name}@{A}.service").touch()
    instance = jobs.Instance(app, A)
    assert instance.jobs_on("all") == [f"shop-celery@{A}.service"]
    assert instance.jobs_on("one") == [f"shop-beat@{A}.service"]


def test_run_starts_a_program_of_the_environment(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(app, A)
    executed = []
    monkeypatch.setattr(cli.os, "execve", lambda program, command, _variables: executed.append(command))
    monkeypatch.setattr(cli.os, "chdir", lambda _path: None)
    cli.run_as_app(Release(app, A), Release(app, A).command("celery", "inspect"), [])
    cli.run_as_app(Release(app, A), Release(app, A).command("/bin/true"), [])
    assert executed == [[str(app.releases / A / "venv/bin/celery"), "inspect"], ["/bin/true"]]


def test_a_worker_whose_broker_cannot_be_asked_only_has_to_stay_up(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_pings", lambda _release: nullcontext(lambda: False))
    release = put_release(app, A, jobs={"celery": "all"}, celery_ping=False)
    (app.units / f"shop.celery@{A}.service").write_text("[Service]\n")
    jobs.start_jobs(release, timeout=60)
    assert up(systemd, "celery") == {A}


CELERY = """
class Control:
    tries = 0
    def ping(self, destination, timeout):
        Control.tries += 1
        if Control.tries == 1:
            raise ConnectionRefusedError("no broker")
        return [{destination[0]: {"ok": "pong"}}] if Control.tries == 3 else []
class App:
    control = Control()
def find_app(name):
    import config
    assert name == "config"
    return App()
"""


def test_a_worker_is_pinged_until_it_answers_with_one_start_of_the_app(
    app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = put_release(app, A, jobs={"celery": "all"}, celery_app="config")
    (app.units / f"shop.celery@{A}.service").write_text("[Service]\n")
    source = release.directory / "src"
    for name, text in {
        "celery/__init__.py": "",
        "celery/app/__init__.py": "",
        "celery/app/utils.py": CELERY,
        "config.py": "",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    app.state_directory.mkdir(parents=True)
    waited = []
    monkeypatch.setattr(jobs.time, "sleep", waited.append)
    jobs.start_jobs(release, timeout=600)
    assert waited, "the first answers were not those of the worker"
