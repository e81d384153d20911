"""Report what a long step is doing, in a file that its caller reads meanwhile; it holds names and numbers, no values."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asgictl.app import App

TICK_SECONDS = 5


def file_of(app: App) -> Path:
    """The file that everyone may read; plugins/action/asgictl.py knows its place too."""
    return app.root / "run/asgictl" / f"{app.name}.progress"


def restart(app: App) -> None:
    """Begin a new report."""
    file = file_of(app)
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.touch()
    file.chmod(0o644)


def report(app: App, line: str) -> None:
    """Add a line, if a step has begun a report."""
    with contextlib.suppress(FileNotFoundError), file_of(app).open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.write(f"{line}\n")


@contextmanager
def part(app: App, name: str, count: Callable[[], str] | None = None) -> Iterator[None]:
    """Report that a part of a step begins, and its seconds when it ends; `count` says how far it is, every few seconds."""
    report(app, f"{name} …")
    began, ended = time.monotonic(), threading.Event()

    def tick() -> None:
        last = ""
        while not ended.wait(TICK_SECONDS):
            now = count()
            if now != last:
                report(app, f"{name}: {now}")
            last = now

    ticking = threading.Thread(target=tick, daemon=True) if count else None
    if ticking:
        ticking.start()
    try:
        yield
    finally:
        ended.set()
        if ticking:
            ticking.join()
        report(app, f"{name}: {time.monotonic() - began:.1f} s")
