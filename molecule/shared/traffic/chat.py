"""A WebSocket client that counts the echo of each text it sends, and connects again whenever it is closed."""

import asyncio
import itertools
import json

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from .journal import Journal, pause
from .model import Close, Exchange, Settings, now
from .wire import Failed, network_failure

PATH = "/ws/chat/"
_BACKOFF_SECONDS = (0.05, 1.0)
# Do not overload a slow machine: pings and pongs would wait behind a queue of texts.
_MOST_UNANSWERED = 10


class _connect(connect):
    """websockets' connect, but it reports a redirect instead of following it silently."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Return the exception, so that connect raises it."""
        return exc


class _Socket(ClientConnection):
    """A WebSocket that records how its connection was lost."""

    lost: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep the error; None means an orderly end of the stream."""
        self.lost = exc
        super().connection_lost(exc)


class Chat:
    """One client, identified by its number."""

    def __init__(self, number: int, settings: Settings, journal: Journal, stopping: asyncio.Event) -> None:
        """Keep what it shares with the rest of the generator; stopping ends run()."""
        self.number = number
        self.settings = settings
        self.journal = journal
        self.stopping = stopping

    async def run(self) -> None:
        """Connect, converse, and reconnect after each close, until the generator stops."""
        down_since = None
        await pause(self.stopping, self.settings.echo_every * self.number / self.settings.websockets)
        least, most = _BACKOFF_SECONDS
        backoff = least
        while not self.stopping.is_set():
            exchange = self.journal.begin("handshake", self.number)
            try:
                websocket = await self._open()
            except Failed as failed:
                self.journal.end(exchange, failed.failure, failed.detail)
                await pause(self.stopping, backoff)
                backoff = min(backoff * 2, most)
                continue
            exchange.head = now() - exchange.started
            exchange.release = websocket.response.headers.get("X-Release", "")
            exchange.down = None if down_since is None else now() - down_since
            self.journal.end(exchange)
            down_since = await _Conversation(self, websocket, exchange.release).run()
            backoff = least
            await pause(self.stopping, backoff)

    async def _open(self) -> _Socket:
        """Return an open WebSocket. Raises Failed."""
        sockets = []

        def create(*arguments: object, **options: object) -> _Socket:
            sockets.append(_Socket(*arguments, **options))
            return sockets[-1]

        address, port = self.settings.address
        authority = self.settings.authority
        timeout = self.settings.timeout
        try:
            # No pings: only the server or a missing echo may end a WebSocket.
            return await _connect(
                f"ws://{authority}{PATH}", origin=f"http://{authority}", host=address, port=port, proxy=None,
                compression=None, ping_interval=None, open_timeout=timeout, close_timeout=timeout,
                create_connection=create,
            )  # fmt: skip
        except InvalidStatus as error:
            raise Failed(f"status_{error.response.status_code}", "handshake refused") from error
        except InvalidHandshake as error:
            lost, cause = sockets[-1].lost, error.__cause__
            if isinstance(lost, OSError):
                raise network_failure(lost, connecting=False) from error
            failure = "closed" if isinstance(cause, EOFError) else "malformed"
            raise Failed(failure, f"{error}: {cause}") from error
        except OSError as error:
            raise network_failure(error, connecting=not sockets) from error


class _Conversation:
    """The texts and echoes of one open WebSocket."""

    def __init__(self, chat: Chat, websocket: _Socket, release: str) -> None:
        """Keep the client, its open WebSocket and the release that accepted it."""
        self.chat = chat
        self.journal = chat.journal
        self.websocket = websocket
        self.release = release
        self.opened = self.heard = now()
        self.pending: dict[str, Exchange] = {}
        self.expired: set[str] = set()
        self.given_up = self.leaving = False

    async def run(self) -> float:
        """Send and receive until either side closes; return the time of the close in seconds since 1970."""
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send())
            try:
                async for message in self.websocket:
                    self._receive(message)
            except ConnectionClosed:
                pass  # its code is read from the connection below
            closed_at = now()
            sender.cancel()
        self._write_down_end(closed_at)
        return closed_at

    async def _send(self) -> None:
        """Send numbered texts until the generator stops, wait for their echoes, and close."""
        for count in itertools.count(1):
            if self.chat.stopping.is_set():
                break
            text = f"client {self.chat.number} text {count}"
            self.pending[text] = self.journal.begin("echo", self.chat.number, release=self.release)
            try:
                await self.websocket.send(text)
            except ConnectionClosed:
                self.journal.forget(self.pending.pop(text))
                return
            await pause(self.chat.stopping, self.chat.settings.echo_every)
            self._expire()
            while len(self.pending) >= _MOST_UNANSWERED and not self.chat.stopping.is_set():
                await pause(self.chat.stopping, self.chat.settings.echo_every)
                self._expire()
        while self.pending:
            await asyncio.sleep(0.02)
            self._expire()
        self.leaving = True
        await self.websocket.close()

    def _receive(self, message: str | bytes) -> None:
        """Match a message with the text it answers."""
        self.heard = now()
        try:
            answer = json.loads(message)
            text = answer["message"].removeprefix("Echo: ")
            known = answer == {"message": f"Echo: {text}"}
        except (ValueError, KeyError, TypeError, AttributeError):
            known = False
        if known and text in self.pending:
            self.journal.end(self.pending.pop(text))
        elif not (known and text in self.expired):  # an expired one is already recorded as a timeout
            unasked = self.journal.begin("message", self.chat.number, release=self.release)
            self.journal.end(unasked, "wrong_body", repr(message[:200]))

    def _expire(self) -> None:
        """Record late echoes as timeouts, and drop the WebSocket if it has been silent since."""
        limit = self.chat.settings.timeout
        while self.pending:
            text, exchange = next(iter(self.pending.items()))
            if now() - exchange.started < limit:
                return
            self.expired.add(text)
            self.journal.end(self.pending.pop(text), "timeout", f"no echo of {text!r} within {limit} s")
            if self.heard < exchange.started:
                self.given_up = True
                self.websocket.transport.abort()

    def _write_down_end(self, closed_at: float) -> None:
        """Write the echoes that will never come, and the close unless the client closed."""
        code = self.websocket.close_code
        for exchange in self.pending.values():
            detail = f"closed with {code} {closed_at - exchange.started:.3f} s after the text was sent"
            self.journal.end(exchange, "cut" if code == 1006 else "crossed", detail)
        if not (self.leaving and code == 1000):
            reason = self.websocket.close_reason or (str(self.websocket.lost or "no close frame") if code == 1006 else "")
            self.journal.closed(Close(self.chat.number, closed_at, self.opened, code, reason, self.release, self.given_up))
