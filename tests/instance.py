"""A release's web service without a host: a real gunicorn with the role's worker, on a listening socket as systemd's."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from asgictl.probe import UnixConnection
from rendering import render

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
    if scope["path"] == "/hang":
        (here / "hanging").touch()
    while scope["path"] == "/hang" and not (here / "enough").exists():
        time.sleep(0.02)
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
        for module in role.glob("files/*.py"):
            shutil.copy(module, release)
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
