"""The files that a linter of single files has to read again: those that changed since it last passed."""

import hashlib
import json
import subprocess
from pathlib import Path

# Files that decide how the linter judges every other.
RULES = (".ansible-lint", ".yamllint", "requirements.txt")


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the project at root that git does not ignore, by path."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in sorted(names) if (root / name).is_file()}


def changed(then: dict[str, str], now: dict[str, str]) -> list[str] | None:
    """Return the files that are not what they were when the linter passed; None if all have to be read.

    An added or removed file, or a changed rule, may change the verdict on an unchanged file.
    """
    if then.keys() != now.keys() or any(then[rule] != now[rule] for rule in RULES):
        return None
    return [name for name in now if then[name] != now[name]]


def recall(memory: Path) -> dict[str, str]:
    """Return the digests that memory holds; none if the file is missing or holds something else."""
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(memory: Path, passed: dict[str, str]) -> None:
    """Write the digests of the files that passed."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps(passed))
