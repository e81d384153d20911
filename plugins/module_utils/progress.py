"""Print on the controller what a long task does: what it reports itself, and otherwise a sign of life."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ansible.errors import AnsibleError

# A step that is done by then reports nothing.
SILENT_SECONDS = 3
POLL_SECONDS = 2
# The longest time without a line.
MOST_SILENT_SECONDS = 10


class Progress:
    """Prints what a step on a host reports while it runs; `read` returns the report from an offset on, `show` prints a line."""

    def __init__(self, read: Callable[[int], str], show: Callable[[str], None]) -> None:
        self.read, self.show = read, show
        self.offset, self.last = 0, "working"
        self.began = self.spoken = time.monotonic()

    def poll(self) -> None:
        """Print the new lines; a sign of life if there is none for long."""
        text = self.read(self.offset)
        # A line may be only half written.
        complete = text[: text.rfind("\n") + 1]
        self.offset += len(complete.encode())
        now = time.monotonic()
        for line in complete.splitlines():
            self.show(line)
            self.last, self.spoken = line.partition(" …")[0].partition(":")[0], now
        # The next look may be too late.
        if now - self.spoken >= MOST_SILENT_SECONDS - POLL_SECONDS:
            self.show(f"{self.last}, for {now - self.began:.0f} s now")
            self.spoken = now

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """Poll until the block ends; what can't be read ends the polling, not the step."""
        ended = threading.Event()

        def work() -> None:
            wait = SILENT_SECONDS
            while not ended.wait(wait):
                wait = POLL_SECONDS
                try:
                    self.poll()
                except (AnsibleError, OSError) as error:
                    self.show(f"(no progress is shown: {error})")
                    return

        polling = threading.Thread(target=work, daemon=True)
        polling.start()
        try:
            yield
        finally:
            ended.set()
            # A poll that hangs must not hold the step.
            polling.join(POLL_SECONDS)


@contextmanager
def announced(name: str, show: Callable[[str], None]) -> Iterator[None]:
    """Show a line when the block begins, a sign of life every few seconds, and its seconds when it ends, however it ends."""
    show(f"{name} …")
    progress = Progress(lambda _offset: "", show)
    progress.last = name
    try:
        with progress.while_running():
            yield
    finally:
        show(f"{name}: {time.monotonic() - progress.began:.1f} s")
