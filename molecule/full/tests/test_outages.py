"""Everything on one host, and the site during the outage of one service."""

import time
from collections.abc import Iterator

import pytest
from outside import wait_until
from sample import all_ready, hear, ready, say
from traffic import Traffic

testinfra_hosts = ["ansible://app"]


def test_everything_answers(site):
    assert set(ready(site)) == {"database", "cache", "channels", "queue"}
    wait_until(lambda: site.get("/api/status/").json()["components"]["beat"]["state"] == "ok")
    states = {name: part["state"] for name, part in site.get("/api/status/").json()["components"].items()}
    assert set(states.values()) == {"ok"}, states


def test_two_clients_on_different_workers_see_each_others_messages(site):
    sockets = [site.websocket("/ws/room/test/") for _ in range(16)]
    for socket in sockets:
        hear(socket, "live")
    say(sockets[0], "crossing")
    heard = [hear(socket, "message") for socket in sockets]
    assert {message["text"] for message in heard} == {"crossing"}
    assert len({message["through"]["worker"] for message in heard}) == 2, "the clients are on both workers"
    for socket in sockets:
        socket.close()


@pytest.fixture(scope="module")
def traffic(site) -> Iterator[Traffic]:
    """Load that needs none of the services; its report is printed at the end."""
    with Traffic(site.address, host=site.name, rate=20) as load:
        wait_until(lambda: load.report().summary().echoes[1] > 50)
        yield load
        print(load.stop().table())


@pytest.mark.parametrize(
    ("unit", "check"),
    [("postgresql@17-main", "database"), ("redis-server@cache", "cache"), ("redis-server@channels", "channels")],
)
def test_what_does_not_need_a_part_works_while_it_is_away(unit, check, site, host, traffic):
    with traffic.window(check):
        host.check_output(f"systemctl stop '{unit}'")
        began = time.monotonic()
        try:
            wait_until(lambda: ready(site).get(check) == "failed")
            assert site.get("/readyz").status_code == 503
            assert site.get("/api/hello/").status_code == 200
            # Scenario fleet tests longer outages.
            wait_until(lambda: time.monotonic() - began > 5)
        finally:
            host.check_output(f"systemctl start '{unit}'")
        wait_until(lambda: all_ready(site))
    traffic.report().assert_lossless(check)
