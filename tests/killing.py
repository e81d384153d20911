"""Kill a program before the n-th change that it makes to a fake host in a directory."""

import os
import sys
from collections.abc import Callable
from pathlib import Path


class Killed(BaseException):
    """The effect of kill -9: no handler of the program stops it."""


class Killer:
    """An audit hook (PEP 578) that kills the program before the n-th change it makes to the host.

    A change is a file that is written, renamed, linked or removed below the host's directory, or a call of systemctl.
    """

    EVENTS = frozenset(
        ("os.rename", "os.symlink", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "fake_host.systemctl")
    )

    def __init__(self) -> None:
        self.armed = False
        self.root = ""
        self.left = 0
        self.changes: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.armed or not self._is_change(event, arguments):
            return
        self.changes.append(f"{event} {' '.join(str(one) for one in arguments[:2])}".replace(self.root, ""))
        self.left -= 1
        if self.left == 0:
            self.armed = False
            raise Killed

    def _is_change(self, event: str, arguments: tuple) -> bool:
        # The report of a step's progress is read by nobody later.
        if arguments and str(arguments[0]).endswith((".progress", "/run/asgictl")):
            return False
        if event == "open":
            path, _mode, flags = arguments
            return str(path).startswith(self.root) and bool(flags & (os.O_WRONLY | os.O_RDWR))
        return event in self.EVENTS or event == "fake_host.run_transient"

    def run(self, root: Path, before: int, work: Callable[[], None]) -> bool:
        """Do `work` and kill it before its change number `before`; return whether it was killed."""
        self.root, self.left, self.changes, self.armed = str(root), before, [], True
        try:
            work()
        except Killed:
            return True
        finally:
            self.armed = False
        return False


KILLER = Killer()
