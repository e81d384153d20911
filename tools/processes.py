"""End processes and everything that they have started, even in sessions of their own."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

PATIENCE = 20


def started(pid: int) -> int:
    """Return when a process started, in ticks since boot; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def descendants(ancestors: set[int]) -> dict[int, int]:
    """Return the processes under `ancestors`, with the time each started, which distinguishes a reused number."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = set(ancestors)
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return {pid: started(pid) for pid in found - ancestors}


def end(processes: list[subprocess.Popen]) -> None:
    """Interrupt process groups as Ctrl-C would, wait for them to end, and kill what is left of all that they started."""
    heirs = descendants({process.pid for process in processes})
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
        process.kill()
    for pid, since in heirs.items():
        if since and started(pid) == since:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
