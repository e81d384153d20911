"""Run lint, unit tests and molecule scenarios, some of them at a time, and fail where one of them silently ran nothing."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import yaml
from evidence import count_tests, refuse_nothing, refuse_skipped_steps
from stages import ROOT, StageError, Stages, log_of

BIN = ROOT / ".venv/bin"
# The longest first, so that the lanes end at about the same time. A scenario that is not here comes last.
LONGEST_FIRST = ["release", "fleet", "tls", "default", "full", "metrics", "data", "edge"]
LINTERS = (
    ("ruff", "ruff", "check", "."),
    ("format", "ruff", "format", "--check", "."),
    ("yaml", "yamllint", "--strict", "."),
    ("ansible", "ansible-lint", "--strict", "--offline"),
)


def lint(stages: Stages) -> None:
    """Run every linter, also after one has found something."""
    failures = []
    for name, *command in LINTERS:
        try:
            stages.run(f"lint/{name}", BIN / command[0], *command[1:])
        except StageError as error:
            failures.append(str(error))
    if failures:
        raise StageError("\n        ".join(failures))


def unit(stages: Stages) -> None:
    """Run the project's tests that need no host."""
    verified(stages, "unit", stages.run("unit", BIN / "pytest", "--ignore=tests/lab", "tests"))


def sample_app(stages: Stages) -> None:
    """Run the sample project's tests with its own tools."""
    python = ROOT / ".venv-sample_app/bin/python"
    verified(stages, "sample_app", stages.run("sample_app", python, "-m", "pytest", cwd=ROOT / "sample_app"))


def lab(stages: Stages) -> None:
    """Run the tests of the lab itself, which make and break labs of their own."""
    verified(stages, "lab", stages.run("lab", BIN / "pytest", "tests/lab"))


def scenario(stages: Stages, name: str) -> None:
    """Run one molecule scenario. A failed one leaves its hosts, which the next run clears away."""
    if not (ROOT / "molecule" / name / "molecule.yml").is_file():
        raise StageError(f"There is no molecule/{name}/molecule.yml.")
    stage = f"molecule/{name}"
    run = partial(stages.run, stage, BIN / "molecule")
    run("destroy", "--scenario-name", name)
    try:
        log = run("test", "--destroy", "never", "--scenario-name", name)
        refuse_skipped_steps(name, log, ROOT / "molecule" / name / "molecule.yml")
        verified(stages, stage, log)
    except StageError as error:
        raise StageError(f"{error}\n{how_to_look(name)}") from error
    run("destroy", "--scenario-name", name)


def verified(stages: Stages, stage: str, log: str) -> None:
    """Count a stage's tests; raise StageError if it skipped one or did nothing."""
    refuse_nothing(stage, log)
    stages.tests[stage] = count_tests(stage, log)


def how_to_look(name: str) -> str:
    """Return the commands for a look at the hosts that a failed scenario has left."""
    lines = ["        Its hosts are still there; the next run clears them away."]
    inventory = ROOT / "molecule/inventory" / name / "lab.yml"
    hosts = yaml.safe_load(inventory.read_text())["all"]["hosts"] if inventory.is_file() else {}
    for host, variables in hosts.items():
        config = Path(variables["ansible_ssh_private_key_file"]).with_name("ssh_config")
        lines.append(f"          look into it     ssh -F {os.path.relpath(config, ROOT)} {host}")
    lines += [
        f"          its whole log    less {log_of(f'molecule/{name}').relative_to(ROOT)}",
        f"          test it again    .venv/bin/molecule verify -s {name}",
        f"          clear it away    .venv/bin/molecule destroy -s {name}",
        f"          go on from it    make test FROM={name}",
    ]
    return "\n".join(lines)


def plan() -> dict[str, object]:
    """Return all stages in their order, each with the function that runs it."""
    found = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    names = [*(name for name in LONGEST_FIRST if name in found), *sorted(found - set(LONGEST_FIRST))]
    stages = {"lint": lint, "unit": unit, "sample_app": sample_app}
    if (ROOT / "tests/lab").is_dir():
        stages["lab"] = lab
    return stages | {f"molecule/{name}": partial(scenario, name=name) for name in names}


def chosen(what: list[str], first: str) -> dict[str, object]:
    """Return the stages to run: those in `what`, or all from stage `first` on; raises StageError for an unknown name."""
    stages = plan()
    if "all" not in what:
        return {name: stages.get(name) or partial(scenario, name=name.removeprefix("molecule/")) for name in what}
    if not any(name.startswith("molecule/") for name in stages):
        raise StageError("There is no molecule/*/molecule.yml.")
    names = list(stages)
    if first:
        if first not in names and f"molecule/{first}" not in names:
            raise StageError(f"There is no stage {first}. FROM takes one of: {' '.join(names)}")
        names = names[names.index(first if first in names else f"molecule/{first}") :]
    return {name: stages[name] for name in names}


def main() -> int:
    """Run what is named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", type=float, help="when the command began, in seconds since 1970")
    parser.add_argument(
        "--from", dest="first", default="", metavar="STAGE", help="with all: leave out the stages before this one"
    )
    parser.add_argument("--lanes", type=int, default=min(2, os.cpu_count() or 1), help="how many stages run at a time")
    parser.add_argument("what", nargs="+", help="all, lint, unit, sample_app, lab or molecule/NAME")
    arguments = parser.parse_args()
    stages = Stages(arguments.since)
    try:
        jobs = chosen(arguments.what, arguments.first)
    except StageError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    failures = stages.in_parallel([partial(job, stages) for job in jobs.values()], arguments.lanes)
    print(f"\n{stages.summary()}\n")
    print("\n".join(f"FAILED: {failure}" for failure in failures) or "All passed.", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
