"""asgictl's command line, for operators and for the role."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from asgictl import cli, gate, status
from asgictl import status as status_of_app
from asgictl.app import App, installed_apps
from asgictl.deploy import Deploy
from asgictl.facts import host_facts
from asgictl.migrations import Migrations
from asgictl.plan import plan
from asgictl.release import Release, environment_file
from asgictl.text import duration
from fake_host import A, B, C, Systemd, deploy, manifest, put_release

OPERATOR_COMMANDS = ("status", "releases", "inspect", "rollback", "logs", "maintenance", "manage", "run", "metrics")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """Run asgictl on the host in the directory; return its exit code, its output and its errors."""
    monkeypatch.setattr(cli, "App", lambda name: App(name, app.root))
    monkeypatch.setattr(cli, "installed_apps", lambda: installed_apps(app.root))
    monkeypatch.setattr(cli, "watch_caller", lambda: None)

    def asgictl(*arguments: str, stdin: object = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asgictl", *arguments])
        request = json.dumps(stdin).encode()
        with (app.root / "request").open("wb+") as file:
            file.write(b"%d\n%s" % (len(request), request))
            file.seek(0)
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            try:
                code = cli.main()
            except SystemExit as end:
                code = end.code
        output = capsys.readouterr()
        return code, output.out, output.err

    return asgictl


@pytest.fixture
def workers() -> Iterator[int]:
    """The process id of a master with two workers."""
    script = "sleep 60 & sleep 60 & echo; wait"
    master = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    master.stdout.readline()
    yield master.pid
    os.killpg(master.pid, 9)
    master.wait()
    master.stdout.close()


def test_help_tells_every_operator_command_and_no_other(run: Run) -> None:
    code, output, _ = run("--help")
    assert code == 0
    commands = re.findall(r"^    (\w+)", output, re.MULTILINE)
    assert sorted(set(commands)) == sorted(OPERATOR_COMMANDS)
    assert "examples:" in output


@pytest.mark.parametrize("command", OPERATOR_COMMANDS)
def test_each_operator_command_has_a_help_of_its_own(run: Run, command: str) -> None:
    code, output, _ = run(command, "--help")
    assert code == 0
    assert f"asgictl {command}" in output


def test_the_only_app_need_not_be_named(run: Run, systemd: Systemd) -> None:
    code, output, _ = run("status")
    assert code == 0
    assert re.search(r"^app +shop$", output, re.MULTILINE)


def test_an_unknown_app_is_refused_with_those_that_are_there(run: Run) -> None:
    code, output, errors = run("--app", "blog", "status")
    assert (code, output) == (1, "")
    assert errors == "asgictl: This host has no app blog; it has shop.\n"


def test_several_apps_want_a_name(app: App, run: Run, systemd: Systemd) -> None:
    (app.policy_file.parent / "blog.json").write_text("{}")
    code, _, errors = run("status")
    assert code == 1
    assert errors == "asgictl: This host has several apps (blog, shop); choose one with --app.\n"
    assert run("--app", "shop", "status")[0] == 0


def test_a_host_without_apps_says_so(app: App, run: Run) -> None:
    app.policy_file.unlink()
    assert run("status")[2] == "asgictl: This host has no app yet; run playbooks/deploy.yml.\n"


def test_a_wrong_command_line_is_exit_code_2(run: Run) -> None:
    assert run("restart")[0] == 2
    assert run()[0] == 2


def test_what_was_refused_is_one_sentence_on_stderr(app: App, run: Run, systemd: Systemd) -> None:
    deploy(app, A)
    code, output, errors = run("rollback")
    assert (code, output) == (1, "")
    assert errors == "asgictl: shop has no release before the live one on this host; " \
        "'asgictl releases' lists what it has.\n"  # fmt: skip


def test_what_was_refused_is_json_where_asked_for(app: App, run: Run, systemd: Systemd) -> None:
    code, output, errors = run("--json", "rollback")
    assert (code, errors) == (1, "")
    answer = json.loads(output)
    assert answer["failed"]
    assert "no release before the live one" in answer["msg"]


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch) -> Migrations:
    """The migrations of the live release and its database; nothing is pending unless a test changes that."""
    known = Migrations([], [])
    monkeypatch.setattr(status_of_app, "migrations_of", lambda _release: known)
    return known


def test_status_names_pending_migrations_unless_it_shall_be_quick(busy: App, run: Run, database: Migrations) -> None:
    database.pending.append("shop.0002_price")
    assert "Migrations are pending: shop.0002_price." in run("status")[1]
    assert "pending" not in run("status", "--quick")[1]


def test_missing_rights_are_told(app: App, run: Run, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> dict:
        raise PermissionError(13, "Permission denied", "/opt/shop")

    monkeypatch.setattr(cli, "status", forbidden)
    code, _, errors = run("status")
    assert code == 1
    assert "Permission denied: '/opt/shop'. Run it as root: sudo asgictl" in errors


@pytest.fixture
def busy(app: App, systemd: Systemd, workers: int) -> App:
    """An app with a live, a retiring and a kept release, two workers, and a deploy that is under way."""
    for release in (C, A):
        deploy(app, release, source={"address": "https://example.org/shop.git", "version": f"v1 {release}"})
        systemd.let_retire()
    systemd.connections.update({A: 12, B: 4})
    deploy(app, B, source={"address": "/home/me/shop", "version": "HEAD"})
    systemd.main_pid[f"shop@{B}.service"] = workers
    return app


def test_status_tells_live_previous_retiring_workers_and_history(busy: App, run: Run) -> None:
    code, output, _ = run("status")
    assert code == 0
    lines = output.splitlines()
    assert lines[0].split() == ["app", "shop"]
    assert f"live       {B}  active, 4 connections, from /home/me/shop HEAD" in lines
    assert f"previous   {A}" in lines
    assert f"retiring   {A}  active, 12 connections, from https://example.org/shop.git v1 {A}" in lines
    assert len([line for line in lines if re.fullmatch(r" +worker \d+ +\d+ MiB  up \d+ s", line)]) == 2
    told = [line for line in lines if line.startswith("history")]
    assert len(told) == 3
    assert re.search(rf"deploy {B} succeeded in [\d.]+ s by ann@laptop$", told[-1])
    assert lines[-1] == "problems   none"


def test_status_names_what_is_wrong(busy: App, run: Run, systemd: Systemd) -> None:
    systemd.main_pid.clear()
    assert "PROBLEM    Only 0 of 2 workers of the live release run: 'asgictl logs' shows why." in run("status")[1]
    systemd.states[f"shop@{B}.service"] = "failed"
    assert f"PROBLEM    The live release {B} is failed" in run("status")[1]


def test_status_tells_of_a_live_link_to_nowhere(busy: App) -> None:
    (busy.releases / B).rename(busy.releases / "aside")
    assert any("which is not on disk: deploy or roll back" in problem for problem in status.problems(busy))


def test_status_before_the_first_deploy_says_what_to_do(run: Run, systemd: Systemd) -> None:
    assert "PROBLEM    Nothing is live yet: run playbooks/deploy.yml." in run("status")[1]


def test_status_tells_of_a_deploy_that_is_under_way_and_of_one_that_takes_too_long(
    busy: App, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Deploy(busy, "next").begin(C, "bob@desk")
    assert f"deploying  {C} by bob@desk, step begin" in run("status")[1]
    monkeypatch.setattr(status, "LONG_DEPLOY_SECONDS", -1)
    assert "PROBLEM    bob@desk has been deploying for over an hour" in run("status")[1]


def test_status_warns_of_a_full_disk(busy: App, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "free_space", lambda _app: (1 << 30) - 1)
    assert "Less than 1 GiB is free" in run("status")[1]


def test_status_holds_a_failed_deploys_reason(busy: App, run: Run) -> None:
    steps = Deploy(busy, "next")
    steps.begin(C, "bob@desk")
    steps.abort("The gate said no.")
    assert re.search(rf"history .* deploy {C} failed in [\d.]+ s by bob@desk: The gate said no\.", run("status")[1])


def test_status_as_json_is_the_same_facts(busy: App, run: Run) -> None:
    facts = json.loads(run("--json", "status")[1])
    assert facts["live"]["release"] == B
    assert [one["release"] for one in facts["retiring"]] == [A]
    assert facts["problems"] == []


def test_releases_are_listed_oldest_deploy_first_with_what_they_are(busy: App, run: Run) -> None:
    code, output, _ = run("releases")
    assert code == 0
    assert [line.split()[:2] for line in output.splitlines()] == [
        [C, "2026-11-20T10:00:00Z"],
        [A, "previous"],
        [B, "live"],
    ]


def test_what_was_found_of_the_project_is_shown(busy: App, run: Run) -> None:
    facts = {
        "django": "5.2",
        "debug": False,
        "apps": ["shop"],
        "databases": {"default": {"engine": "sqlite3", "file": "", "pool": True}},
    }
    (busy.releases / B / "project.json").write_text(json.dumps({"facts": facts, "findings": ["DEBUG is on."]}))
    assert run("inspect")[1].splitlines() == [
        f"release           {B}",
        "django            5.2",
        "debug             no",
        "apps              shop",
        "databases         default engine sqlite3, pool yes",
        "finding           DEBUG is on.",
    ]
    code, _, errors = run("inspect", A)
    assert (code, errors) == (
        1,
        f"asgictl: Release {A} has no report on its project: an older asgictl staged it. Deploy it again.\n",
    )


def test_no_releases_is_a_sentence(run: Run, systemd: Systemd) -> None:
    assert run("releases")[1] == "no release has been deployed yet\n"


def test_rollback_goes_back_and_says_so(busy: App, run: Run) -> None:
    code, output, _ = run("rollback", "--force")
    assert code == 0
    assert re.fullmatch(rf"release {A} is live again \(before: {B}\), after [\d.]+ s\n", output)


def test_rollback_takes_the_beginning_of_an_id_and_an_edge(busy: App, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(gate, "require_edge", lambda release, edge: asked.append(edge))
    monkeypatch.setattr(gate, "wait_for_edge", lambda *_arguments, **_options: 0.0)
    code, _, errors = run("rollback", "ccc", "--force", "--edge", "http://127.0.0.1")
    assert (code, errors) == (0, "")
    assert (busy.live(), asked) == (C, ["http://127.0.0.1"])


def test_rollback_during_a_deploy_says_how_to_take_over(busy: App, run: Run) -> None:
    Deploy(busy, "next").begin(A, "bob@desk")
    code, _, errors = run("rollback", "--force")
    assert code == 1
    assert "bob@desk has been deploying shop" in errors
    assert run("rollback", "--force", "--take-over")[0] == 0


@pytest.mark.parametrize("arguments", [["-f"], ["--lines=5", "-f"], ["--since", "-1h"]])
def test_logs_hands_its_arguments_to_journalctl(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    executed = []
    monkeypatch.setattr(os, "execvp", lambda program, command: executed.append(command))
    monkeypatch.setattr(cli, "run_as_app", lambda *_: "")
    run("--app", "shop", "logs", *arguments)
    assert executed[0] == ["journalctl", "--unit=shop@*", "--unit=shop.*", *arguments]


def test_manage_runs_in_the_live_releases_environment(busy: App, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = []
    monkeypatch.setattr(os, "execve", lambda program, command, variables: executed.append((command, variables)))
    monkeypatch.setattr(os, "chdir", lambda path: executed.append(path))
    run("manage", "shell", "-c", "print(1)", "--", "--help")
    directory, (command, variables) = executed
    assert directory == busy.releases / B / "src"
    assert command == [
        str(busy.releases / B / "venv/bin/python"),
        "manage.py",
        "shell",
        "-c",
        "print(1)",
        "--",
        "--help",
    ]
    assert (variables["APP_RELEASE"], variables["PASSWORD"]) == (B, "correct horse")


def test_manage_passes_on_the_variables_that_are_named_and_no_other(busy: App, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = []
    monkeypatch.setattr(os, "execve", lambda _program, _command, variables: executed.append(variables))
    monkeypatch.setattr(os, "chdir", lambda _path: None)
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "battery staple")
    run("--env", "DJANGO_SUPERUSER_PASSWORD", "manage", "createsuperuser", "--noinput")
    run("manage", "createsuperuser", "--noinput")
    assert [variables.get("DJANGO_SUPERUSER_PASSWORD") for variables in executed] == ["battery staple", None]
    assert "NOT_THERE is not set here" in run("--env", "NOT_THERE", "manage", "check")[2]


@pytest.mark.parametrize(("terminal", "own"), [(True, ["--pty"]), (False, [])])
def test_manage_leaves_root_and_its_terminal(
    busy: App, run: Run, monkeypatch: pytest.MonkeyPatch, terminal: bool, own: list[str]
) -> None:
    executed = []
    monkeypatch.setattr(os, "execve", lambda program, command, variables: executed.append(command))
    monkeypatch.setattr(os, "chdir", lambda path: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "isatty", lambda descriptor: terminal)
    run("manage", "shell")
    python = str(busy.releases / B / "venv/bin/python")
    assert executed == [["/usr/sbin/runuser", "--user=shop", *own, "--", python, "manage.py", "shell"]]


def test_manage_before_the_first_deploy_is_refused(run: Run, systemd: Systemd) -> None:
    code, _, errors = run("manage", "check")
    assert code == 1
    assert errors == "asgictl: shop has no live release on this host yet; run playbooks/deploy.yml.\n"


def test_call_answers_json_on_one_line(app: App, run: Run, systemd: Systemd) -> None:
    code, output, _ = run("--app", "shop", "call", stdin={"do": "begin", "token": "t", "release": A, "owner": "ann"})
    assert code == 0
    assert json.loads(output) == {"changed": False, "taken_over": False, "staged": False}
    assert output.count("\n") == 1


def test_call_of_what_is_refused_is_json_with_facts(app: App, run: Run, systemd: Systemd) -> None:
    begin = {"do": "begin", "release": A, "owner": "ann"}
    run("--app", "shop", "call", stdin=begin | {"token": "one"})
    code, output, errors = run("--app", "shop", "call", stdin=begin | {"token": "two"})
    answer = json.loads(output)
    assert (code, errors) == (1, "")
    assert answer["failed"]
    assert answer["locked"]["token"] == "one"


def test_call_of_status_has_the_text_too(busy: App, run: Run) -> None:
    answer = json.loads(run("--app", "shop", "call", stdin={"do": "status"})[1])
    assert not answer["changed"]
    assert answer["text"].startswith("app        shop")


def test_a_whole_deploy_by_calls(app: App, run: Run, systemd: Systemd) -> None:
    put_release(app, A)
    steps = [{"do": "begin", "owner": "ann"}, {"do": "ready"}, {"do": "switch"}, {"do": "commit"}]
    for step in steps:
        assert run("--app", "shop", "call", stdin=step | {"token": "t", "release": A})[0] == 0
        if step["do"] == "begin":
            put_release(app, A) if A not in app.staged() else None
    assert app.live() == A


def test_facts_are_what_a_deploy_decides_by(busy: App) -> None:
    facts = host_facts(busy)
    assert (facts["live"], facts["previous"], facts["serves"], facts["order"]) == (B, A, True, [C, A, B])
    assert re.fullmatch("[0-9a-f]{32}", facts["key"])
    assert host_facts(busy)["key"] == facts["key"]
    assert busy.key_file.stat().st_mode & 0o777 == 0o600


def test_facts_make_no_key_where_not_asked_to(app: App, systemd: Systemd) -> None:
    host_facts(app, make_key=False)
    assert not app.key_file.exists()


def test_a_host_whose_live_release_is_down_does_not_serve(busy: App, systemd: Systemd) -> None:
    systemd.states[f"shop@{B}.service"] = "failed"
    assert not host_facts(busy)["serves"]


def test_a_host_whose_upgrade_took_the_python_away_has_something_to_do(busy: App, systemd: Systemd) -> None:
    python = busy.releases / B / "venv/bin/python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.0")
    assert not host_facts(busy)["serves"]


def test_an_unfinished_deploy_is_not_taken_for_one_with_nothing_to_do(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    put_release(app, B)
    steps = Deploy(app, "killed")
    steps.begin(B, "ann@laptop")
    steps.ready(B)
    steps.switch(B)
    assert not host_facts(app)["serves"], "the old release would never retire"


def plan_order(**changes: object) -> dict:
    """The request for a plan, as the role sends it."""
    return {
        "release": B,
        "manifest": manifest(),
        "files": {"gunicorn.conf.py": "timeout = 30\n"},
        "units": {"socket": "[Socket]\n", "service": "[Service]\n"},
        "timers": {},
        "secrets": {"PASSWORD": "correct horse"},
        "sources": {"manage.py": "0123456789abcdef"},
        "requirements_kind": "hashed",
        "requirements_text": "django==5.2.8 \\\n    --hash=sha256:00\n",
        "server_lock": "",
        **changes,
    }


def test_a_plan_shows_what_would_change_and_no_secret(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    changed = plan_order(
        manifest=manifest(env={"COLOUR": "red"}, workers=4),
        secrets={"PASSWORD": "another horse", "TOKEN": "hidden"},
        sources={"manage.py": "fedcba9876543210"},
        requirements_text="django==5.2.9 --hash=sha256:00\n",
        files={"gunicorn.conf.py": "timeout = 60\n"},
        units={"socket": "[Socket]\n", "service": "[Service]\nNice=5\n", "celery": "[Service]\n"},
        timers={"tidy": "OnCalendar=daily\n"},
    )
    planned = plan(app, changed)
    lines = planned["diff"]["prepared"].splitlines()
    assert planned["changed"]
    for line in (
        "-package django 5.2.8", "+package django 5.2.9", "-variable COLOUR=blue", "+variable COLOUR=red",
        "+secret TOKEN", "+setting workers=4", "+file manage.py fedcba987654", "+gunicorn.conf.py: timeout = 60",
        "+secret PASSWORD (another value)", "+unit service: Nice=5", "+unit celery: [Service]",
        "+timer tidy: OnCalendar=daily",
    ):  # fmt: skip
        assert line in lines
    assert "horse" not in planned["diff"]["prepared"]
    assert "hidden" not in planned["diff"]["prepared"]


def test_a_plan_of_the_live_release_changes_nothing(app: App, systemd: Systemd) -> None:
    deploy(app, B)
    planned = plan(app, plan_order())
    assert (planned["changed"], planned["diff"]["prepared"].strip()) == (False, "")


def test_a_secret_that_names_its_release_is_another_one_only_if_its_text_is(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    file = Release(app, A).directory / "secrets"
    file.write_text(environment_file({"PASSWORD": f"horse of {A}"}))
    assert "secret PASSWORD" not in plan(app, plan_order(secrets={"PASSWORD": "horse of {release}"}))["diff"]["prepared"]
    assert "+secret PASSWORD (another" in plan(app, plan_order(secrets={"PASSWORD": "{release}"}))["diff"]["prepared"]


def test_a_plan_for_a_fresh_host_adds_everything(app: App, systemd: Systemd) -> None:
    planned = plan(app, plan_order())
    assert "+package django 5.2.8" in planned["diff"]["prepared"]
    assert list(app.releases.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_durations_read_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_hardened_hosts_umask_keeps_nobody_out(busy: App, run: Run) -> None:
    before = os.umask(0o077)
    try:
        assert run("--app", "shop", "maintenance", "on")[0] == 0
    finally:
        os.umask(before)
    assert busy.maintenance_file.stat().st_mode & 0o777 == 0o644
