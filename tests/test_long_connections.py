"""A worker's two budgets: a real gunicorn that is full of WebSockets and event streams, or of requests."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from asgictl.probe import UnixConnection
from instance import PATIENCE, Instance, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect

REQUESTS, LONG = 2, 5
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    """What has to be closed at the end of a test."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=["httptools", "h11"])
def serving(instance: Callable[..., Instance], request: pytest.FixtureRequest) -> Instance:
    """An instance of one worker, which has little room."""
    return instance(
        f"{request.function.__name__[:20]}-{request.param}",
        django_asgi_http=request.param,
        django_asgi_worker_connections=REQUESTS,
        django_asgi_worker_long_connections=LONG,
    ).start()


def stream(serving: Instance, clients: contextlib.ExitStack, **headers: str) -> tuple[int, dict[str, str]]:
    """Open an answer without an end; return its status and headers."""
    connection = UnixConnection(serving.path, timeout=PATIENCE)
    connection.request("GET", "/stuck", headers=headers)
    answer = connection.getresponse()
    clients.callback(connection.close)
    clients.callback(answer.close)
    return answer.status, dict(answer.getheaders())


def websocket(serving: Instance, clients: contextlib.ExitStack) -> tuple[int, dict[str, str]]:
    """Open a WebSocket; return the handshake's status and headers."""
    try:
        opened = clients.enter_context(unix_connect(serving.path, "ws://localhost/ws/", close_timeout=0))
    except InvalidStatus as refused:
        return refused.response.status_code, dict(refused.response.headers)
    opened.send("Hi")
    assert opened.recv(timeout=PATIENCE) == "Hi"
    return opened.response.status_code, dict(opened.response.headers)


def test_long_connections_take_no_place_of_a_request_and_one_too_many_is_refused(
    serving: Instance, clients: contextlib.ExitStack
) -> None:
    first = clients.enter_context(contextlib.ExitStack())
    assert websocket(serving, first)[0] == 101
    assert [websocket(serving, clients)[0] for _ in range(2)] == [101, 101]
    assert [stream(serving, clients, **EVENTS)[0] for _ in range(2)] == [200, 200]
    for status, headers in (websocket(serving, clients), stream(serving, clients, **EVENTS)):
        assert (status, {name.lower(): value for name, value in headers.items()}["retry-after"]) == (503, "5")
    # All of a worker's requests at once, beside more long connections than it has places for requests.
    assert [stream(serving, clients)[0] for _ in range(REQUESTS)] == [200] * REQUESTS
    assert serving.get().read() == b"end"
    first.close()
    wait_until(lambda: websocket(serving, clients)[0] == 101)
    assert websocket(serving, clients)[0] == 503


def test_requests_take_no_place_of_a_long_connection(serving: Instance, clients: contextlib.ExitStack) -> None:
    assert [stream(serving, clients)[0] for _ in range(REQUESTS)] == [200] * REQUESTS
    opened = [websocket(serving, clients)[0] for _ in range(LONG - 1)]
    assert [*opened, stream(serving, clients, **EVENTS)[0]] == [101] * (LONG - 1) + [200]
    assert websocket(serving, clients)[0] == 503
