"""Requests to the sample project: jobs, readiness and rooms."""

import json
import time
from collections.abc import Callable

import httpx
from outside import PATIENCE, Site
from websockets.sync.client import ClientConnection


def patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Return the answer to `ask`, repeated while it carries Retry-After: after an outage a pool needs seconds to recover."""
    deadline = time.monotonic() + PATIENCE
    while "Retry-After" in (answer := ask()).headers and time.monotonic() < deadline:
        time.sleep(int(answer.headers["Retry-After"]))
    return answer.raise_for_status()


def job(site: Site, number: int | str) -> dict:
    """Return a job as the app reports it."""
    return patiently(lambda: site.get(f"/api/jobs/{number}/")).json()


def start_job(site: Site, seconds: int) -> dict:
    """Start a job that takes `seconds` and return it."""
    return patiently(lambda: site.post("/api/jobs/", json={"seconds": seconds})).json()


def wait_for_job(site: Site, number: int | str, state: str) -> dict:
    """Wait until a job is in `state` and return it; fail if it makes no progress."""
    seen, deadline = {}, 0.0
    while (found := job(site, number))["state"] != state:
        if found != seen:
            seen, deadline = found, time.monotonic() + PATIENCE
        assert time.monotonic() < deadline, f"no change within {PATIENCE} s in {found}"
        time.sleep(0.2)
    return found


def ready(site: Site) -> dict:
    """Return the state of each of the app's dependencies; nothing while the app itself does not answer."""
    try:
        return site.get("/readyz").json()["checks"]
    except (httpx.HTTPError, ValueError):
        return {}


def all_ready(*sites: Site) -> bool:
    """Return whether every dependency of every site answers."""
    return all(set(checks.values()) == {"ok"} for checks in map(ready, sites))


def hear(socket: ClientConnection, kind: str, seconds: float = PATIENCE) -> dict:
    """Return the next message of that kind in a room."""
    while (message := json.loads(socket.recv(timeout=seconds)))["type"] != kind:
        pass
    return message


def say(socket: ClientConnection, text: str) -> None:
    """Send a text to a room."""
    socket.send(json.dumps({"text": text, "name": "somebody"}))
