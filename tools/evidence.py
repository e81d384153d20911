"""Evidence that a stage did its work: pytest's report of its tests, and the plays that Ansible ran."""

import json
from pathlib import Path
from xml.etree import ElementTree

from stages import StageError


def count_tests(stage: str, report: Path) -> int:
    """Return how many tests passed according to pytest's JUnit report; raises StageError unless all did, and some ran."""
    if not report.is_file():
        raise StageError(f"{stage} ran no tests: pytest wrote no {report.name}. Add tests, or remove the stage")
    passed, others = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        verdicts = [child.tag for child in case if child.tag in ("skipped", "failure", "error")]
        others += [f"{case.get('classname')}::{case.get('name')} ({verdict})" for verdict in verdicts]
        passed += not verdicts
    if others:
        raise StageError(f"{stage} has tests that did not pass: {'; '.join(others)}. A test either runs or is deleted")
    if not passed:
        raise StageError(f"{stage} ran no tests: {report.name} has none")
    return passed


def runs_of(record: Path) -> list[dict]:
    """Return the runs of playbooks that molecule/shared/callbacks/plays.py has recorded, in their order."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def require_hosts(stage: str, runs: list[dict]) -> None:
    """Raise StageError if a play of these runs had no hosts."""
    empty = [f"{Path(run['playbook']).name}: {play}" for run in runs for play in run["without_hosts"]]
    if empty:
        raise StageError(f"{stage} has plays without hosts: {'; '.join(empty)}. Give their groups hosts in its inventory")


def require_steps(stage: str, expected: list[tuple[str, str, bool]], runs: list[dict]) -> None:
    """Raise StageError unless the runs are those expected: for each step its name, its playbook, whether it only checks."""
    left = [(run["playbook"], run["check"]) for run in runs]
    for step, playbook, check in expected:
        if not left or left.pop(0) != (playbook, check):
            raise StageError(f"{stage} did not run its step {step}: {playbook} was not run when its turn came")
    if left:
        raise StageError(f"{stage} ran playbooks that are none of its steps: {', '.join(playbook for playbook, _ in left)}")
