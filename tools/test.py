"""Run lint, unit tests, the lab's tests and the molecule scenarios, and fail if one of them did not do its work."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import unchanged
import yaml
from evidence import count_tests
from scenario import BIN, Scenario
from stages import LOGS, ROOT, StageError, Stages, tail

REPORTS = ROOT / ".lab/reports"
LINTERS = {
    "lint/ruff": ["ruff", "check", "."],
    "lint/format": ["ruff", "format", "--check", "."],
    "lint/yaml": ["yamllint", "--strict", "."],
}
# A file's tests share its fixtures, so they run in one process; more than there are cores, because some only wait.
SIDE_BY_SIDE = ["--numprocesses=3", "--dist=loadfile"]
# A test that hangs ends the run; its name and its stack are printed.
HANGS = ["--max-worker-restart=0", "--override-ini=faulthandler_timeout=300", "--override-ini=faulthandler_exit_on_timeout=true"]
# The longest first, so that no lane runs it alone at the end; scenarios not named here come before them. The lab's tests reuse a
# base image of data.
LONGEST_FIRST = ["release", "data", "lab", "default", "edge", "fleet", "full", "tls", "projects"]
# A lookup of ansible.builtin.password holds its lock for a moment; an older lock was left by a killed run.
STALE_SECONDS = 60

Jobs = dict[str, Callable[[], None]]


def pytest(stages: Stages, name: str, python: Path, *arguments: str, cwd: Path = ROOT) -> None:
    """Run pytest as stage `name` and count its tests; raises StageError, also if one was skipped or none ran."""
    report = REPORTS / f"{name.replace('/', '-')}.xml"
    report.unlink(missing_ok=True)
    stages.run(name, python, "-m", "pytest", f"--junitxml={report}", *arguments, cwd=cwd)
    stages.tests[name] = count_tests(name, report)


def ansible_lint(stages: Stages, everything: bool, root: Path = ROOT) -> None:
    """Lint the roles and playbooks, or only the YAML files that have changed since they last passed; raises StageError."""
    name, memory = "lint/ansible", root / ".lab/ansible-lint.json"
    now = unchanged.digests(root)
    files = None if everything else unchanged.changed(unchanged.recall(memory), now)
    excluded = tuple(yaml.safe_load((root / ".ansible-lint").read_text())["exclude_paths"])
    read = [file for file in files or [] if file.endswith((".yml", ".yaml")) and not file.startswith(excluded)]
    if files is None or read:
        stages.run(name, BIN / "ansible-lint", "--strict", "--offline", *read, cwd=root)
    else:
        stages.run(name, "echo", "No YAML file has changed since ansible-lint passed.", cwd=root)
    unchanged.remember(memory, now)


def known(stages: Stages, everything: bool = True, root: Path = ROOT) -> dict[str, Jobs]:
    """Return all stages in the order in which they start, each as the jobs that it is made of.

    everything: whether ansible-lint also reads files that have not changed since it passed.
    """
    python, python_of_sample = BIN / "python", ROOT / ".venv-sample_app/bin/python"
    unit = {
        "unit": partial(pytest, stages, "unit", python, *SIDE_BY_SIDE, *HANGS, "--ignore=tests/lab", "tests"),
        "unit/sample_app": partial(pytest, stages, "unit/sample_app", python_of_sample, cwd=ROOT / "sample_app"),
    }
    lint = {name: partial(stages.run, name, BIN / program, *options) for name, (program, *options) in LINTERS.items()}
    lint["lint/ansible"] = partial(ansible_lint, stages, everything)
    names = [path.parent.name for path in root.glob("molecule/*/molecule.yml")]
    if not names:
        raise StageError("there is no molecule/*/molecule.yml")
    hosts = {name: {f"molecule/{name}": partial(Scenario(name, root).run, stages)} for name in names}
    if (root / "tests/lab").is_dir():
        hosts["lab"] = {"lab": partial(pytest, stages, "lab", python, "-vv", "tests/lab")}
    order = sorted(hosts, key=lambda name: (LONGEST_FIRST.index(name) if name in LONGEST_FIRST else -1, name))
    return {"unit": unit, "lint": lint, **{stage: {stage: job} for name in order for stage, job in hosts[name].items()}}


def choose(stages: dict[str, Jobs], wanted: list[str], first: str | None) -> Jobs:
    """Return the jobs of the wanted stages, or from stage `first` on; raises StageError if there is no such stage."""
    names = list(stages)
    full = {**{name.removeprefix("molecule/"): name for name in names}, **{name: name for name in names}}
    for name in [*wanted, *([first] if first else [])]:
        if name != "all" and name not in full:
            raise StageError(f"there is no stage {name}; there are {', '.join(name.removeprefix('molecule/') for name in names)}")
    chosen = names if "all" in wanted else [name for name in names if name in {full[name] for name in wanted}]
    if first:
        chosen = [name for name in chosen if names.index(name) >= names.index(full[first])]
    return {name: job for stage in chosen for name, job in stages[stage].items()}


def explain(name: str, error: StageError, stages: Stages) -> str:
    """Return what a person wants to see of a failed stage: the end of its log, the reason, and what to type next."""
    log = stages.log_of(name)
    shown = f"\n== the end of {log.relative_to(ROOT)}\n{tail(log.read_text())}\n" if log.exists() and name in stages.times else ""
    further = f"\n{Scenario(name.removeprefix('molecule/')).help()}" if name.startswith("molecule/") else ""
    return f"{shown}\nFAILED: {error}{further}"


def forget_stale_locks() -> None:
    """Remove the locks that a killed run has left; they would block every lookup of a password."""
    for lock in ROOT.glob(".lab/*.ansible_lockfile"):
        if time.time() - lock.stat().st_mtime > STALE_SECONDS:
            lock.unlink(missing_ok=True)


def interrupt(*_: object) -> None:
    """End as at Ctrl-C when the machine or a CI server ends the run."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the requested stages; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", type=float, help="when the command began, in seconds since 1970")
    parser.add_argument("--lanes", type=int, default=min(os.cpu_count() or 1, 2), help="how many stages run at a time")
    parser.add_argument("--from", dest="first", help="the stage to begin with; those before it are skipped")
    parser.add_argument("what", nargs="+", help="all, lint, unit, lab or a scenario")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup, keep ignoring the signal.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    stages = Stages(arguments.since, arguments.lanes)
    try:
        jobs = choose(known(stages, "all" in arguments.what), arguments.what, arguments.first)
    except StageError as error:
        print(f"test: {error}", file=sys.stderr)
        return 2
    for directory in (LOGS, REPORTS):
        directory.mkdir(parents=True, exist_ok=True)
    forget_stale_locks()
    stages.lanes = min(stages.lanes, len(jobs))
    try:
        failures = stages.together(jobs)
    except KeyboardInterrupt:
        print(f"\n{stages.summary()}\n\nInterrupted. The next run removes what is left.", flush=True)
        return 130
    for name, error in failures.items():
        print(explain(name, error, stages))
    print(f"\n{stages.summary()}\n")
    if failures:
        first = next(iter(failures)).removeprefix("molecule/").partition("/")[0]
        print(f"FAILED: {', '.join(failures)}. To continue from there: make test FROM={first}", flush=True)
        return 1
    print("All passed.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
