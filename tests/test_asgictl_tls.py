"""asgictl reaches an edge with TLS by address, and names the host in the handshake."""

import ssl
import subprocess
from pathlib import Path

import pytest
from asgictl.probe import get
from fake_host import A
from fake_site import serving


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's TLS context with an untrusted certificate."""
    folder: Path = tmp_path_factory.mktemp("tls")
    sign = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
    subprocess.run([*sign, "-keyout", "key", "-out", "certificate"], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("shop.example.org", "shop.example.org"),
        ("shop.example.org:8443", "shop.example.org"),
        ("127.0.0.1", None),
        ("[::1]:1", None),
    ],
)
def test_the_handshake_names_the_host_that_the_request_names(tls: ssl.SSLContext, host: str, named: str | None) -> None:
    names = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    with serving(lambda handler: handler.answer(200, A)) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        answer = get(f"https://127.0.0.1:{server.server_address[1]}", "/healthz", {"Host": host})
    assert (answer.status, answer.release, answer.problem) == (200, A, "")
    assert names == [named]


def test_an_edge_that_refuses_the_name_is_told_apart(tls: ssl.SSLContext) -> None:
    tls.sni_callback = lambda _socket, _name, _context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with serving(lambda handler: handler.answer(200, A)) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        answer = get(f"https://127.0.0.1:{server.server_address[1]}", "/healthz", {"Host": "other.example.org"})
    assert answer.status == 0
    assert "SSLError" in answer.problem
    assert "UNRECOGNIZED_NAME" in answer.problem
