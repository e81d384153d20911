"""What the tools print, with exit code 0, when they did not do what they were called for."""

import re
from pathlib import Path

import yaml
from stages import StageError

NOTHING_RAN = re.compile(
    r"missing playbook|no tests found|no tests ran|no hosts matched|collected 0 items|no inventory was parsed"
    r"|could not match supplied host pattern|provided hosts list is empty|skipping, missing",
    re.IGNORECASE,
)
# pytest's closing words for tests that it left out or whose failure it was told to expect.
LEFT_OUT = re.compile(r"\b([1-9]\d*) (skipped|deselected|xfailed|xpassed)\b")
PASSED = re.compile(r"\b([1-9]\d*) passed\b")


def refuse_nothing(stage: str, log: str) -> None:
    """Raise StageError if the log of a stage shows that something was left out for want of its subject."""
    # molecule draws a frame around its output and breaks lines to fit it.
    text = re.sub(r"[\s│]+", " ", log)
    found = sorted({text[max(match.start() - 60, 0) : match.end() + 60] for match in NOTHING_RAN.finditer(text)})
    if found:
        raise StageError(f"{stage} passed without doing its work: {'; '.join(found)}")


def count_tests(stage: str, log: str) -> int:
    """Return how many tests passed in a stage; raise StageError if none did, or if one was left out."""
    left_out = sorted({f"{number} {word}" for number, word in LEFT_OUT.findall(log)})
    if left_out:
        raise StageError(f"{stage} did not run all of its tests: {', '.join(left_out)}")
    counts = [int(number) for number in PASSED.findall(log)]
    if not counts:
        raise StageError(f"{stage} passed without a single test")
    return sum(counts)


def refuse_skipped_steps(name: str, log: str, config: Path) -> None:
    """Raise StageError if a step of the scenario's test_sequence did not run to its end.

    In: the scenario's name, molecule's output without colours, its molecule.yml. `destroy` is not looked for: the runner
    calls it by itself.
    """
    wanted = [step for step in yaml.safe_load(config.read_text())["scenario"]["test_sequence"] if step != "destroy"]
    # In a terminal molecule draws an arrow.
    ended = re.findall(rf"\b{re.escape(name)}\W+(\w+)\W+Executed: Successful", log)
    missing = [step for step in dict.fromkeys(wanted) if ended.count(step) < wanted.count(step)]
    if missing:
        raise StageError(f"molecule/{name} passed without its step {', '.join(missing)}; molecule/{name}/molecule.yml lists it")
