"""make test: nothing passes silently. Each way in which it could is broken here on purpose, and has to go red."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT / "tools"))

import test as runner
from evidence import count_tests, refuse_nothing, refuse_skipped_steps
from stages import StageError, Stages

# As molecule 26.10 prints it, without colours, outside a terminal.
STEP = "INFO     [default > {}] Executed: {}\n"
CONFIG = "scenario:\n  test_sequence: [destroy, create, converge, idempotence, verify, destroy]\n"
STEPS = ["create", "converge", "idempotence", "verify"]


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Stages whose logs lie in a directory of their own."""
    monkeypatch.setattr("stages.LOGS", tmp_path / "logs")
    monkeypatch.setattr("stages.ROOT", tmp_path)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return Stages()


@pytest.fixture
def molecule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario called default and a molecule that prints, for `molecule test`, what the file returned holds."""
    scenario, output = tmp_path / "molecule/default", tmp_path / "output"
    scenario.mkdir(parents=True)
    (scenario / "molecule.yml").write_text(CONFIG)
    program = tmp_path / "bin/molecule"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n[ "$1" != test ] || exec cat {output}\n')
    program.chmod(0o755)
    monkeypatch.setattr(runner, "BIN", program.parent)
    return output


def run_tests(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run pytest as molecule's verifier does, with the project's settings, on the tests in a directory."""
    command = [BIN / "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", directory, *arguments, directory]
    path = f"{BIN}:{os.environ['PATH']}"
    plain = {**os.environ, "PATH": path, "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=plain, cwd=directory)


@pytest.mark.parametrize(
    "log",
    [
        "WARNING  Missing playbook (/x/verify.yml). Skipping.",
        "skipping: no hosts matched",
        "  │ skipping: no hosts\n  │   matched",
        "INFO no tests found",
        "collected 0 items",
        "[WARNING]: Could not match supplied host pattern, ignoring: app",
    ],
)
def test_a_stage_that_ran_nothing_fails(log: str) -> None:
    with pytest.raises(StageError, match="passed without doing its work"):
        refuse_nothing("molecule/default", f"some text\n{log}\nsome text")


def test_a_stage_that_ran_something_passes() -> None:
    refuse_nothing("unit", "collected 12 items\n12 passed in 0.1s\nskipping: [web1]")


@pytest.mark.parametrize("left_out", ["1 skipped", "2 deselected", "1 xfailed", "1 xpassed"])
def test_a_test_that_is_left_out_fails_its_stage(left_out: str) -> None:
    with pytest.raises(StageError, match=f"did not run all of its tests: {left_out}"):
        count_tests("unit", f"12 passed, {left_out} in 0.1s")


def test_a_stage_without_a_test_fails_and_others_are_counted() -> None:
    with pytest.raises(StageError, match="without a single test"):
        count_tests("molecule/default", "INFO Executed: Successful")
    assert count_tests("unit", "==== 12 passed, 1 warning in 0.1s ====") == 12


def test_a_host_that_the_inventory_does_not_have_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {web1: {ansible_connection: local}}}")
    module = tmp_path / "test_host.py"
    module.write_text('testinfra_hosts = ["ansible://web1"]\ndef test_something(host):\n    assert host.backend\n')
    inventory = f"--ansible-inventory={tmp_path / 'hosts.yml'}"
    known = run_tests(tmp_path, inventory)
    assert known.returncode == 0, known.stdout + known.stderr
    module.write_text(module.read_text().replace("web1", "web2"))
    unknown = run_tests(tmp_path, inventory)
    assert unknown.returncode != 0, unknown.stdout
    assert "empty parameter set" in unknown.stdout.lower()


def test_a_really_skipped_test_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "test_left_out.py").write_text(
        "import pytest\ndef test_one(): pass\ndef test_two(): pytest.importorskip('no_such_module')\n"
    )
    done = run_tests(tmp_path)
    assert done.returncode == 0, "pytest itself is content"
    with pytest.raises(StageError, match="1 skipped"):
        count_tests("unit", done.stdout)


def test_a_play_without_hosts_and_a_step_without_a_playbook_fail(tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text("- hosts: web\n  gather_facts: false\n  tasks: [{ansible.builtin.meta: noop}]\n")
    command = [BIN / "ansible-playbook", "-i", "localhost,", play]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, "Ansible itself is content"
    with pytest.raises(StageError, match="without doing its work"):
        refuse_nothing("molecule/default", done.stdout + done.stderr)


@pytest.mark.parametrize("missing", STEPS)
@pytest.mark.parametrize("printed", ["Missing playbook", "Skipped", None])
def test_a_step_that_did_not_run_fails_its_scenario(tmp_path: Path, missing: str, printed: str | None) -> None:
    config = tmp_path / "molecule.yml"
    config.write_text(CONFIG)
    ended = dict.fromkeys(STEPS, "Successful") | {missing: printed}
    log = "".join(STEP.format(step, result) for step, result in ended.items() if result)
    with pytest.raises(StageError, match=f"without its step {missing};"):
        refuse_skipped_steps("default", log, config)
    refuse_skipped_steps("default", log + STEP.format(missing, "Successful"), config)
    # With colours in a terminal.
    refuse_skipped_steps("default", "".join(f"INFO     default ➜ {step}: Executed: Successful\n" for step in STEPS), config)


def test_a_scenario_passes_with_all_of_its_steps_and_is_cleared_away(stages: Stages, molecule: Path, tmp_path: Path) -> None:
    molecule.write_text("".join(STEP.format(step, "Successful") for step in STEPS) + "== 7 passed in 1s ==\n")
    runner.scenario(stages, "default")
    assert stages.tests == {"molecule/default": 7}
    assert [call.split()[0] for call in (tmp_path / "calls").read_text().splitlines()] == ["destroy", "test", "destroy"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("== 7 passed in 1s ==\n", "without its step create"),
        ("".join(STEP.format(step, "Successful") for step in STEPS), "without a single test"),
        ("".join(STEP.format(step, "Successful") for step in STEPS) + "6 passed, 1 skipped", "1 skipped"),
    ],
)
def test_a_failed_scenario_leaves_its_hosts_and_tells_how_to_look_into_them(
    stages: Stages, molecule: Path, tmp_path: Path, output: str, reason: str
) -> None:
    molecule.write_text(output)
    inventory = tmp_path / "molecule/inventory/default/lab.yml"
    inventory.parent.mkdir(parents=True)
    inventory.write_text(f"all: {{hosts: {{web1: {{ansible_ssh_private_key_file: {tmp_path}/.lab/1/id_ed25519}}}}}}")
    with pytest.raises(StageError, match=reason) as failed:
        runner.scenario(stages, "default")
    assert "ssh -F .lab/1/ssh_config web1" in str(failed.value)
    assert "make test FROM=default" in str(failed.value)
    assert [call.split()[0] for call in (tmp_path / "calls").read_text().splitlines()] == ["destroy", "test"]


def test_a_failing_stage_is_named_timed_and_does_not_end_the_others(stages: Stages, capsys: pytest.CaptureFixture) -> None:
    assert stages.run("first", "echo", "hello") == "hello\n"
    failures = stages.in_parallel([partial(stages.run, "second", "false"), partial(stages.run, "third", "echo", "well")], 2)
    assert len(failures) == 1
    assert "second failed (exit code 1)" in failures[0]
    assert {name for name, _ in stages.times} == {"first", "second", "third"}
    assert "total" in stages.summary()
    assert "third             | well" in capsys.readouterr().out


def test_two_stages_run_at_a_time(stages: Stages) -> None:
    meeting = threading.Barrier(2, timeout=60)
    assert stages.in_parallel([meeting.wait, meeting.wait], lanes=2) == []


def test_the_run_can_go_on_from_a_stage() -> None:
    every = list(runner.chosen(["all"], ""))
    assert every[:2] == ["lint", "unit"]
    assert set(every) >= {"sample_app", *(f"molecule/{path.parent.name}" for path in ROOT.glob("molecule/*/molecule.yml"))}
    assert list(runner.chosen(["all"], "fleet")) == every[every.index("molecule/fleet") :]
    with pytest.raises(StageError, match="There is no stage flete"):
        runner.chosen(["all"], "flete")


def test_every_scenario_has_its_place_among_the_lanes() -> None:
    assert set(runner.LONGEST_FIRST) == {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
