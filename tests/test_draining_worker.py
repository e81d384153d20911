"""The worker: a real gunicorn with real connections, which starts, drains and stops without losing one."""

import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from asgictl.probe import UnixConnection
from instance import PATIENCE, RELEASE, TIMEOUT, Instance, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

HANDSHAKE = (
    b"GET /ws/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
# Frames of RFC 6455, 5.2; a client's are masked, here with zeros.
CLOSE_1012 = b"\x88\x02" + (1012).to_bytes(2)
MASKED_CLOSE = b"\x88\x82" + bytes(4) + (1012).to_bytes(2)
MASKED_TEXT = b"\x81\x82" + bytes(4) + b"Hi"


class Drain:
    """A worker that gets SIGTERM while it has a long response, an idle connection and a WebSocket."""

    def __init__(self, instance: Instance) -> None:
        stream = instance.get("/stream")
        self.worker = int(stream.getheader("X-Worker"))
        self.connection = UnixConnection(instance.path, timeout=PATIENCE)
        instance.get(connection=self.connection).read()
        self.pool = ThreadPoolExecutor()
        with unix_connect(instance.path, "ws://localhost/ws/") as websocket:
            self.handshake = websocket.response.headers
            websocket.send("Hi")
            self.echo = websocket.recv(timeout=PATIENCE)
            os.kill(self.worker, signal.SIGTERM)
            self.signalled = time.monotonic()
            self.streamed: Future = self.pool.submit(self._read, stream)
            self.answers = self._ask_on_the_kept_connection(instance)
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(timeout=PATIENCE)
            self.close_code = closed.value.rcvd.code if closed.value.rcvd else 1006
        # Long enough for gunicorn to have killed a silent worker.
        time.sleep(max(0, self.signalled + TIMEOUT + 1.5 - time.monotonic()))
        (instance.source / "enough").touch()
        self.body = self.streamed.result()
        self.replacement = wait_until(lambda: self._other_worker(instance))

    def _read(self, stream: http.client.HTTPResponse) -> bytes:
        try:
            return stream.read()
        except (OSError, http.client.HTTPException) as error:
            return repr(error).encode()

    def _ask_on_the_kept_connection(self, instance: Instance) -> list[http.client.HTTPResponse]:
        answers = []
        while not answers or answers[-1].getheader("Connection") != "close":
            assert time.monotonic() - self.signalled < PATIENCE, "the connection stays open"
            answer = instance.get(connection=self.connection)
            answer.body = answer.read()
            answers.append(answer)
        return answers

    def _other_worker(self, instance: Instance) -> int:
        answer = instance.get()
        answer.read()
        pid = int(answer.getheader("X-Worker"))
        return pid if pid != self.worker else 0


class Stuck:
    """A worker that gets SIGTERM while a response never ends."""

    def __init__(self, instance: Instance) -> None:
        stuck = instance.get("/stuck")
        self.worker = stuck.getheader("X-Worker")
        began = time.monotonic()
        instance.process.send_signal(signal.SIGTERM)
        try:
            stuck.read()
            self.cut = False
        except (OSError, http.client.HTTPException):
            self.cut = True
        self.seconds = time.monotonic() - began
        self.code = instance.process.wait(timeout=PATIENCE)
        self.log = instance.log.read_text()


@pytest.fixture(scope="module")
def drains(instance: Callable[..., Instance]) -> Iterator[tuple[Future, Future]]:
    """Drain and Stuck at the same time, because they mostly wait."""
    with ThreadPoolExecutor() as pool:
        draining = instance("drain", django_asgi_graceful_timeout=20)
        stuck = instance("stuck", django_asgi_graceful_timeout=1)
        yield pool.submit(lambda: Drain(draining.start())), pool.submit(lambda: Stuck(stuck.start()))


@pytest.fixture
def drain(drains: tuple[Future, Future]) -> Drain:
    """The results of the worker that drained."""
    return drains[0].result(timeout=2 * PATIENCE)


@pytest.fixture
def stuck(drains: tuple[Future, Future]) -> Stuck:
    """The results of the worker that was stuck."""
    return drains[1].result(timeout=2 * PATIENCE)


def test_ready_is_said_once_and_only_when_every_worker_serves(
    drains: tuple[Future, Future], instance: Callable[..., Instance]
) -> None:
    booting = instance("boot", workers=2, django_asgi_timeout=10)
    answer = booting.get()
    assert answer.read() == b"end", "the first worker serves"
    assert booting.ready() == [], "though the second does not"
    (booting.source / "go").touch()
    wait_until(booting.ready)
    assert booting.ready() == [f"READY=1\nSTATUS=2 workers serve release {RELEASE}"]
    seen = wait_until(lambda: two_workers(booting))
    assert len(seen) == 2


def two_workers(instance: Instance) -> set[str]:
    """The workers that answer, if there are two."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: instance.get(), range(16)))
    seen = {answer.getheader("X-Worker") for answer in answers}
    return seen if len(seen) == 2 else set()


def test_the_watchdog_hears_the_event_loop(drains: tuple[Future, Future], instance: Callable[..., Instance]) -> None:
    beating = instance("beat", django_asgi_timeout=2).start()
    wait_until(lambda: "WATCHDOG=1" in beating.messages)


def test_every_answer_and_handshake_names_release_and_worker(drain: Drain) -> None:
    assert drain.handshake["X-Release"] == RELEASE
    assert drain.handshake["X-Worker"] == str(drain.worker)
    assert {answer.getheader("X-Release") for answer in drain.answers} == {RELEASE}
    assert {answer.getheader("X-Worker") for answer in drain.answers} == {str(drain.worker)}
    assert drain.answers[0].getheader("Server") is None


def test_a_response_longer_than_the_timeout_ends_in_peace(drain: Drain) -> None:
    assert drain.body.endswith(b"end"), drain.body


def test_requests_on_a_kept_connection_are_answered_until_it_is_closed_with_a_word(drain: Drain) -> None:
    assert all((answer.status, answer.body) == (200, b"end") for answer in drain.answers)
    assert drain.answers[-1].getheader("Connection") == "close"


def test_a_websocket_works_and_is_closed_with_1012(drain: Drain) -> None:
    assert drain.echo == "Hi"
    assert drain.close_code == 1012


def test_a_websocket_stays_open_until_the_client_has_answered_the_close(instance: Callable[..., Instance]) -> None:
    serving = instance("answer").start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.connect(serving.path)
        client.sendall(HANDSHAKE)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += client.recv(1)
        os.kill(int(re.search(rb"x-worker: (\d+)", received, re.IGNORECASE)[1]), signal.SIGTERM)
        assert client.recv(4) == CLOSE_1012
        # Frames on their way from the client; a closed connection would refuse them, and an edge would lose the close.
        for _ in range(20):
            client.sendall(MASKED_TEXT)
            time.sleep(0.01)
        client.sendall(MASKED_CLOSE)
        assert client.recv(1) == b""
    assert "Traceback" not in serving.log.read_text()


def test_another_worker_takes_over(drain: Drain) -> None:
    assert drain.replacement != drain.worker


def test_a_response_that_never_ends_is_cut_within_the_graceful_timeout(stuck: Stuck) -> None:
    assert stuck.cut
    assert stuck.seconds >= 1
    assert f"(pid:{stuck.worker}) was sent SIGTERM" in stuck.log, stuck.log
    assert "SIGKILL" not in stuck.log, "gunicorn, which kills it later, had no need to"
    assert stuck.code == 0
