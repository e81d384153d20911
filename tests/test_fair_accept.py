"""Even workers: a real gunicorn whose workers share connections, whatever happens to one of them."""

import contextlib
import os
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from asgictl.probe import UnixConnection
from instance import PATIENCE, Instance, wait_until
from websockets.sync.client import unix_connect

# What the largest worker may hold, as a multiple of the mean.
EVEN = 1.15


@pytest.fixture
def clients() -> Iterator[contextlib.ExitStack]:
    """What has to be closed at the end of a test."""
    with contextlib.ExitStack() as stack:
        yield stack


def websocket(instance: Instance, clients: contextlib.ExitStack) -> str:
    """Open a WebSocket that stays open; return its worker."""
    opened = clients.enter_context(unix_connect(instance.path, "ws://localhost/ws/", close_timeout=0))
    return opened.response.headers["X-Worker"]


def kept_alive(instance: Instance, clients: contextlib.ExitStack) -> str:
    """Send a request over a connection that stays open; return its worker."""
    connection = UnixConnection(instance.path, timeout=PATIENCE)
    clients.callback(connection.close)
    answer = instance.get(connection=connection)
    answer.read()
    return answer.getheader("X-Worker")


def under_way(instance: Instance, clients: contextlib.ExitStack) -> str:
    """Send a request whose answer goes on until the connection is closed; return its worker."""
    connection = UnixConnection(instance.path, timeout=PATIENCE)
    answer = instance.get("/stuck", connection)
    clients.callback(connection.close)
    clients.callback(answer.close)
    return answer.getheader("X-Worker")


def wait_for_another(instance: Instance, known: str) -> str:
    """Return a worker other than the known one as soon as it answers; it may not have existed before."""

    def another() -> str:
        answer = instance.get()
        answer.read()
        return "" if answer.getheader("X-Worker") == known else answer.getheader("X-Worker")

    return wait_until(another)


def connect_until_even(connect: Callable[[], str], held: Counter[str], workers: int, count: int) -> None:
    """Connect `count` times; up to as many times more, because a busy machine may stop a worker for a while. Fails if uneven."""
    for number in range(2 * count):
        if number >= count and max(held.values()) <= EVEN * held.total() / workers:
            return
        held[connect()] += 1
    assert max(held.values()) <= EVEN * held.total() / workers, held


def seconds_each(connect: Callable[[], str], count: int) -> tuple[float, set[str]]:
    """Connect so many times; return the median of the seconds that it took, and the workers."""
    seconds, workers = [], set()
    for _ in range(count):
        began = time.perf_counter()
        workers.add(connect())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), workers


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("connect", [websocket, kept_alive])
def test_each_worker_holds_about_as_many_connections(
    instance: Callable[..., Instance],
    clients: contextlib.ExitStack,
    connect: Callable[[Instance, contextlib.ExitStack], str],
    workers: int,
    loop: str,
) -> None:
    serving = instance(
        f"{connect.__name__}{workers}{loop}", workers, django_asgi_loop=loop, django_asgi_keepalive=PATIENCE
    ).start()
    held: Counter[str] = Counter()
    connect_until_even(lambda: connect(serving, clients), held, workers, 30 * workers)
    assert len(held) == workers


def test_a_worker_that_lost_its_connections_gets_the_next_ones(
    instance: Callable[..., Instance], clients: contextlib.ExitStack
) -> None:
    serving = instance("lost", workers=2).start()
    opened: dict[str, list[contextlib.ExitStack]] = {}
    for _ in range(40):
        end = clients.enter_context(contextlib.ExitStack())
        opened.setdefault(websocket(serving, end), []).append(end)
    loser, other = opened
    for end in opened[loser]:
        end.close()
    held = Counter({other: len(opened[other])})
    connect_until_even(lambda: websocket(serving, clients), held, 2, 40)


def test_full_workers_leave_connections_waiting_until_one_ends(
    instance: Callable[..., Instance], clients: contextlib.ExitStack
) -> None:
    serving = instance("full", workers=2, django_asgi_worker_connections=2).start()
    first = clients.enter_context(contextlib.ExitStack())
    held = Counter([under_way(serving, first)])
    held.update(under_way(serving, clients) for _ in range(11))
    # Two, and the four by which they may be uneven.
    assert set(held.values()) == {6}
    waiting = UnixConnection(serving.path, timeout=PATIENCE)
    clients.callback(waiting.close)
    waiting.request("GET", "/")
    waiting.sock.settimeout(1)
    with pytest.raises(TimeoutError):
        waiting.sock.recv(1, socket.MSG_PEEK)
    waiting.sock.settimeout(PATIENCE)
    first.close()
    assert waiting.getresponse().read() == b"end"


def test_an_idle_connection_takes_no_place_of_a_full_worker(
    instance: Callable[..., Instance], clients: contextlib.ExitStack
) -> None:
    serving = instance("idle", django_asgi_worker_connections=2, django_asgi_keepalive=PATIENCE).start()
    for _ in range(5):
        kept_alive(serving, clients)
    assert serving.get().read() == b"end"


def test_the_replacement_of_a_killed_worker_gets_its_share(
    instance: Callable[..., Instance], clients: contextlib.ExitStack
) -> None:
    serving = instance("killed", workers=2, django_asgi_keepalive=PATIENCE).start()
    held = Counter(kept_alive(serving, clients) for _ in range(40))
    killed, left = held
    os.kill(int(killed), signal.SIGKILL)
    held[killed] = 0
    replacement = wait_for_another(serving, left)
    connect_until_even(lambda: kept_alive(serving, clients), held, 2, 40)
    assert held[replacement] > held[killed] == 0


def test_a_worker_that_sigttin_adds_gets_its_share(instance: Callable[..., Instance], clients: contextlib.ExitStack) -> None:
    serving = instance("ttin", workers=1, django_asgi_keepalive=PATIENCE).start()
    held = Counter(kept_alive(serving, clients) for _ in range(40))
    serving.process.send_signal(signal.SIGTTIN)
    added = wait_for_another(serving, next(iter(held)))
    connect_until_even(lambda: kept_alive(serving, clients), held, 2, 60)
    assert held[added]


def test_a_hung_worker_holds_nobody_back(instance: Callable[..., Instance], clients: contextlib.ExitStack) -> None:
    serving = instance("hung", workers=2, django_asgi_timeout=PATIENCE, django_asgi_keepalive=PATIENCE).start()
    usual, both = seconds_each(lambda: kept_alive(serving, clients), 100)
    hanging = UnixConnection(serving.path, timeout=PATIENCE)
    clients.callback(hanging.close)
    hanging.request("GET", "/hang")
    wait_until((serving.source / "hanging").exists)
    # A wait of all pauses for each connection would be several times as long as a connection takes.
    seconds, answering = seconds_each(lambda: kept_alive(serving, clients), 100)
    assert len(answering) == 1
    assert seconds < 3 * usual
    (serving.source / "enough").touch()
    assert hanging.getresponse().getheader("X-Worker") in both - answering
    # It's far behind now, so it gets the next ones.
    assert {kept_alive(serving, clients) for _ in range(40)} & (both - answering)
