"""A scenario's hosts from outside: their site as a visitor sees it, and playbooks as a user runs them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
# Seconds after which a wait counts as a hang, however busy the machine is; nothing is expected to take that long.
PATIENCE = 120


@dataclass(frozen=True)
class Site:
    """A host's site, from outside: through the published port, nginx and the socket."""

    port: int
    name: str = "sample.test"

    @property
    def address(self) -> str:
        """The address of the published port."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Return the response to GET `path` on a new connection; raises httpx's errors."""
        return httpx.get(self.address + path, headers={"Host": self.name, **headers}, timeout=PATIENCE)

    def post(self, path: str, **arguments: object) -> httpx.Response:
        """Return the response to POST `path`; `arguments` are those of httpx.post."""
        return httpx.post(self.address + path, headers={"Host": self.name}, timeout=PATIENCE, **arguments)

    def websocket(self, path: str = "/ws/chat/", protocols: tuple[str, ...] = (), **headers: str) -> ClientConnection:
        """Return an open WebSocket at `path`, with the origin of the site's pages; `protocols` are the subprotocols to offer."""
        # No resolver has the name, so connect by address.
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        place = f"{self.name}:{self.port}"
        options = {"origin": f"http://{place}", "additional_headers": headers, "open_timeout": PATIENCE}
        return connect(f"ws://{place}{path}", sock=connection, subprotocols=protocols or None, **options)

    def release(self) -> str:
        """Return the release that answers now."""
        return self.get("/healthz").headers["X-Release"]


class Playbooks:
    """ansible-playbook, as a user of the scenario's inventory runs it; `seconds` notes how long each run took."""

    def __init__(self, inventory: str, limit: str) -> None:
        self.inventory = inventory
        self.limit = limit
        self.seconds: list[tuple[str, float]] = []

    def __call__(self, name: str, *arguments: str, fails: bool = False, **variables: object) -> str:
        """Run playbooks/`name`.yml on the host at hand with extra `variables`; return its output."""
        began = time.monotonic()
        run = self.start(name, *arguments, **variables)
        output = run.communicate()[0]
        self.seconds.append((name, time.monotonic() - began))
        assert (run.returncode != 0) == fails, f"{name} ended with exit code {run.returncode}:\n{output}"
        return output

    def start(self, name: str, *arguments: str, **variables: object) -> subprocess.Popen:
        """Start the same run in its own process group and return the running process."""
        command = [BIN / "ansible-playbook", f"--inventory={self.inventory}", f"--limit={self.limit},localhost"]
        command += [ROOT / "playbooks" / f"{name}.yml", "--extra-vars", json.dumps(variables), *arguments]
        plain = os.environ | {"ANSIBLE_FORCE_COLOR": "0", "NO_COLOR": "1"}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=ROOT, env=plain, text=True, start_new_session=True, **pipes)


def wait_until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until `true()` is true; fail after `seconds` with the docstring of `true`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still not true after {seconds} s: {true.__doc__ or true}"
        time.sleep(0.2)
