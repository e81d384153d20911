"""The worker: a real gunicorn with real connections, which starts, drains and stops without losing one."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
from asgictl.probe import UnixConnection
from rendering import render
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

RELEASE = "0123456789ab"
TIMEOUT = 4
PATIENCE = 120

APP = """
import asyncio, os, pathlib, time
here = pathlib.Path(__file__).parent
try:
    (here / "first").touch(exist_ok=False)
except FileExistsError:
    while not (here / "go").exists():
        time.sleep(0.02)

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stuck" or (scope["path"] == "/stream" and not (here / "enough").exists()):
        await send({"type": "http.response.body", "body": b"tick\\n", "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"end"})
"""

# Hands the listening socket over as systemd does (sd_listen_fds(3)).
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""

HANDSHAKE = (
    b"GET /ws/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
# Frames of RFC 6455, 5.2; a client's are masked, here with zeros.
CLOSE_1012 = b"\x88\x02" + (1012).to_bytes(2)
MASKED_CLOSE = b"\x88\x82" + bytes(4) + (1012).to_bytes(2)
MASKED_TEXT = b"\x81\x82" + bytes(4) + b"Hi"


def wait_until(true: Callable[[], object], seconds: float = PATIENCE) -> object:
    """Wait for something to be true; return it. Fails when time is up."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "time is up"
        time.sleep(0.01)
    return found


class Instance:
    """A release run as its unit would: gunicorn takes over a listening socket and reports to NOTIFY_SOCKET."""

    def __init__(self, directory: Path, role: Path, workers: int, **variables: object) -> None:
        release = directory / RELEASE
        (release / "src").mkdir(parents=True)
        self.source = release / "src"
        (self.source / "project.py").write_text(APP)
        given = {"django_asgi_module": "project:app", "django_asgi_timeout": TIMEOUT, **variables}
        (release / "gunicorn.conf.py").write_text(render("django_asgi", "gunicorn.conf.py.j2", **given))
        shutil.copy(role / "files/draining_worker.py", release)
        self.path = str(directory / "app.sock")
        self.messages: list[str] = []
        self._listen_for_messages(directory / "notify")
        self._start(release / "gunicorn.conf.py", directory / "log", workers)

    def _listen_for_messages(self, path: Path) -> None:
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(path))

        def listen() -> None:
            while message := self.notify.recv(4096):
                self.messages.append(message.decode())

        threading.Thread(target=listen, daemon=True).start()

    def _start(self, config: Path, log: Path, workers: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(64)
        self.log = log
        command = [sys.executable, "-c", HAND_OVER, str(self.socket.fileno())]
        command += [sys.executable, "-m", "gunicorn", "--config", str(config)]
        variables = {
            "NOTIFY_SOCKET": self.notify.getsockname(),
            "APP_RELEASE": RELEASE,
            "WEB_CONCURRENCY": str(workers),
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=os.environ | variables, pass_fds=[self.socket.fileno()], stdout=output, stderr=output
            )

    def ready(self) -> list[str]:
        """The messages that say READY=1."""
        return [message for message in self.messages if "READY=1" in message.splitlines()]

    def start(self) -> Self:
        """Let all workers boot and return when they serve."""
        (self.source / "go").touch()
        try:
            wait_until(self.ready)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log: {self.log.read_text()}") from None
        return self

    def get(self, path: str = "/", connection: http.client.HTTPConnection | None = None) -> http.client.HTTPResponse:
        """Send a request; return the answer with its head read and its body unread."""
        connection = connection or UnixConnection(self.path, timeout=PATIENCE)
        connection.request("GET", path)
        return connection.getresponse()

    def stop(self) -> None:
        """Kill what is left of it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.notify.shutdown(socket.SHUT_RD)


@pytest.fixture(scope="module")
def instance(role: Path) -> Iterator[Callable[..., Instance]]:
    """A function that makes an instance."""
    with tempfile.TemporaryDirectory(prefix="unit") as directory, contextlib.ExitStack() as stack:

        def make(name: str, workers: int = 1, **variables: object) -> Instance:
            made = Instance(Path(directory, name), role, workers, **variables)
            stack.callback(made.stop)
            return made

        yield make


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
