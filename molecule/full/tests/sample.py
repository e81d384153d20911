"""What the sample project says of its jobs and of what it works with."""

from outside import Site, wait_until


def job(site: Site, number: str) -> dict:
    """What the app says of a job."""
    return site.get(f"/api/jobs/{number}/").raise_for_status().json()


def start_job(site: Site, seconds: int) -> str:
    """Start a job that takes `seconds`; return its number."""
    return site.post("/api/jobs/", json={"seconds": seconds}).raise_for_status().json()["id"]


def wait_for_job(site: Site, number: str, state: str, seconds: float) -> dict:
    """Wait until a job is in `state`; return what the app says of it then."""
    wait_until(lambda: job(site, number)["state"] == state, seconds)
    return job(site, number)


def ready(site: Site) -> dict:
    """What each of the app's dependencies answers."""
    return site.get("/readyz").json()["checks"]
