"""The share of requests: a real nginx before a real gunicorn, each full of WebSockets, event streams or requests."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from edge import Edge
from instance import Instance

WORKERS, REQUESTS, LONG = 2, 10, 60
# No more than one worker holds, because a busy machine may make the workers uneven.
ADMITTED = 60
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    """What has to be closed at the end of a test."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def serving(instance: Callable[..., Instance], request: pytest.FixtureRequest) -> Instance:
    """An instance with room for few."""
    return instance(
        request.function.__name__[:30],
        WORKERS,
        django_asgi_worker_connections=REQUESTS,
        django_asgi_worker_long_connections=LONG,
    ).start()


@pytest.fixture
def site(serving: Instance, edge: Callable[..., Edge], request: pytest.FixtureRequest) -> Callable[..., Edge]:
    """A function that makes the edge as the playbook does, with further variables."""

    def make(**variables: object) -> Edge:
        room = {"max_connections": WORKERS * REQUESTS, "upstream_long_connections": WORKERS * LONG}
        limits = {**room, "max_long_connections": ADMITTED, "max_connections_per_address": 0, **variables}
        return edge(request.function.__name__[:30], serving.path, **limits)

    return make


def under_way(edge: Edge, clients: contextlib.ExitStack, count: int, source: str = "127.0.0.1", **headers: str) -> list[int]:
    """Send so many requests that go on until `clients` is closed; return the statuses, sorted: nginx's workers take them in any order."""
    connections = [clients.enter_context(contextlib.closing(edge.request("/stuck", source, **headers))) for _ in range(count)]
    return sorted(connection.getresponse().status for connection in connections)


def test_websockets_and_event_streams_leave_requests_unharmed(site: Callable[..., Edge], clients: contextlib.ExitStack) -> None:
    edge = site()
    handshakes = [edge.websocket(clients) for _ in range(ADMITTED + 30)]
    assert Counter(status for status, _ in handshakes) == {101: ADMITTED, 503: 30}
    stream = edge.get("/stream", **EVENTS)
    refused = [headers for status, headers in handshakes if status == 503] + [stream.headers]
    assert stream.status == 503
    assert {headers["Retry-After"] for headers in refused} == {"5"}
    # The edge's own answer: no worker has seen these.
    assert not any("X-Release" in headers for headers in refused)
    assert [edge.get().status for _ in range(50)] == [200] * 50
    assert under_way(edge, clients, WORKERS * REQUESTS) == [200] * WORKERS * REQUESTS


def test_requests_leave_websockets_and_event_streams_unharmed(site: Callable[..., Edge], clients: contextlib.ExitStack) -> None:
    edge = site()
    assert under_way(edge, clients, WORKERS * REQUESTS) == [200] * WORKERS * REQUESTS
    answer = edge.get()
    assert (answer.status, answer.getheader("Retry-After"), answer.getheader("X-Release")) == (503, "5", None)
    assert [edge.websocket(clients)[0] for _ in range(ADMITTED - 1)] == [101] * (ADMITTED - 1)
    assert under_way(edge, clients, 2, **EVENTS) == [200, 503]
    assert edge.websocket(clients)[0] == 503


def test_one_address_has_budgets_of_its_own_for_both(site: Callable[..., Edge], clients: contextlib.ExitStack) -> None:
    edge = site(max_connections_per_address=4, max_long_connections_per_address=6)
    one, other = "127.0.0.2", "127.0.0.3"
    handshakes = [edge.websocket(clients, one) for _ in range(8)]
    assert [status for status, _ in handshakes] == [101] * 6 + [429] * 2
    assert {headers["Retry-After"] for _, headers in handshakes[6:]} == {"5"}
    assert edge.get("/stream", one, **EVENTS).status == 429
    assert edge.get("/", one).status == 200
    assert under_way(edge, clients, 5, one) == [200] * 4 + [429]
    assert edge.get("/", other).status == 200
    assert edge.websocket(clients, other)[0] == 101


def test_what_the_edge_lets_through_is_refused_by_the_workers(site: Callable[..., Edge], clients: contextlib.ExitStack) -> None:
    edge = site(max_long_connections=1000, upstream_long_connections=0)
    handshakes = [edge.websocket(clients) for _ in range(WORKERS * LONG + 20)]
    refused = [headers for status, headers in handshakes if status == 503]
    assert Counter(status for status, _ in handshakes)[101] <= WORKERS * LONG
    assert len(refused) >= 20
    assert {(headers["Retry-After"], headers["Content-Type"]) for headers in refused} == {("5", "text/plain; charset=utf-8")}
    assert under_way(edge, clients, WORKERS * REQUESTS) == [200] * WORKERS * REQUESTS
