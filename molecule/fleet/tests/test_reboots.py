"""Machines that restart, in every order: each service waits for those it depends on."""

import json

import pytest
from outside import PATIENCE, wait_until
from sample import all_ready, hear, job, ready, say, start_job

testinfra_hosts = ["ansible://web1"]


@pytest.fixture(autouse=True)
def whole(sites, beats):
    """Check after each test that the whole fleet works as before."""
    before = [site.release() for site in sites]
    yield
    wait_until(lambda: all_ready(*sites))
    assert [site.release() for site in sites] == before
    with sites[0].websocket("/ws/room/reboot/") as one, sites[1].websocket("/ws/room/reboot/") as other:
        for room in (one, other):
            hear(room, "live")
        say(one, "all is well")
        assert hear(other, "message")["text"] == "all is well"
    number = start_job(sites[0], 1)["id"]
    wait_until(lambda: job(sites[1], number)["state"] == "done")
    wait_until(lambda: beats() == ["web1"])
    wait_until(lambda: sites[1].get("/api/status/").json()["components"]["beat"]["state"] == "ok")


def test_web_hosts_recover_by_themselves_from_a_restart_of_the_data_host(sites, power):
    with sites[0].websocket() as chat:
        power("restart", "data1")
        chat.send("open all along")
        assert json.loads(chat.recv(timeout=PATIENCE)) == {"message": "Echo: open all along"}


def test_web_hosts_that_come_up_before_the_data_host_wait_for_it(sites, power):
    power("stop", "data1")
    try:
        power("restart", "web1", "web2")
        for site in sites:
            wait_until(lambda site=site: "failed" in ready(site).values())
            assert site.get("/api/hello/").status_code == 200
            assert set(ready(site).values()) == {"failed"}
            with site.websocket() as chat:
                chat.send("up without data")
                assert json.loads(chat.recv(timeout=PATIENCE)) == {"message": "Echo: up without data"}
    finally:
        power("start", "data1")
