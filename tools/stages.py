"""Run the stages of a demo or a test, one after the other or in lanes, and report how long each took."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".lab/logs"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StageError(Exception):
    """A stage failed; the text says which and why."""


class Stages:
    """Times of the stages so far; `since` is the time.time() at which the user's command began."""

    def __init__(self, since: float | None = None) -> None:
        """Count what was before now, if `since` is given, as the first stage: setup."""
        self.begun = since or time.time()
        self.times = [("setup", time.time() - since)] if since else []
        self.tests: dict[str, int] = {}
        self.in_lanes = False
        self._output = threading.Lock()

    def run(self, name: str, *command: str | Path, cwd: Path = ROOT) -> str:
        """Run a command as a part of stage `name`, showing its output; return that output, raise StageError if it fails."""
        self._show(f"\n== {name}: {' '.join(map(str, command))}\n")
        LOGS.mkdir(parents=True, exist_ok=True)
        begun = time.time()
        lines = []
        prefix = f"{name:<17} | " if self.in_lanes else ""
        colour = "1" if sys.stdout.isatty() else "0"
        # A stage may take several commands.
        with log_of(name).open("a" if name in dict(self.times) else "w") as log:
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
                self._show(prefix + line)
                lines.append(COLOUR.sub("", line))
                log.write(lines[-1])
        code = process.wait()
        self.times.append((name, time.time() - begun))
        if code:
            raise StageError(f"{name} failed (exit code {code}); its output is above and in {log_of(name).relative_to(ROOT)}")
        return "".join(lines)

    def in_parallel(self, jobs: Iterable[Callable[[], None]], lanes: int) -> list[str]:
        """Run jobs, `lanes` at a time and in the order given; return what went wrong, a text for each that failed."""
        jobs = list(jobs)
        self.in_lanes = lanes > 1 and len(jobs) > 1
        with ThreadPoolExecutor(max_workers=lanes) as pool:
            return [failure for failure in pool.map(self._attempt, jobs) if failure]

    def summary(self) -> str:
        """Return the table of the stages: seconds, and how many tests ran; parts of one stage are added up."""
        seconds: dict[str, float] = {}
        for name, took in self.times:
            seconds[name] = seconds.get(name, 0) + took
        rows = [*seconds.items(), ("total", time.time() - self.begun)]
        counts = {**self.tests, "total": sum(self.tests.values())}
        return "\n".join(
            f"  {name:<22}{took:7.1f} s" + (f"{counts[name]:6} tests" if counts.get(name) else "") for name, took in rows
        )

    def _show(self, text: str) -> None:
        with self._output:
            sys.stdout.write(text)
            sys.stdout.flush()

    @staticmethod
    def _attempt(job: Callable[[], None]) -> str:
        try:
            job()
        except StageError as error:
            return str(error)
        return ""


def log_of(name: str) -> Path:
    """The file that holds a stage's output without colours."""
    return LOGS / f"{name.replace('/', '-')}.log"
