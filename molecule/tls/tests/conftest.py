"""Fixtures for the site over TLS: its edge, curl on the host, and the edge's play."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography import x509
from outside import PATIENCE, Playbooks
from websockets.sync.client import ClientConnection, connect


@dataclass(frozen=True)
class Edge:
    """The published HTTPS port of a host."""

    port: int
    name: str = "sample.test"

    def handshake(self, name: str | None = "sample.test", **settings: object) -> ssl.SSLSocket:
        """Return the socket after a handshake for `name`, or raise ssl.SSLError; `settings` go to the client's context."""
        context = self.context()
        for setting, value in settings.items():
            setattr(context, setting, value)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE), server_hostname=name)

    def certificate(self) -> x509.Certificate:
        """Return the certificate that the edge shows now."""
        with self.handshake() as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    def websocket(self) -> ClientConnection:
        """Return an open WebSocket over TLS."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        options = {"origin": f"https://{self.name}", "ssl": self.context(), "open_timeout": PATIENCE}
        return connect(f"wss://{self.name}/ws/chat/", sock=connection, **options)

    @staticmethod
    def context() -> ssl.SSLContext:
        """Return a client's context that trusts any certificate and allows obsolete protocols and ciphers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context


@pytest.fixture(scope="module")
def edge(variables: dict) -> Edge:
    """The edge of the host under test."""
    return Edge(variables["lab_https_port"])


@pytest.fixture
def ask(host) -> Callable[..., str]:
    """ask(url, *options): run curl on the host, which resolves the site's names to itself; return its output."""

    def ask(url: str, *options: str) -> str:
        places = " ".join(
            f"--resolve {name}:{port}:127.0.0.1" for name in ("sample.test", "www.sample.test") for port in (80, 443)
        )
        return host.check_output(
            f"curl --silent --show-error --insecure --max-time {PATIENCE} {places} {' '.join(options)} {url}"
        )

    return ask


@pytest.fixture(scope="module")
def edge_play(playbook: Playbooks) -> Callable[..., str]:
    """Run the edge's part of a deploy on the host under test."""
    return lambda *arguments, **variables: playbook("../molecule/tls/edge", *arguments, **variables)
