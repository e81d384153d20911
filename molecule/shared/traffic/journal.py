"""The event log: one JSON object per line, appended in one write, so that several processes can write to it."""

import asyncio
import json
import os

from .model import Close, Exchange, now, to_event


class Journal:
    """Writes events and tracks the open exchanges."""

    def __init__(self, path: str) -> None:
        """Open the file at path for appending; create it if it is missing."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._open: dict[int, Exchange] = {}

    def write(self, event: str, **values: object) -> None:
        """Append one event of the given name, with the time it is written as `at`."""
        self._append({"event": event, "at": round(now(), 6), **values})

    def begin(self, kind: str, number: int, **values: object) -> Exchange:
        """Return a new open exchange that starts now; values are further fields of Exchange."""
        exchange = Exchange(kind, number, now(), **values)
        self._open[id(exchange)] = exchange
        return exchange

    def end(self, exchange: Exchange, failure: str = "", detail: str = "") -> None:
        """Write the outcome of an open exchange."""
        exchange.seconds = now() - exchange.started
        exchange.failure, exchange.detail = failure, detail
        self.forget(exchange)
        self._append(to_event(exchange))

    def forget(self, exchange: Exchange) -> None:
        """Drop an open exchange that was never sent."""
        del self._open[id(exchange)]

    def closed(self, close: Close) -> None:
        """Write the end of a WebSocket."""
        self._append(to_event(close))

    def settle(self) -> None:
        """Write how far the log is complete: everything begun before that time has its outcome in the log."""
        oldest = min((exchange.started for exchange in self._open.values()), default=now())
        self.write("settled", until=round(oldest, 6))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _append(self, event: dict) -> None:
        """Append one line with a single write(2)."""
        os.write(self._descriptor, json.dumps(event, separators=(",", ":")).encode() + b"\n")


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait for the given seconds, or less if stopping is set meanwhile."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await stopping.wait()
    except TimeoutError:
        pass
