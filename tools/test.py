"""Run lint, unit tests and molecule scenarios, and fail where one of them silently ran nothing."""

import argparse
import re
import sys
from pathlib import Path

from stages import ROOT, StageError, Stages

BIN = ROOT / ".venv/bin"
# What molecule, ansible and pytest say, with exit code 0, when they did not do what they were asked to.
NOTHING_RAN = re.compile(
    r"missing playbook|no tests found|no tests ran|no hosts matched|collected 0 items|no inventory was parsed"
    r"|could not match supplied host pattern|provided hosts list is empty|skipping, missing",
    re.IGNORECASE,
)


def refuse_nothing(name: str, log: str) -> None:
    """Raise StageError if the log of stage `name` says that something was skipped for want of its subject."""
    # molecule draws a frame around its output and breaks lines to fit it.
    text = re.sub(r"[\s│]+", " ", log)
    found = sorted({text[max(match.start() - 60, 0) : match.end() + 60] for match in NOTHING_RAN.finditer(text)})
    if found:
        raise StageError(f"{name} passed without doing its work: {'; '.join(found)}")


def lint(stages: Stages) -> None:
    """Run every linter, also after one has found something."""
    failures = []
    for name, *command in (
        ("ruff", "ruff", "check", "."),
        ("format", "ruff", "format", "--check", "."),
        ("yaml", "yamllint", "--strict", "."),
        ("ansible", "ansible-lint", "--strict", "--offline"),
    ):
        try:
            stages.run(f"lint/{name}", BIN / command[0], *command[1:])
        except StageError as error:
            failures.append(str(error))
    if failures:
        raise StageError("\n        ".join(failures))


def unit(stages: Stages) -> None:
    """Run the tests that need no host: the project's own, then the sample project's with its own tools."""
    refuse_nothing("unit", stages.run("unit", BIN / "pytest", "tests"))
    python = ROOT / ".venv-sample_app/bin/python"
    log = stages.run("unit/sample_app", python, "-m", "pytest", cwd=ROOT / "sample_app")
    refuse_nothing("unit/sample_app", log)


def scenario(stages: Stages, name: str) -> None:
    """Run one molecule scenario and see that each step of its sequence ran and that its verifier passed tests."""
    if not (ROOT / "molecule" / name / "molecule.yml").is_file():
        raise StageError(f"there is no molecule/{name}/molecule.yml")
    stage = f"molecule/{name}"
    log = stages.run(stage, BIN / "molecule", "test", "--scenario-name", name)
    refuse_nothing(stage, log)
    if not re.search(r"\b[1-9]\d* passed\b", log):
        raise StageError(f"{stage} passed without a single test in its verifier")


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", type=float, help="when the command began, in seconds since 1970")
    parser.add_argument("what", nargs="+", help="all, lint, unit or molecule/NAME")
    arguments = parser.parse_args()
    stages = Stages(arguments.since)
    scenarios = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    wanted = ["lint", "unit", *(f"molecule/{name}" for name in scenarios)] if "all" in arguments.what else arguments.what
    failures = [] if scenarios else ["there is no molecule/*/molecule.yml"]
    for what in wanted:
        try:
            if what.startswith("molecule/"):
                scenario(stages, Path(what).name)
            else:
                {"lint": lint, "unit": unit}[what](stages)
        except StageError as error:
            failures.append(str(error))
    print(f"\n{stages.summary()}\n")
    print("\n".join(f"FAILED: {failure}" for failure in failures) or "All passed.", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
