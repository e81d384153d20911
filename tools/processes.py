"""End processes and everything that they have started, even in sessions of their own."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

PATIENCE = 20
# <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36


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
    """Interrupt process groups as Ctrl-C would, wait for their ends, and kill what is left of all that they have started.

    A test that is interrupted may run one more playbook to clean up, and end before it: such orphans come to this process.
    """
    groups, others = {process.pid for process in processes}, descendants({os.getpid()})
    heirs = descendants(groups)
    _adopt_orphans(True)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
    heirs |= {pid: since for pid, since in descendants({os.getpid()}).items() if others.get(pid) != since}
    for process in processes:
        process.kill()
    for pid, since in heirs.items():
        if since and started(pid) == since:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                # Only an adopted one is a child of this process.
                os.waitpid(pid, 0)
    _adopt_orphans(False)


def _adopt_orphans(wanted: bool) -> None:
    """Make this process the parent of what its descendants leave behind, or the system's first process again (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
