"""Start, mark and stop the generator's process."""

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
    """Load from a separate process, from start() (or `with`) until stop(), the end of its time or the end of this process."""

    def __init__(self, base_url: str, log: str | None = None, **settings: object) -> None:
        """Keep the address of the site, the path of the event log (default: a new file in a new temporary directory;
        an existing file is replaced) and further Settings. Raises ValueError for a setting out of bounds."""
        log = log or str(Path(tempfile.mkdtemp(prefix="traffic-"), "events.jsonl"))
        self.settings = Settings(base_url, log, **settings)
        self._process: subprocess.Popen | None = None

    def start(self) -> Self:
        """Start the load; return once it runs. Raises RuntimeError, with the process's stderr, if it does not start."""
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
                stdin=subprocess.PIPE,  # closes when this process ends, which stops the generator
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
        """Name the time spent inside for the report; yields its begin. Raises ValueError if the name is taken."""
        if name in self._report.refresh().windows:
            raise ValueError(f"there is already a window {name!r}")
        at = now()
        self._journal.write("begin", name=name)
        try:
            yield at
        finally:
            self._journal.write("end", name=name)

    def report(self) -> Report:
        """Return the report so far, once everything begun before this call has an outcome; the load goes on."""
        instant = now()
        deadline = time.monotonic() + self.settings.timeout + 5
        while self._report.refresh().settled_until < instant and not self._report.stopped:
            if self._process.poll() is not None or time.monotonic() > deadline:
                break  # the report records how far it is complete, and its assertions check that
            time.sleep(0.05)
        return self._report

    def wait(self) -> Report:
        """Wait until the generator's time is up; return its report."""
        self._process.wait()
        return self.stop()

    def stop(self) -> Report:
        """End the load once nothing is in flight; return the report. May be called again."""
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
