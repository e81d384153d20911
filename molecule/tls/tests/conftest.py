"""The site over TLS, as a visitor sees it and as the host shows it."""

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
        """A finished handshake that asks for `name`; raises ssl.SSLError. `settings` are set on the client's context."""
        context = self.context()
        for setting, value in settings.items():
            setattr(context, setting, value)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE), server_hostname=name)

    def certificate(self) -> x509.Certificate:
        """What the edge shows now."""
        with self.handshake() as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    def websocket(self) -> ClientConnection:
        """An open WebSocket over TLS."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        options = {"origin": f"https://{self.name}", "ssl": self.context(), "open_timeout": PATIENCE}
        return connect(f"wss://{self.name}/ws/chat/", sock=connection, **options)

    @staticmethod
    def context() -> ssl.SSLContext:
        """A client that trusts anybody and also speaks what nobody should any more."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context


@pytest.fixture(scope="module")
def edge(variables: dict) -> Edge:
    """The edge of the host at hand."""
    return Edge(variables["lab_https_port"])


@pytest.fixture
def ask(host) -> Callable[..., str]:
    """curl on the host, for the site by name; returns what it prints."""

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
    """The edge's part of a deploy on the host at hand."""
    return lambda *arguments, **variables: playbook("../molecule/tls/edge", *arguments, **variables)
