"""Requests as bytes, because no client library would send them."""

import re
import socket
from collections.abc import Callable

from outside import PATIENCE

ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def exchange(port: int, request: bytes, silence: float = 0.25) -> tuple[bytes, bool]:
    """Send `request` on a new connection; return what comes back, and whether the other side closed it.

    Waits for the first byte, and then until `silence` seconds have passed without another.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(request)
            while data := connection.recv(65536):
                received += data
                connection.settimeout(silence)
        except TimeoutError:
            return received, False
        except OSError:
            pass
    return received, True


def statuses(received: bytes) -> list[int]:
    """Return the status of each response in `received`."""
    return [int(status) for status in ANSWER.findall(received)]


def handshake(path: str = "/ws/chat/", **headers: str) -> bytes:
    """Return the request that opens a WebSocket."""
    lines = {
        "Host": "sample.test",
        "Origin": "http://sample.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    } | headers
    return "\r\n".join([f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items()), "", ""]).encode()


def read_to_end(connection: socket.socket, enough: Callable[[bytes], bool] = lambda received: False) -> bytes:
    """Read `connection` until `enough(received)` or until the other side closes it; send nothing."""
    received = b""
    connection.settimeout(PATIENCE)
    try:
        while not enough(received) and (data := connection.recv(65536)):
            received += data
    except ConnectionError:
        pass
    return received
