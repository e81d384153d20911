"""Starts, marks and stops the generator's process."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from .journal import Journal
from .model import Settings, now
from .report import Report

_START_SECONDS = 120


class Traffic:
    """Load in a process of its own, from start() (or `with`) until stop(), the end of its time, or of this process."""

    def __init__(self, base_url: str, log: str | None = None, **settings: object) -> None:
        """Take the address of the site, the path of the event log (default: a new file in a new temporary directory;
        an existing one is replaced) and further Settings. Raises ValueError for a setting out of bounds."""
        log = log or str(Path(tempfile.mkdtemp(prefix="traffic-"), "events.jsonl"))
        self.settings = Settings(base_url, log, **settings)
        self._process: subprocess.Popen | None = None

    def start(self) -> Self:
        """Start the load; return once it runs. Raises RuntimeError, with the process's own words, if it does not."""
        log = Path(self.settings.log)
        log.write_bytes(b"")
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(Path(__file__).parent.parent), environment.get("PYTHONPATH")])
        )
        arguments = {name: getattr(self.settings, name) for name in Settings.__slots__}
        with Path(f"{log}.err").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.generator", json.dumps(arguments)],
                stdin=subprocess.PIPE,  # its end tells the generator that this process is gone
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        self._journal = Journal(self.settings.log)
        self._report = Report(self.settings.log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._report.refresh().started:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the load generator did not start: {Path(f'{log}.err').read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def mark(self, name: str) -> float:
        """Write an instant of interest into the log; return it in seconds since 1970."""
        at = now()
        self._journal.write("mark", name=name)
        return at

    @contextmanager
    def window(self, name: str) -> Iterator[float]:
        """Name the time spent inside for the report; yields its begin. Raises ValueError for a name used before."""
        if name in self._report.refresh().windows:
            raise ValueError(f"there is a window {name!r} already")
        at = now()
        self._journal.write("begin", name=name)
        try:
            yield at
        finally:
            self._journal.write("end", name=name)

    def report(self) -> Report:
        """Return the report so far, while the load goes on, once all that began before this call has its outcome."""
        instant = now()
        deadline = time.monotonic() + self.settings.timeout + 5
        while self._report.refresh().settled_until < instant and not self._report.stopped:
            if self._process.poll() is not None or time.monotonic() > deadline:
                break  # the report says how far it is complete, and its assertions insist on it
            time.sleep(0.05)
        return self._report

    def wait(self) -> Report:
        """Wait until the generator ends by itself; return its report."""
        self._process.wait()
        return self.stop()

    def stop(self) -> Report:
        """End the load once what is in flight is over; return the report. May be called again."""
        if not self._process.stdin.closed:
            self._process.terminate()
            try:
                self._process.wait(2 * self.settings.timeout + 5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdin.close()
            self._journal.close()
        return self._report.refresh()

    def __enter__(self) -> Self:
        """Start the load."""
        return self.start()

    def __exit__(self, *exception: object) -> None:
        """Stop the load."""
        self.stop()
