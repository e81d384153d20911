"""The gunicorn worker of an instance: uvicorn, with a shutdown that loses nothing.

What it adds to uvicorn_worker.UvicornWorker:

* heartbeats go on while the worker drains, so gunicorn does not abort a long response at `timeout`;
* on shutdown it stops accepting, answers what still arrives on kept-alive connections with
  `Connection: close`, and only then closes what is idle: no request meets a connection that has just closed;
* a WebSocket that it closes with 1012 stays open until the client has answered: what the client sends at
  that moment meets no closed connection, which would take the close frame with it;
* the drain is bounded by gunicorn's `graceful_timeout`, which the plain worker does not pass on;
* it takes its share of the connections, and no more requests (fair_accept.py) or long connections (long_connections.py) than it
  may hold;
* systemd gets READY=1 when every worker serves (gunicorn sends it before any worker exists), and
  WATCHDOG=1 from the event loop, so a worker that hangs is silent.
"""

import asyncio
import logging
import multiprocessing
import os
import socket
import sys
from types import FrameType

from fair_accept import LEAD, FairServer
from gunicorn.arbiter import Arbiter
from long_connections import LongConnections
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

# Longer than the edge keeps an idle upstream connection, so the edge closes those first.
LAST_REQUESTS_SECONDS = 2.0
# A client that is there answers a close frame within a round trip.
CLOSE_SECONDS = 5.0
# gunicorn kills at its graceful_timeout; the worker's own drain has to end before that.
ARBITER_MARGIN_SECONDS = 5

# Removed from the environment, because gunicorn would report READY=1 before a worker exists.
_notify_socket = os.environ.pop("NOTIFY_SOCKET", None)
_workers_serving = multiprocessing.Value("i", 0)


def notify_systemd(state: str) -> None:
    """Send `state` (sd_notify(3), lines of NAME=VALUE) to systemd; without systemd, do nothing."""
    if not _notify_socket:
        return
    address = "\0" + _notify_socket[1:] if _notify_socket.startswith("@") else _notify_socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.sendall(state.encode())


def answered(protocol: type[asyncio.Protocol] | None) -> type[asyncio.Protocol] | None:
    """Return uvicorn's WebSocket protocol with a shutdown that waits for the client's close frame (RFC 6455, 7.1.1).

    Only the protocol on websockets' sans-I/O layer can wait; another one, or None without a library, is returned as it is.
    """
    if not hasattr(protocol, "stop_keepalive"):
        return protocol

    class AnsweredWebSocket(protocol):
        """A WebSocket that is closed by its client's answer, or after CLOSE_SECONDS."""

        def shutdown(self) -> None:
            """Send 1012 to client and application, and go on reading; the answer closes the connection."""
            if self.close_sent or not self.handshake_complete or self.transport.is_closing():
                super().shutdown()
                return
            self.stop_keepalive()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1012})
            self.conn.send_close(1012)
            self.transport.write(b"".join(self.conn.data_to_send()))
            # From here on uvicorn discards what arrives, refuses what the application sends, and leaves the closing to the timer.
            self.close_sent = self.disconnected = True
            self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.close)
            # Reading is paused while the application has a message to fetch, and the answer comes after that.
            self.transport.resume_reading()

    return AnsweredWebSocket


class DrainingServer(Server):
    """A uvicorn server that reports to its worker when it serves, and drains before it shuts down."""

    def __init__(self, worker: "DrainingUvicornWorker") -> None:
        super().__init__(config=worker.config)
        self.worker = worker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving on `sockets`, evenly with the other workers, then count this worker among those that serve."""
        await super().startup(sockets=[])
        self.loop = asyncio.get_running_loop()
        # uvicorn's protocols take the application from here.
        self.config.loaded_app = long = LongConnections(self.config.loaded_app, self.worker.LONG_CONNECTIONS)
        # More requests than the edge admits for each worker: even if they lie unevenly, all workers accept handshakes.
        most = self.worker.cfg.worker_connections * 10 // 9 + LEAD
        server = FairServer(sockets, self._protocol, most, long, self.config.ssl)
        self.server_state.connections = server.connections
        self.servers = [server]
        server.start()
        self.worker.serves()

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=self.loop
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept no new connection from now on; uvicorn itself checks for the signal ten times a second."""
        super().handle_exit(sig, frame)
        if self.started:
            self.loop.call_soon_threadsafe(self._stop_accepting)

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close what is left: WebSockets with 1012, idle connections without a word."""
        heartbeat = asyncio.create_task(self._beat())
        try:
            self._stop_accepting()
            self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
            deadline = self.loop.time() + LAST_REQUESTS_SECONDS
            while self._may_bring_requests() and self.loop.time() < deadline:
                await asyncio.sleep(0.05)
            # FairServer.close has closed the sockets.
            await super().shutdown()
        finally:
            heartbeat.cancel()

    def _may_bring_requests(self) -> bool:
        # Only HTTP protocols carry `cycle`; a WebSocket brings no further request.
        return any(hasattr(connection, "cycle") for connection in self.server_state.connections)

    async def _beat(self) -> None:
        while True:
            await self.worker.callback_notify()
            await asyncio.sleep(1)


class DrainingUvicornWorker(UvicornWorker):
    """UvicornWorker that drains, reports to systemd and names its release in every response.

    `gunicorn.conf.py` sets `CONFIG_KWARGS`, the arguments of `uvicorn.Config`, and `LONG_CONNECTIONS`, the number of WebSockets and
    event streams that it serves besides gunicorn's `worker_connections` requests.
    """

    LONG_CONNECTIONS = 1000

    def serves(self) -> None:
        """Report READY=1 once as many workers serve as gunicorn was told to run."""
        with _workers_serving.get_lock():
            _workers_serving.value += 1
            serving = _workers_serving.value
        if serving == self.cfg.workers:
            notify_systemd(f"READY=1\nSTATUS={serving} workers serve release {os.environ.get('APP_RELEASE', '-')}")

    async def callback_notify(self) -> None:
        """Beat for gunicorn and for systemd's watchdog; runs on the event loop, so a hung loop is silent."""
        self.notify()
        notify_systemd("WATCHDOG=1")

    async def _serve(self) -> None:
        if self.log.error_log.level == logging.INFO:
            # uvicorn logs three lines for each WebSocket; the edge's access log has one.
            logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self.config.app = self.wsgi
        if self.config.ws == "auto":
            self.config.ws = answered(AutoWebSocketsProtocol)
        self.config.timeout_graceful_shutdown = max(1, self.cfg.graceful_timeout - ARBITER_MARGIN_SECONDS)
        self.config.headers = [
            *self.config.headers,
            ("X-Release", os.environ.get("APP_RELEASE", "-")),
            ("X-Worker", str(os.getpid())),
        ]
        server = DrainingServer(self)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
