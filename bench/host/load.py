"""The client: a number of exchanges over a few kept connections, one after the other on each, from one thread.

Only the standard library; it runs on the lab host, so that no network is measured.
"""

import base64
import os
import select
import socket
import struct
import time
from dataclasses import dataclass

# Seconds of silence after which a server counts as hanging.
PATIENCE = 30
TEXT = b"Hello, this is a text that comes back."


class Failed(Exception):
    """A server did not answer as it has to; the text is what it did instead."""


class Http:
    """GET of a path on a kept connection; `host` is the Host header, `expected` a part of each answer's body."""

    def __init__(self, host: str, path: str, expected: bytes) -> None:
        self.message = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: http\r\nAccept: */*\r\n\r\n".encode()
        self.expected = expected

    def open(self, connection: socket.socket) -> None:
        """Do nothing: HTTP has no handshake."""

    def end(self, received: bytes) -> int:
        """Return how many bytes the answer has, or 0 if it is not complete; raises Failed if it is not the expected one."""
        head, mark, body = received.partition(b"\r\n\r\n")
        if not mark:
            return 0
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Failed(f"it answered {received[:300]!r}")
        fields = head.lower()
        _, counted, length = fields.partition(b"\r\ncontent-length:")
        complete = len(body) >= int(length.partition(b"\r\n")[0]) if counted else body.endswith(b"0\r\n\r\n")
        if complete and self.expected not in body:
            raise Failed(f"its body lacks {self.expected!r}: {body[:300]!r}")
        return len(received) if complete else 0

    def reusable(self, received: bytes) -> bool:
        """Whether the connection is still open after this answer."""
        return b"\r\nconnection: close" not in received.partition(b"\r\n\r\n")[0].lower()


class WebSocket:
    """A text that comes back on an open WebSocket (RFC 6455)."""

    def __init__(self, host: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.handshake = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(TEXT))
        self.message = bytes([0x81, 0x80 | len(TEXT)]) + mask + masked

    def open(self, connection: socket.socket) -> None:
        """Send the handshake and wait for 101; nothing follows that before the first text."""
        connection.sendall(self.handshake)
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = connection.recv(65536)
            answer += part
            if not part:
                break
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise Failed(f"it answered the handshake with {answer[:300]!r}")

    def end(self, received: bytes) -> int:
        """Return how many bytes there are up to the end of the text, or 0 if it is not complete; pings are passed over."""
        at = 0
        while len(received) >= at + 2:
            opcode, length, start = received[at] & 0x0F, received[at + 1] & 0x7F, at + 2
            if length == 126:
                if len(received) < start + 2:
                    return 0
                length, start = struct.unpack_from("!H", received, start)[0], start + 2
            if len(received) < start + length:
                return 0
            at = start + length
            if opcode == 1:
                if received[start:at] != TEXT:
                    raise Failed(f"it sent {received[start:at]!r} back")
                return at
            if opcode == 8:
                raise Failed("it closed the WebSocket")
        return 0

    def reusable(self, received: bytes) -> bool:
        """Whether the WebSocket is still open: yes."""
        return True


@dataclass
class Times:
    """Of one run: how long it took, how long each exchange took, and the client's own processor time, in seconds."""

    elapsed: float
    each: list[float]
    client: float


def connect(address: str | tuple[str, int], exchange: Http | WebSocket) -> socket.socket:
    """Return a connection that is ready for the first message; `address` is a Unix socket's path, or host and port."""
    connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    connection.settimeout(PATIENCE)
    connection.connect(tuple(address) if not isinstance(address, str) else address)
    if connection.family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    exchange.open(connection)
    connection.setblocking(False)
    return connection


def run(address: str | tuple[str, int], exchange: Http | WebSocket, count: int, connections: int) -> Times:
    """Do `count` exchanges over that many connections; raises Failed, or OSError if a connection can't be opened."""
    poll, open_ones, received, sent = select.epoll(), {}, {}, {}

    def send(connection: socket.socket) -> None:
        received[connection.fileno()] = b""
        sent[connection.fileno()] = time.perf_counter()
        connection.sendall(exchange.message)

    def add() -> socket.socket:
        connection = connect(address, exchange)
        open_ones[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
        return connection

    try:
        ready = [add() for _ in range(min(connections, count))]
        each: list[float] = []
        begun, spent = time.perf_counter(), time.process_time()
        for connection in ready:
            send(connection)
        left = count - len(ready)
        while len(each) < count:
            events = poll.poll(PATIENCE)
            if not events:
                raise Failed(f"it was silent for {PATIENCE} s")
            for number, _ in events:
                connection = open_ones[number]
                part = connection.recv(262144)
                received[number] += part
                if not exchange.end(received[number]):
                    if not part:
                        raise Failed(f"it closed the connection after {received[number][:300]!r}")
                    continue
                each.append(time.perf_counter() - sent[number])
                if not exchange.reusable(received[number]):
                    poll.unregister(connection)
                    open_ones.pop(number).close()
                    connection = add() if left else None
                if left:
                    left -= 1
                    send(connection)
                elif connection:
                    poll.unregister(connection)
        return Times(time.perf_counter() - begun, each, time.process_time() - spent)
    finally:
        for connection in open_ones.values():
            connection.close()
        poll.close()
