"""The process that generates the load: python -m traffic.generator <settings as JSON>.

It ends after settings.seconds, on SIGTERM or SIGINT, or at the end of its standard input, when the process that
started it is gone: it starts nothing more, waits for what is in flight, and writes its last event.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections import deque
from dataclasses import asdict

from .chat import Chat
from .journal import Journal, pause
from .model import Exchange, Settings, now
from .wire import Connection, Failed

HELLO = {"message": "Hello from DRF with Uvicorn!"}
STREAM_LINES = 20
TARGETS = {
    "get": ("GET", "/api/hello/"),
    "post": ("POST", "/api/echo/"),
    "stream": ("GET", f"/api/stream/?chunks={STREAM_LINES}&delay=0.1"),
}
_KEPT_CONNECTIONS = 6
_MOST_IN_FLIGHT = 100
_SETTLE_SECONDS = 0.5
_NOTABLE_LAG_SECONDS = 0.05


def kind_of(number: int) -> str:
    """Return the kind of the request with that running number: of 20, one is a stream, 4 are POST, 15 are GET."""
    if number % 20 == 0:
        return "stream"
    return "post" if number % 5 == 1 else "get"


def check_body(kind: str, sent: bytes, received: bytes) -> None:
    """Raise Failed("wrong_body") unless the body is right for this kind of request."""
    if kind == "stream":
        lines = sum(1 for line in received.splitlines() if line.strip())
        if lines != STREAM_LINES:
            raise Failed("wrong_body", f"{lines} of {STREAM_LINES} lines")
        return
    try:
        answer = json.loads(received)
    except ValueError:
        answer = None
    if answer != (json.loads(sent) if sent else HELLO):
        raise Failed("wrong_body", repr(received[:200]))


class Generator:
    """Sends HTTP requests at a steady rate, up to _MOST_IN_FLIGHT at a time, and keeps WebSockets talking."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        """Keep the settings and the log."""
        self.settings = settings
        self.journal = journal
        self.stopping = asyncio.Event()
        self.reason = "its time is up"
        self.idle: deque[Connection] = deque()
        self.in_flight = 0

    def stop(self, reason: str) -> None:
        """Start nothing more; reason goes into the log."""
        if not self.stopping.is_set():
            self.reason = reason
            self.stopping.set()

    async def run(self) -> None:
        """Generate load until stopped. An internal error ends the process without the last event in the log."""
        self.journal.write("start", settings=asdict(self.settings))
        settling = asyncio.create_task(self._settle())
        async with asyncio.TaskGroup() as group:
            if self.settings.rate:
                group.create_task(self._pace(group))
            for number in range(1, self.settings.websockets + 1):
                group.create_task(Chat(number, self.settings, self.journal, self.stopping).run())
            await pause(self.stopping, self.settings.seconds)
            self.stopping.set()
        settling.cancel()
        for connection in self.idle:
            connection.close()
        self.journal.settle()
        self.journal.write("stop", reason=self.reason, processor_seconds=round(time.process_time(), 3))

    async def _settle(self) -> None:
        """Record at intervals how far the log is complete."""
        while True:
            self.journal.settle()
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _pace(self, group: asyncio.TaskGroup) -> None:
        """Start requests at the rate, without waiting for earlier ones unless too many are in flight."""
        due = now()
        for number in itertools.count():
            await pause(self.stopping, due - now())
            while self.in_flight >= _MOST_IN_FLIGHT and not self.stopping.is_set():
                await pause(self.stopping, _NOTABLE_LAG_SECONDS)
            if self.stopping.is_set():
                return
            lag = now() - due
            if lag > _NOTABLE_LAG_SECONDS:
                self.journal.write("lag", seconds=round(lag, 3))
                due = now()  # do not catch up with a burst
            due += 1 / self.settings.rate
            self.in_flight += 1
            group.create_task(self._request(kind_of(number), number))

    async def _request(self, kind: str, number: int) -> None:
        """Send one request and record its outcome. Every other GET uses a kept-alive connection."""
        keep = kind == "get" and number % 2 == 1
        connection = (keep and self._kept()) or Connection(self.settings.address)
        exchange = self.journal.begin(kind, number, reused=connection.exchanges > 0)
        method, target = TARGETS[kind]
        body = json.dumps({"number": number, "text": f"text {number}"}).encode() if method == "POST" else b""
        try:
            async with asyncio.timeout(self.settings.timeout):
                if not exchange.reused:
                    await connection.open()
                received, reusable = await connection.exchange(
                    method, target, self.settings.authority, body, lambda headers: self._head(exchange, headers)
                )
            check_body(kind, body, received)
        except TimeoutError:
            self.journal.end(exchange, "timeout", f"{connection.stage} for {self.settings.timeout} s")
            reusable = False
        except Failed as failed:
            self.journal.end(exchange, failed.failure, failed.detail)
            reusable = False
        else:
            self.journal.end(exchange)
        self.in_flight -= 1
        if keep and reusable and len(self.idle) < _KEPT_CONNECTIONS:
            self.idle.append(connection)
        else:
            connection.close()

    def _kept(self) -> Connection | None:
        """Return the connection that has been idle longest, or None to open another one."""
        if len(self.idle) < _KEPT_CONNECTIONS:
            return None
        connection = self.idle.popleft()
        if connection.usable:
            return connection
        connection.close()
        return None

    @staticmethod
    def _head(exchange: Exchange, headers: dict[str, str]) -> None:
        """Record when the response began and which release sent it."""
        exchange.head = now() - exchange.started
        exchange.release = headers.get("x-release", "")


async def _main(settings: Settings) -> None:
    """Run a generator that stops on a signal or at the end of standard input."""
    journal = Journal(settings.log)
    generator = Generator(settings, journal)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, generator.stop, f"it received {number.name}")
    watch = asyncio.create_task(_parent_gone(generator))
    await generator.run()
    watch.cancel()
    journal.close()


async def _parent_gone(generator: Generator) -> None:
    """Stop the generator at the end of standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0))
    await reader.read()
    generator.stop("the process that started it is gone")


if __name__ == "__main__":
    asyncio.run(_main(Settings(**json.loads(sys.argv[1]))))
