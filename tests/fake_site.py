"""A small threaded HTTP server, on a Unix socket or a loopback port, whose answers a test defines."""

import base64
import hashlib
import http.server
import itertools
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each GET with the server's `behaviour`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Record the request and answer it."""
        self.server.seen.append((self.path, dict(self.headers)))
        self.server.behaviour(self)

    def answer(self, status: int = 200, release: str = "", worker: str = "", body: str = "", **more: str) -> None:
        """Send a response."""
        self.send_response(status)
        length = "" if status == 101 else str(len(body))
        headers = {"X-Release": release, "X-Worker": worker, "Content-Length": length} | more
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body.encode())
        self.close_connection = True

    def accept_websocket(self, release: str = "", accept: str = "") -> None:
        """Answer a WebSocket handshake, by default as RFC 6455 requires."""
        key = self.headers.get("Sec-WebSocket-Key", "")
        right = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Accept": accept or right}
        self.answer(101, release, "1", **upgrade)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


def sound(release: str, workers: int = 2) -> Callable[[Handler], None]:
    """The answers of a sound instance's workers, in turn."""
    turn = itertools.cycle(range(1, workers + 1))

    def behaviour(handler: Handler) -> None:
        if handler.headers.get("Upgrade"):
            handler.accept_websocket(release)
        else:
            handler.answer(200, release, str(next(turn)))

    return behaviour


class UnixServer(socketserver.ThreadingUnixStreamServer):
    """A server on a Unix socket."""

    daemon_threads = True
    request_queue_size = 64


class LoopbackServer(socketserver.ThreadingTCPServer):
    """A server on a loopback port."""

    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(behaviour: Callable[[Handler], None], path: Path | None = None) -> Iterator[socketserver.BaseServer]:
    """A server in a thread, on the Unix socket `path` or on a free loopback port; its `seen` lists the requests."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    with UnixServer(str(path), Handler) if path else LoopbackServer(("127.0.0.1", 0), Handler) as server:
        server.behaviour, server.seen = behaviour, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
