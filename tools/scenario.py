"""Run one molecule scenario, require that each of its steps ran, and leave its hosts if something failed."""

import hashlib
import os
import re
import shlex
import shutil
from functools import cached_property
from pathlib import Path

import yaml
from evidence import count_tests, require_hosts, require_steps, runs_of
from molecule.util import merge_dicts
from stages import ROOT, StageError, Stages

BIN = ROOT / ".venv/bin"
# Molecule itself finds it in a clone of git only.
SHARED = ".config/molecule/config.yml"
HANGS = f"--override-ini=faulthandler_timeout={20 * 60} --override-ini=faulthandler_exit_on_timeout=true"
# Bytes for what the hosts of two scenarios write, which is 6 GiB at most, and for the programs of the run.
MEMORY_OF_HOSTS = 12 << 30
# Steps that run another step's playbook.
SHARES = {"idempotence": "converge", "check": "converge"}


def packed_modules(root: Path) -> Path:
    """Return the directory for the modules that Ansible has packed; a new one whenever their source or the hosts' image changes."""
    sources = [root / "requirements.txt", *root.glob("plugins/modul*/**/*.py")]
    texts = [path.read_bytes() for path in sorted(sources) if path.exists()]
    # They are compiled by a host's Python.
    digest = hashlib.sha256(b"".join([*texts, os.environ.get("LAB_IMAGE", "").encode()])).hexdigest()
    return root / ".lab/modules" / digest[:12]


def free_memory() -> int:
    """Return the bytes of memory that this machine has left (MemAvailable in proc(5))."""
    return int(re.search(r"MemAvailable: *([0-9]+) kB", Path("/proc/meminfo").read_text())[1]) << 10


class Scenario:
    """The scenario `name` of the project at root."""

    def __init__(self, name: str, root: Path = ROOT) -> None:
        """Raise StageError if there is no such scenario."""
        self.name = name
        self.root = root
        self.stage = f"molecule/{name}"
        self.directory = root / "molecule" / name
        if not (self.directory / "molecule.yml").is_file():
            raise StageError(f"there is no molecule/{name}/molecule.yml")
        self.report = root / f".lab/reports/molecule-{name}.xml"
        self.record = root / f".lab/reports/molecule-{name}.plays"
        self.inventory = root / "molecule/inventory" / name
        # Molecule's default depends only on the last part of root, which two clones may share.
        self.memory = root / ".lab/molecule" / name

    @cached_property
    def settings(self) -> dict:
        """The scenario's molecule.yml, on top of what all scenarios share."""
        shared, own = (yaml.safe_load(path.read_text()) for path in (self.root / SHARED, self.directory / "molecule.yml"))
        return merge_dicts(shared, own)

    @cached_property
    def steps(self) -> list[str]:
        """The steps between the two destroys; the runner itself runs those, to leave a failed scenario's hosts."""
        sequence = self.settings.get("scenario", {}).get("test_sequence")
        if not sequence or sequence[0] != "destroy" or sequence[-1] != "destroy" or "verify" not in sequence:
            raise StageError(f"{self.stage} has no test_sequence from destroy through verify to destroy in its molecule.yml")
        return sequence[1:-1]

    def run(self, stages: Stages) -> None:
        """Run the scenario; raises StageError, and then leaves its hosts."""
        for old in (self.report, self.record):
            old.parent.mkdir(parents=True, exist_ok=True)
            old.unlink(missing_ok=True)
        # Molecule would skip steps that it remembers from an earlier run.
        shutil.rmtree(self.memory, ignore_errors=True)
        self._destroy(stages)
        log = self._run(
            stages, "molecule", f"--base-config={self.root / SHARED}", "test", "--scenario-name", self.name, "--destroy=never"
        )
        self.judge(log)
        stages.tests[self.stage] = count_tests(self.stage, self.report)
        self._destroy(stages)

    def judge(self, log: str) -> None:
        """Raise StageError unless each step before the last destroy ran, on hosts."""
        runs = runs_of(self.record)
        require_hosts(self.stage, runs)
        plays = [step for step in ["destroy", *self.steps] if step not in ("syntax", "verify")]
        require_steps(self.stage, [(step, self._playbook(step), step == "check") for step in plays], runs)
        # The only step that runs neither a play nor a test.
        if "syntax" in self.steps and f"[{self.name} > syntax] Executed: Successful" not in log:
            raise StageError(f"{self.stage} did not run its step syntax")

    def help(self) -> str:
        """Return the commands to type next after a failure."""
        activate = ". .venv/bin/activate"
        inventory = self.inventory.relative_to(self.root)
        looks = [f"  open a shell     {command}" for command in self.shells()]
        return "\n".join(
            [
                *(looks or ["  open a shell     no host was left: it failed before one could be reached"]),
                f"  repeat tests     {activate}; molecule verify -s {self.name}",
                f"  repeat one test  {activate}; pytest --ansible-inventory={inventory} molecule/{self.name}/tests -k NAME",
                f"  start over       make molecule SCENARIO={self.name}      (removes the hosts and boots new ones)",
                f"  remove hosts     {activate}; molecule destroy -s {self.name}",
            ]
        )

    def shells(self) -> list[str]:
        """Return, for each host that the lab has booted, the command that opens a shell on it."""
        inventory = self.inventory / "lab.yml"
        hosts = (yaml.safe_load(inventory.read_text()) or {}) if inventory.exists() else {}
        commands = []
        for name, variables in hosts.get("all", {}).get("hosts", {}).items():
            config = Path(variables["ansible_ssh_private_key_file"]).with_name("ssh_config")
            config = config.relative_to(self.root) if config.is_relative_to(self.root) else config
            commands.append(shlex.join(["ssh", "-F", str(config), name]))
        return commands

    def _destroy(self, stages: Stages) -> None:
        """Run the playbook of the step destroy, which molecule leaves to the runner."""
        self._run(stages, "ansible-playbook", f"--inventory={self.inventory}", self._playbook("destroy"))

    def _run(self, stages: Stages, program: str, *arguments: str | Path) -> str:
        """Run a program of the virtual environment on this scenario; return its output."""
        env = {
            # Molecule looks for Ansible's programs and pytest there.
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.memory),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "molecule/shared/callbacks"),
            "LAB_PLAYS": str(self.record),
            "LAB_MODULES": str(packed_modules(self.root)),
            "ASGI_LAB_MEMORY": "1" if free_memory() > MEMORY_OF_HOSTS else "",
            # A line for each test, so that progress is visible; one that hangs ends the run, with its stack.
            "PYTEST_ADDOPTS": f"-vv --durations=10 {HANGS} {shlex.quote(f'--junitxml={self.report}')}",
        }
        return stages.run(self.stage, BIN / program, *arguments, env=env, cwd=self.root)

    def _playbook(self, step: str) -> str:
        """Return the path of a step's playbook."""
        step = SHARES.get(step, step)
        if not re.fullmatch(r"create|prepare|converge|destroy|cleanup|side_effect", step):
            raise StageError(f"{self.stage} has a step {step} in its test_sequence, which the runner cannot verify")
        named = self.settings.get("ansible", {}).get("playbooks", {}).get(step, f"{step}.yml")
        return str((self.directory / named).resolve())
