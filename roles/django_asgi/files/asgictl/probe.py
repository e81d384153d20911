"""One HTTP request or one WebSocket handshake, over a Unix socket or through the edge."""

import base64
import contextlib
import hashlib
import http.client
import os
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


@dataclass(frozen=True)
class Answer:
    """The response: `status`, or 0 and a `problem` if there was none; `said` is an error's JSON or plain text."""

    status: int
    release: str = ""
    worker: str = ""
    problem: str = ""
    said: str = ""


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class TLSConnection(http.client.HTTPSConnection):
    """An HTTPS connection to this host's own edge, reached by address, with the site's name in the handshake."""

    def __init__(self, host: str, port: int, timeout: float, name: str) -> None:
        # The address is this host's, so the certificate may be anybody's: the gate checks the release, not trust.
        super().__init__(host, port, timeout=timeout, context=ssl._create_unverified_context())
        self.name = name

    def connect(self) -> None:
        """Connect, and name the host in the handshake: an edge refuses names that are not its own."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.name)


def connection_to(target: str, timeout: float, name: str = "localhost") -> http.client.HTTPConnection:
    """A connection to `target`: the path of a Unix socket, or the address of an edge on this host that serves `name`."""
    if target.startswith("/"):
        return UnixConnection(target, timeout)
    parts = urlsplit(target)
    if parts.scheme == "https":
        return TLSConnection(parts.hostname, parts.port or 443, timeout, name)
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)


def get(target: str, path: str, headers: dict[str, str], timeout: float = 10) -> Answer:
    """GET `path` once, on a new connection."""
    return _ask(target, path, headers | {"Connection": "close"}, timeout)


def shake_hands(target: str, path: str, headers: dict[str, str], timeout: float = 10) -> Answer:
    """Open a WebSocket at `path` (RFC 6455, section 4.1) and close it again; status 101 if it was accepted."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    expected = base64.b64encode(hashlib.sha1((key + WEBSOCKET_GUID).encode()).digest()).decode()
    return _ask(target, path, headers | upgrade, timeout, accept=expected)


def _ask(target: str, path: str, headers: dict[str, str], timeout: float, accept: str | None = None) -> Answer:
    # [::1]:8443 and shop.example.org:8443 are known as ::1 and shop.example.org.
    name = urlsplit(f"//{headers.get('Host', 'localhost')}").hostname or "localhost"
    connection = connection_to(target, timeout, name)
    said = ""
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if accept is None:
            said = _said(response, response.read())
        elif response.status == 101:
            # A masked close frame, status 1000 (RFC 6455, section 5.5.1); a zero mask leaves it as it is.
            # The app may have closed the connection already, as it may once it has accepted.
            with contextlib.suppress(OSError):
                connection.sock.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, problem=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    problem = ""
    if accept is not None and response.status == 101 and response.getheader("Sec-WebSocket-Accept") != accept:
        problem = "the handshake's Sec-WebSocket-Accept is wrong"
    return Answer(response.status, response.getheader("X-Release", ""), response.getheader("X-Worker", ""), problem, said)


def _said(response: http.client.HTTPResponse, body: bytes) -> str:
    """An error's text on one line; empty for a page, which is not meant for a terminal."""
    if response.status < 400 or response.headers.get_content_type() not in ("application/json", "text/plain"):
        return ""
    return " ".join(body.decode(errors="replace").split())
