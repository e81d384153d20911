"""Run the stages of a demo or a test, one after the other, and say how long each took."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".lab/logs"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StageError(Exception):
    """A stage failed; the text says which and why."""


class Stages:
    """Times of the stages so far; since is the time.time() at which the user's command began."""

    def __init__(self, since: float | None = None) -> None:
        """Count what was before now, if since is given, as the first stage: setup."""
        self.begun = since or time.time()
        self.times = [("setup", time.time() - since)] if since else []

    def run(self, name: str, *command: str | Path, cwd: Path = ROOT) -> str:
        """Run a command as stage `name`, showing its output; return that output, raise StageError when it fails."""
        print(f"\n== {name}: {' '.join(map(str, command))}", flush=True)
        LOGS.mkdir(parents=True, exist_ok=True)
        begun = time.time()
        lines = []
        colour = "1" if sys.stdout.isatty() else "0"
        with (LOGS / f"{name.replace('/', '-')}.log").open("w") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=cwd,
                env={"COLUMNS": "150", **os.environ, "PYTHONUNBUFFERED": "1", "ANSIBLE_FORCE_COLOR": colour, "PY_COLORS": colour},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                lines.append(COLOUR.sub("", line))
                log.write(lines[-1])
        code = process.wait()
        self.times.append((name, time.time() - begun))
        if code:
            raise StageError(f"{name} failed (exit code {code}); its output is above and in {LOGS.relative_to(ROOT)}/")
        return "".join(lines)

    def summary(self) -> str:
        """Return the table of stage times."""
        rows = [*self.times, ("total", time.time() - self.begun)]
        return "\n".join(f"  {name:<22}{seconds:7.1f} s" for name, seconds in rows)
