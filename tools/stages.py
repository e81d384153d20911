"""Run the stages of a demo or a test, one after the other or in lanes, and report how long each took."""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from processes import end

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".lab/logs"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Where a failure begins in a log: pytest's own chapter, or else the last Ansible task that failed.
CHAPTER = re.compile(r"^=+ (?:FAILURES|ERRORS) =+$", re.MULTILINE)
TASK = re.compile(r"^TASK \[.*\n(?:(?!TASK \[|PLAY ).*\n)*?(?:fatal|failed): ", re.MULTILINE)


class StageError(Exception):
    """A stage failed; the text reports which and why."""


class Stages:
    """The stages so far: how long each took and how many tests ran in it; since is when the user's command began."""

    def __init__(self, since: float | None = None, lanes: int = 1) -> None:
        """Count the time since then, if since is given, as the first stage: setup."""
        self.begun = since or time.time()
        self.lanes = lanes
        self.times: dict[str, float] = {"setup": time.time() - since} if since else {}
        self.tests: dict[str, int] = {}
        self.order: list[str] = []
        self.running: set[subprocess.Popen] = set()
        # An interrupt during a start would miss the new process.
        self.starting = threading.Lock()
        self.stopped = False
        self.terminal = threading.Lock()

    def log_of(self, name: str) -> Path:
        """Return the file that has all output of a stage."""
        return LOGS / f"{name.replace('/', '-')}.log"

    def run(self, name: str, *command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
        """Run a command as a part of stage `name`, showing its output; return that output, raise StageError if it fails."""
        begun = time.time()
        log = self.log_of(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        lines: list[str] = []
        with log.open("a" if name in self.times else "w") as file:
            process = self._start(name, list(map(str, command)), cwd, env or {})
            for line in process.stdout:
                self._show(name, line)
                lines.append(COLOUR.sub("", line))
                file.write(lines[-1])
            code = process.wait()
        self.running.discard(process)
        self.times[name] = self.times.get(name, 0) + time.time() - begun
        if self.stopped:
            raise StageError(f"{name} was interrupted")
        if code:
            raise StageError(f"{name} failed with exit code {code}; its output is in {log.relative_to(ROOT)}")
        return "".join(lines)

    def together(self, jobs: dict[str, Callable[[], None]]) -> dict[str, StageError]:
        """Run jobs in their order, as many at once as there are lanes; return the errors of those that failed, by name."""
        self.order += jobs
        with ThreadPoolExecutor(self.lanes) as executor:
            try:
                futures = {name: executor.submit(job) for name, job in jobs.items()}
                errors = {name: future.exception() for name, future in futures.items()}
            except KeyboardInterrupt:
                with self.starting:
                    self.stopped = True
                executor.shutdown(wait=False, cancel_futures=True)
                end(list(self.running))
                raise
        for error in errors.values():
            if error and not isinstance(error, StageError):
                raise error
        return {name: error for name, error in errors.items() if error}

    def summary(self) -> str:
        """Return the table of the stages: seconds, and tests if some ran."""
        rows = [(name, self.times[name], self.tests.get(name)) for name in self._names()]
        rows.append(("total", time.time() - self.begun, sum(self.tests.values()) or None))
        return "\n".join(
            f"  {name:<22}{seconds:7.1f} s" + (f"{tests:6} tests" if tests is not None else "") for name, seconds, tests in rows
        )

    def _names(self) -> list[str]:
        """Return the names of the stages that began, in the requested order."""
        wanted = [name for name in self.order if name in self.times]
        return [name for name in self.times if name not in wanted] + wanted

    def _start(self, name: str, command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen:
        """Start a command in a process group of its own; raise StageError if the run has been interrupted."""
        self._show(name, f"== {name}: {shlex.join(command)}\n")
        colour = "1" if sys.stdout.isatty() else "0"
        # Write bytecode: without it, each start of Ansible takes twice the time.
        common = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "", "ANSIBLE_FORCE_COLOR": colour, "PY_COLORS": colour}
        with self.starting:
            if self.stopped:
                raise StageError(f"{name} was interrupted")
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={"COLUMNS": "150", **os.environ, **common, **env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self.running.add(process)
        return process

    def _show(self, name: str, line: str) -> None:
        """Print a line of a stage at once, with the stage's name before it if several run at a time."""
        with self.terminal:
            sys.stdout.write(f"{name:<18} | {line}" if self.lanes > 1 else line)
            sys.stdout.flush()


def tail(log: str, most: int = 120) -> str:
    """Return what matters of a failed stage's log: from the failure on, without the middle if that is long."""
    found = list(CHAPTER.finditer(log)) or list(TASK.finditer(log))
    lines = log[found[-1].start() :].splitlines() if found else log.splitlines()[-40:]
    if len(lines) > most:
        lines[most // 2 : -most // 2] = [f"... {len(lines) - most} lines ..."]
    return "\n".join(lines)
