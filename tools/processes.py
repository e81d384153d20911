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
    """Interrupt process groups as Ctrl-C would, wait for their ends, and kill all that they have started, until then too."""
    groups = {process.pid for process in processes}
    heirs = descendants(groups)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    # A test that is interrupted may run one more playbook to clean up.
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        heirs |= descendants(groups | {pid for pid, since in heirs.items() if started(pid) == since})
        time.sleep(0.1)
    for process in processes:
        process.kill()
    for pid, since in heirs.items():
        if since and started(pid) == since:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
