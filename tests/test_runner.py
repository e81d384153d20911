"""The runner: it fails what passes silently elsewhere, and a failed stage can be inspected and run again."""

import base64
import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT / "tools"))

import test as runner
from evidence import count_tests, require_hosts, require_steps, runs_of
from processes import end
from scenario import Scenario, packed_modules
from stages import StageError, Stages, tail

SETTINGS = {
    "prerun": False,
    "dependency": {"enabled": False},
    "ansible": {
        "executor": {"args": {"ansible_playbook": ["--inventory=${MOLECULE_SCENARIO_DIRECTORY}/../inventory/tiny"]}},
        "playbooks": {"create": "../shared/create.yml", "destroy": "../shared/destroy.yml"},
    },
    "verifier": {"name": "testinfra", "directory": "tests"},
}
SCENARIO = {"test_sequence": ["destroy", "create", "prepare", "converge", "verify", "destroy"]}
PLAY = "- {hosts: %s, gather_facts: false, tasks: [{name: Print, ansible.builtin.debug: {msg: here}}]}\n"
PASSED = '<testsuites><testsuite><testcase classname="test_site" name="test_it"/></testsuite></testsuites>'
SKIPPED = PASSED.replace("/></testsuite>", '><skipped message="no host"/></testcase></testsuite>')


def project(root: Path, **settings: object) -> Scenario:
    """A project with one scenario whose host is this machine."""
    for path, text in {
        ".config/molecule/config.yml": yaml.safe_dump(SETTINGS),
        "molecule/tiny/molecule.yml": yaml.safe_dump({"scenario": SCENARIO} | settings),
        "molecule/tiny/converge.yml": PLAY % "localhost",
        "molecule/shared/create.yml": PLAY % "localhost",
        "molecule/shared/destroy.yml": PLAY % "localhost",
        "molecule/inventory/tiny/hosts.yml": "all: {children: {empty: {}, lab: {hosts: {one: {ansible_connection: local}}}}}\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Scenario("tiny", root)


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    """Keep logs and reports of the trial runs in a directory of their own."""
    monkeypatch.setattr("stages.LOGS", tmp_path / ".lab/logs")
    monkeypatch.setattr("stages.ROOT", tmp_path)
    monkeypatch.setattr("test.ROOT", tmp_path)
    monkeypatch.setattr("test.LOGS", tmp_path / ".lab/logs")
    monkeypatch.setattr("test.REPORTS", tmp_path / ".lab/reports")


# Each of these ends with exit code 0 without the runner.


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    """A scenario that molecule passes although a playbook is missing, a play has no hosts, and nothing is tested."""
    root = tmp_path_factory.mktemp("silent")
    scenario = project(root)
    (root / "molecule/tiny/converge.yml").write_text(PLAY % "localhost" + PLAY % "empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.LOGS", root / ".lab/logs")
        patch.setattr("stages.ROOT", root)
        stages = Stages()
        with pytest.raises(StageError):
            scenario.run(stages)
        assert "Molecule executed 1 scenario" in stages.log_of("molecule/tiny").read_text()
    return scenario


def test_a_play_without_hosts_is_red(silent):
    with pytest.raises(StageError, match=r"has plays without hosts: converge.yml: empty\."):
        require_hosts("molecule/tiny", runs_of(silent.record))


def test_a_step_without_its_playbook_is_red(silent):
    for run in (runs := runs_of(silent.record)):
        run["without_hosts"] = []
    silent.record.write_text("".join(json.dumps(run) + "\n" for run in runs))
    with pytest.raises(StageError, match=r"did not run its step prepare: .*/prepare.yml was not run"):
        silent.judge("")


def test_a_scenario_without_tests_is_red(silent):
    with pytest.raises(StageError, match=r"ran no tests: pytest wrote no molecule-tiny\.xml"):
        count_tests("molecule/tiny", silent.report)


def verify(directory: Path, **modules: str) -> subprocess.CompletedProcess:
    """Run modules of tests as molecule's verifier would, with the scenarios' conftest.py."""
    project(directory)
    for path in ["pyproject.toml", "molecule/conftest.py", "molecule/shared/outside.py"]:
        (directory / path).write_text((ROOT / path).read_text())
    scenario = directory / "molecule/tiny"
    (scenario / "tests").mkdir()
    for name, text in modules.items():
        (scenario / f"tests/test_{name}.py").write_text(text)
    command = [BIN / "pytest", "--ansible-inventory=../inventory/tiny", f"--junitxml={directory}/report.xml", "tests"]
    return subprocess.run(command, cwd=scenario, env=PLAIN, capture_output=True, text=True, check=False)


PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"
}


def test_an_unknown_host_is_red(tmp_path):
    modules = {
        "known": 'testinfra_hosts = ["ansible://one"]',
        "half_known": 'testinfra_hosts = ["ansible://one", "ansible://two"]',
        "empty_group": 'testinfra_hosts = ["ansible://empty"]',
        "none": "testinfra_hosts = []",
        "forgotten": "",
    }
    run = verify(tmp_path, **{name: f"{hosts}\ndef test_it(host): pass\n" for name, hosts in modules.items()})
    assert run.returncode != 0, run.stdout
    for name in modules:
        assert (f"tests/test_{name}.py: no host of" in run.stdout) == (name != "known"), run.stdout
    assert "is ansible://two. Correct testinfra_hosts in this module" in run.stdout


def test_a_skipped_test_is_red(tmp_path):
    test = "import pytest\ntestinfra_hosts = ['ansible://one']\ndef test_one(host): pass\ndef test_two(host): pytest.skip('x')\n"
    run = verify(tmp_path, skipped=test)
    assert (run.returncode, "1 passed, 1 skipped" in run.stdout) == (0, True), run.stdout
    with pytest.raises(StageError, match=r"tests that did not pass: .*test_two\[ansible://one\] \(skipped\)"):
        count_tests("molecule/tiny", tmp_path / "report.xml")


# The same faults and more, one at a time, with molecule's records written by hand.


class Told(Stages):
    """Stages in which every program succeeds, and molecule leaves the given report, log and runs."""

    def __init__(self, scenario: Scenario, report: str | None, log: str, runs: list[dict]) -> None:
        super().__init__()
        self.scenario, self.report, self.log, self.runs = scenario, report, log, runs
        self.commands = []

    def run(self, name, program, *arguments, **options) -> str:
        self.commands.append(program.name)
        runs = self.runs if program.name == "molecule" else [self.ran("../shared/destroy.yml")]
        with self.scenario.record.open("a") as file:
            file.writelines(json.dumps(run) + "\n" for run in runs)
        if program.name == "molecule" and self.report:
            self.scenario.report.write_text(self.report)
        return self.log

    def ran(self, playbook: str, check: bool = False, without: tuple = ()) -> dict:
        """A run of a playbook, as the callback plugin records it."""
        path = (self.scenario.directory / playbook).resolve()
        return {"playbook": str(path), "check": check, "without_hosts": list(without)}


SEQUENCE = ["destroy", "syntax", "create", "prepare", "converge", "idempotence", "check", "verify", "destroy"]
SYNTAX = "INFO     [tiny > syntax] Executed: Successful\n"


def told(
    root: Path, report: str | None = PASSED, log: str = SYNTAX, without: int | None = None, last: dict | None = None
) -> Told:
    """A scenario with all steps, which all ran except step number `without`, counted from create."""
    scenario = project(root, scenario={"test_sequence": SEQUENCE})
    stages = Told(scenario, report, log, [])
    converge = stages.ran("converge.yml")
    stages.runs = [
        stages.ran("../shared/create.yml"),
        stages.ran("prepare.yml"),
        converge,
        converge,
        stages.ran("converge.yml", True),
    ]
    if without is not None:
        del stages.runs[without]
    stages.runs += [last] if last else []
    return stages


def test_a_scenario_that_did_everything_is_green_and_its_tests_are_counted(tmp_path):
    stages = told(tmp_path)
    stages.scenario.run(stages)
    assert stages.tests == {"molecule/tiny": 1}
    assert stages.commands == ["ansible-playbook", "molecule", "ansible-playbook"], "destroyed before and after"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"without": 0}, "did not run its step create"),
        ({"without": 1}, "did not run its step prepare"),
        ({"without": 2}, "did not run its step idempotence"),
        ({"without": 4}, "did not run its step check"),
        ({"log": "no such line"}, "did not run its step syntax"),
        ({"report": None}, "ran no tests"),
        ({"report": "<testsuites/>"}, "ran no tests"),
        ({"report": SKIPPED}, r"did not pass: test_site::test_it \(skipped\)"),
        ({"last": {"playbook": "/x/more.yml", "check": False, "without_hosts": []}}, "none of its steps: /x/more.yml"),
        ({"last": {"playbook": "/x/more.yml", "check": False, "without_hosts": ["app"]}}, "plays without hosts: more.yml: app"),
    ],
)
def test_what_is_missing_is_red_and_its_hosts_are_left(tmp_path, broken, message):
    stages = told(tmp_path, **broken)
    with pytest.raises(StageError, match=message):
        stages.scenario.run(stages)
    assert stages.commands == ["ansible-playbook", "molecule"], "destroyed only before"


@pytest.mark.parametrize(
    "sequence", [None, ["create", "converge"], ["destroy", "create", "destroy"], ["destroy", "pray", "verify", "destroy"]]
)
def test_a_sequence_that_cannot_be_judged_is_red(tmp_path, sequence):
    stages = told(tmp_path)
    scenario = project(tmp_path, scenario={"test_sequence": sequence})
    with pytest.raises(StageError, match="test_sequence"):
        scenario.run(stages)


def test_steps_are_compared_in_their_order():
    runs = [{"playbook": "/converge.yml", "check": True}, {"playbook": "/converge.yml", "check": False}]
    with pytest.raises(StageError, match="step converge"):
        require_steps("x", [("converge", "/converge.yml", False), ("check", "/converge.yml", True)], runs)


def test_no_values_for_a_test_are_an_error(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('value', [])\ndef test_it(value): pass\ndef test_other(): pass\n"
    )
    command = [BIN / "pytest", "-c", ROOT / "pyproject.toml", f"--rootdir={tmp_path}", "test_it.py"]
    run = subprocess.run(command, cwd=tmp_path, env=PLAIN, capture_output=True, text=True, check=False)
    assert run.returncode != 0, run.stdout


# The output for a person.


def main(monkeypatch, jobs: dict, *arguments: str) -> int:
    """Run the runner with these stages; return its exit code."""
    monkeypatch.setattr("sys.argv", ["test.py", *(arguments or ["all"])])
    monkeypatch.setattr(runner, "known", lambda stages, _: {name: {name: partial(job, stages)} for name, job in jobs.items()})
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return runner.main()


def test_a_failed_stage_ends_red_with_its_end_shown_again_while_others_go_on(monkeypatch, capsys, tmp_path):
    script = "echo before; echo '=== FAILURES ==='; echo 'E  assert 1 == 2'; exit 1"
    jobs = {
        "unit": lambda stages: stages.run("unit", "sh", "-c", script),
        "lab": lambda stages: stages.run("lab", "echo", "hello"),
    }
    assert main(monkeypatch, jobs) == 1
    shown = capsys.readouterr().out
    assert "unit               | E  assert 1 == 2\n" in shown, "each line has its stage's name"
    end = shown.partition("== the end of .lab/logs/unit.log\n")[2]
    assert end.startswith("=== FAILURES ===\nE  assert 1 == 2\n")
    assert "FAILED: unit failed with exit code 1; its output is in .lab/logs/unit.log" in end
    assert "make test FROM=unit" in end
    assert (tmp_path / ".lab/logs/lab.log").read_text() == "hello\n"


def test_all_stages_are_in_the_table_with_their_tests(monkeypatch, capsys):
    def job(stages: Stages) -> None:
        stages.run("unit", "true")
        stages.tests["unit"] = 12

    assert (
        main(monkeypatch, {"unit": job, "lab": lambda stages: stages.run("lab", "true")}, "--since", str(time.time()), "all") == 0
    )
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows if " s" in row and "|" not in row] == ["setup", "unit", "lab", "total"]
    assert [row for row in rows if "unit " in row and row.endswith("12 tests")]
    assert rows[-1] == "All passed."


def test_a_run_goes_on_from_a_stage():
    stages = {name: {name: None} for name in ["unit", "lint", "molecule/release", "molecule/fleet", "molecule/edge"]}
    assert list(runner.choose(stages, ["all"], "fleet")) == ["molecule/fleet", "molecule/edge"]
    assert list(runner.choose(stages, ["lint", "unit"], None)) == ["unit", "lint"]
    with pytest.raises(StageError, match="there is no stage flet; there are unit, lint, release, fleet, edge"):
        runner.choose(stages, ["all"], "flet")


def test_every_scenario_is_a_stage_and_new_ones_come_first(tmp_path):
    for name in ["edge", "release", "brand-new"]:
        (tmp_path / "molecule" / name).mkdir(parents=True)
        (tmp_path / "molecule" / name / "molecule.yml").touch()
    assert list(runner.known(Stages(), root=tmp_path)) == [
        "unit",
        "lint",
        "molecule/brand-new",
        "molecule/release",
        "molecule/edge",
    ]
    (tmp_path / "tests/lab").mkdir(parents=True)
    assert "lab" in runner.known(Stages(), root=tmp_path)
    assert set(runner.LONGEST_FIRST) - {"lab"} == {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}


def test_a_failed_scenario_is_explained(tmp_path):
    scenario = project(tmp_path)
    assert "no host was left" in scenario.help()
    key = tmp_path / ".lab/0123abcd/id_ed25519"
    inventory = {"all": {"hosts": {"web1": {"ansible_ssh_private_key_file": str(key)}}}}
    (tmp_path / "molecule/inventory/tiny/lab.yml").write_text(yaml.safe_dump(inventory))
    shown = scenario.help()
    for line in [
        "ssh -F .lab/0123abcd/ssh_config web1",
        "molecule verify -s tiny",
        "make molecule SCENARIO=tiny",
        "molecule destroy -s tiny",
    ]:
        assert line in shown


def test_the_end_of_a_log_is_where_it_failed():
    play = "TASK [One] ***\nok: [web1]\n\nTASK [Two] ***\nchanged: [web2]\nfatal: [web1]: FAILED!\n\nPLAY RECAP ***\n"
    assert tail(play).startswith("TASK [Two]")
    assert tail(f"{play}=== FAILURES ===\nE assert\n") == "=== FAILURES ===\nE assert"
    long = tail("=== ERRORS ===\n" + "line\n" * 500 + "last\n", most=20).splitlines()
    assert (long[0], long[10], long[-1], len(long)) == ("=== ERRORS ===", "... 482 lines ...", "last", 21)


def test_parallel_stages_run_at_the_same_time_and_in_their_order(tmp_path):
    stages = Stages(lanes=2)
    # Each waits for the other's file, so one after the other they would never end.
    wait = "touch %s; until [ -e %s ]; do sleep 0.05; done"
    jobs = {
        name: partial(stages.run, name, "sh", "-c", wait % pair, cwd=tmp_path)
        for name, pair in [("a", ("a", "b")), ("b", ("b", "a"))]
    }
    assert stages.together(jobs) == {}
    assert list(stages.times) and stages.summary().index("  a") < stages.summary().index("  b")


def is_gone(pid):
    """Whether a process has ended; a killed one whose parent is gone may wait a moment for its new parent."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_an_interrupt_while_a_command_starts_ends_it_too(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "import stages; from functools import partial; from pathlib import Path\n"
        f"stages.ROOT = Path({str(tmp_path)!r}); stages.LOGS = stages.ROOT / 'logs'; s = stages.Stages()\n"
        "class Popen(stages.subprocess.Popen):\n"
        "    def __init__(self, *arguments, **options):\n"
        "        super().__init__(*arguments, **options)\n"
        "        print(self.pid, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(1)\n"
        "stages.subprocess.Popen = Popen\n"
        "s.together({'a': partial(s.run, 'a', 'sleep', '100', cwd=stages.ROOT)})\n"
    )
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert "KeyboardInterrupt" in run.stderr
    assert not Path(f"/proc/{run.stdout.split()[-1]}").exists()


def test_an_interrupt_ends_all_lanes_with_all_that_they_started(tmp_path):
    for name in "ab":
        # A program that a scenario's test starts has a session of its own.
        (tmp_path / name).write_text(f"setsid sh -c 'echo $$ > {name}.pid; exec sleep 600' & trap 'exit 1' INT; wait\n")
    program = tmp_path / "program.py"
    program.write_text(
        # A background job of a shell starts with interrupts ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "import stages; from functools import partial; from pathlib import Path\n"
        f"stages.ROOT = Path({str(tmp_path)!r}); stages.LOGS = stages.ROOT / 'logs'; s = stages.Stages(lanes=2)\n"
        "s.together({name: partial(s.run, name, 'sh', name, cwd=stages.ROOT) for name in 'ab'})\n"
    )
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    pids = [tmp_path / f"{name}.pid" for name in "ab"]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text().strip() for path in pids):
        assert time.monotonic() < deadline, "the stages did not start"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    for path in pids:
        with contextlib.suppress(FileNotFoundError):
            # A killed process without a parent may stay a moment, until init reaps it.
            assert Path(f"/proc/{int(path.read_text())}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_an_interrupted_stage_starts_to_clean_up_ends_with_it(tmp_path):
    script = "trap 'setsid sleep 600 & echo $! >late; sleep 1; exit 1' INT; touch ready; sleep 600 & wait"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp('sh', ['sh', '-c', {script!r}])",
        ],
        cwd=tmp_path,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline, "the stage did not start"
        time.sleep(0.05)
    end([process])
    assert is_gone(int((tmp_path / "late").read_text()))


def test_locks_of_a_killed_run_are_forgotten(tmp_path, monkeypatch):
    old, new = tmp_path / ".lab/0123.ansible_lockfile", tmp_path / ".lab/4567.ansible_lockfile"
    for lock in (old, new):
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
    os.utime(old, (0, 0))
    runner.forget_stale_locks()
    assert (old.exists(), new.exists()) == (False, True)


def test_ansible_lint_reads_what_has_changed_and_everything_if_the_rules_have(tmp_path):
    files = {"roles/one/tasks/main.yml": "---\n[]\n", "roles/one/files/tool.py": "", ".yamllint": "", "requirements.txt": ""}
    files |= {"inventory/hosts.yml": "---\n", ".ansible-lint": "exclude_paths: [inventory/]\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", "."], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("/.lab/\n")

    class Noted(Stages):
        def run(self, name, *command, **_):
            commands.append([str(part) for part in command])
            if failing:
                raise StageError("it failed")
            return ""

    def lint(everything=False):
        commands.clear()
        with contextlib.suppress(StageError):
            runner.ansible_lint(Noted(), everything, tmp_path)
        (command,) = commands
        return command[3:] if command[0].endswith("ansible-lint") else None

    commands, failing = [], False
    assert lint() == [], "it has never passed, so it reads everything"
    assert lint() is None
    assert lint(everything=True) == []
    for name in ("roles/one/tasks/main.yml", "roles/one/files/tool.py", "inventory/hosts.yml"):
        (tmp_path / name).write_text("---\n# another\n")
    failing = True
    assert lint() == ["roles/one/tasks/main.yml"]
    failing = False
    assert lint() == ["roles/one/tasks/main.yml"], "what failed is read again"
    assert lint() is None
    (tmp_path / ".yamllint").write_text("---\n")
    assert lint() == []
    (tmp_path / "roles/one/tasks/main.yml").unlink()
    assert lint() == []


@pytest.mark.parametrize("base", ["debian12", "debian13"])
def test_packed_modules_are_kept_and_compiled_until_their_source_changes(tmp_path, base):
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor last; do :; done\necho compile >>"$0.log"\nexec sh -c "$last"\n')
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAY.replace("ansible.builtin.debug: {msg: here}", "one: {}") % "web")
    host = {"lab_base": base, "ansible_ssh_private_key_file": "key", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"web": host}}}))
    module = tmp_path / "plugins/modules/one.py"
    module.parent.mkdir(parents=True)

    def play(text: str) -> str:
        module.write_text(f"#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\n{text}\n")
        environment = {
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "molecule/shared/callbacks"),
            "ANSIBLE_LIBRARY": str(module.parent),
            "LAB_MODULES": str(packed_modules(tmp_path)),
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        }
        extra = ["--extra-vars=ansible_connection=local", "--inventory=hosts.yml"]
        command = [BIN / "ansible-playbook", "--verbose", *extra, "play.yml"]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=True
        ).stdout

    assert "first" in play("AnsibleModule({}).exit_json(msg='first')")
    (kept,) = (
        path for path in (tmp_path / ".lab/modules").glob(f"*/{base}/*one-*") if not path.suffix.endswith(("lock", "compiled"))
    )
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(pickle.loads(kept.read_bytes()).zip_data))) as package:
        names = package.namelist()
    assert sorted(f"{name}c" for name in names if name.endswith(".py")) == sorted(name for name in names if name.endswith(".pyc"))
    packed = kept.stat().st_mtime_ns
    assert "first" in play("AnsibleModule({}).exit_json(msg='first')")
    assert kept.stat().st_mtime_ns == packed, "the second run packed it again"
    assert (tmp_path / "ssh.log").read_text().count("compile") == 1, "the second run compiled it again"
    assert "second" in play("AnsibleModule({}).exit_json(msg='second')")


def test_modules_that_one_image_has_compiled_are_not_kept_for_another(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_IMAGE", raising=False)
    usual = packed_modules(tmp_path)
    monkeypatch.setenv("LAB_IMAGE", "localhost/ubuntu:24.04")
    assert packed_modules(tmp_path) != usual


def test_one_command_gives_every_scenario_another_image(tmp_path):
    (tmp_path / "program").write_text('#!/bin/sh\necho "$LAB_IMAGE"\n')
    (tmp_path / "program").chmod(0o755)
    shown = ["--eval=shown: ; @./program", "shown", "LAB_IMAGE=localhost/ubuntu:24.04"]
    command = ["make", "--no-print-directory", f"--file={ROOT / 'Makefile'}", *shown]
    made = subprocess.run(command, cwd=tmp_path, env=PLAIN, capture_output=True, text=True, check=True)
    assert made.stdout == "localhost/ubuntu:24.04\n"


def test_a_stages_programs_get_the_image_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_IMAGE", "localhost/ubuntu:24.04")
    monkeypatch.setattr("stages.LOGS", tmp_path)
    monkeypatch.setattr("stages.ROOT", tmp_path)
    assert "localhost/ubuntu:24.04" in Stages().run("one", "sh", "-c", "echo $LAB_IMAGE", cwd=tmp_path)
