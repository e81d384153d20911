"""What the sample project answers."""

import json

import httpx
from outside import Site, wait_until
from websockets.sync.client import ClientConnection


def job(site: Site, number: int | str) -> dict:
    """What the app says of a job."""
    return site.get(f"/api/jobs/{number}/").raise_for_status().json()


def start_job(site: Site, seconds: int) -> dict:
    """Start a job that takes `seconds`."""
    return site.post("/api/jobs/", json={"seconds": seconds}).raise_for_status().json()


def wait_for_job(site: Site, number: int | str, state: str, seconds: float) -> dict:
    """Wait until a job is in `state`; return what the app says of it then."""
    wait_until(lambda: job(site, number)["state"] == state, seconds)
    return job(site, number)


def ready(site: Site) -> dict:
    """What each of the app's dependencies answers; nothing while the app itself does not."""
    try:
        return site.get("/readyz").json()["checks"]
    except (httpx.HTTPError, ValueError):
        return {}


def all_ready(*sites: Site) -> bool:
    """everything that every site depends on answering"""
    return all(set(checks.values()) == {"ok"} for checks in map(ready, sites))


def hear(socket: ClientConnection, kind: str, seconds: float = 60) -> dict:
    """The next message of that kind in a room."""
    while (message := json.loads(socket.recv(timeout=seconds)))["type"] != kind:
        pass
    return message


def say(socket: ClientConnection, text: str) -> None:
    """Say something in a room."""
    socket.send(json.dumps({"text": text, "name": "somebody"}))
