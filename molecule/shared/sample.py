"""What the sample project answers."""

import json
import time
from collections.abc import Callable

import httpx
from outside import PATIENCE, Site
from websockets.sync.client import ClientConnection


def patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to `ask`, asked again while it is to be: after an outage a pool takes seconds to know."""
    deadline = time.monotonic() + PATIENCE
    while "Retry-After" in (answer := ask()).headers and time.monotonic() < deadline:
        time.sleep(int(answer.headers["Retry-After"]))
    return answer.raise_for_status()


def job(site: Site, number: int | str) -> dict:
    """What the app says of a job."""
    return patiently(lambda: site.get(f"/api/jobs/{number}/")).json()


def start_job(site: Site, seconds: int) -> dict:
    """Start a job that takes `seconds`."""
    return patiently(lambda: site.post("/api/jobs/", json={"seconds": seconds})).json()


def wait_for_job(site: Site, number: int | str, state: str) -> dict:
    """Wait until a job is in `state`, as long as it gets on; return what the app says of it then."""
    seen, deadline = {}, 0.0
    while (found := job(site, number))["state"] != state:
        if found != seen:
            seen, deadline = found, time.monotonic() + PATIENCE
        assert time.monotonic() < deadline, f"for {PATIENCE} s nothing has changed in {found}"
        time.sleep(0.2)
    return found


def ready(site: Site) -> dict:
    """What each of the app's dependencies answers; nothing while the app itself does not."""
    try:
        return site.get("/readyz").json()["checks"]
    except (httpx.HTTPError, ValueError):
        return {}


def all_ready(*sites: Site) -> bool:
    """everything that every site depends on answering"""
    return all(set(checks.values()) == {"ok"} for checks in map(ready, sites))


def hear(socket: ClientConnection, kind: str, seconds: float = PATIENCE) -> dict:
    """The next message of that kind in a room."""
    while (message := json.loads(socket.recv(timeout=seconds)))["type"] != kind:
        pass
    return message


def say(socket: ClientConnection, text: str) -> None:
    """Say something in a room."""
    socket.send(json.dumps({"text": text, "name": "somebody"}))
