"""Everything on one host, and what becomes of it when a part is away."""

import time

import httpx
import pytest
from outside import wait_until
from sample import all_ready, hear, ready, say, start_job, wait_for_job
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


@pytest.mark.parametrize(
    ("unit", "check"),
    [("postgresql@17-main", "database"), ("redis-server@cache", "cache"), ("redis-server@channels", "channels")],
)
def test_what_does_not_need_a_part_works_while_it_is_away(unit, check, site, host):
    with Traffic(site.address, host=site.name, seconds=180) as traffic:
        wait_until(lambda: traffic.report().summary().echoes[1] > 50)
        with traffic.window("away"):
            host.check_output(f"systemctl stop '{unit}'")
            began = time.monotonic()
            try:
                wait_until(lambda: ready(site).get(check) == "failed")
                assert site.get("/readyz").status_code == 503
                assert site.get("/api/hello/").status_code == 200
                wait_until(lambda: time.monotonic() - began > 15)
            finally:
                host.check_output(f"systemctl start '{unit}'")
            wait_until(lambda: all_ready(site), 60)
        report = traffic.stop()
    print(report.table())
    report.assert_lossless("away")


def test_the_whole_chain_is_back_after_a_reboot(site, playbook, variables):
    release = site.release()
    playbook("../molecule/shared/reboot", lab_reboot_host=variables["inventory_hostname"])

    def answers() -> bool:
        """every part answering"""
        try:
            return site.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(answers, 90)
    assert site.release() == release
    number = start_job(site, 1)["id"]
    wait_for_job(site, number, "done", 60)


def test_a_destroyed_database_is_restored_with_every_row(site, playbook, host):
    for number in range(5):
        site.post("/api/notes/", json={"text": f"row {number}"})
    rows = "runuser -u postgres -- psql --no-align --tuples-only sample --command 'SELECT count(*), max(id) FROM showcase_note'"
    before = host.check_output(rows)
    host.check_output("systemctl start postgresql-backup@sample.service")
    host.check_output("runuser -u postgres -- psql sample --command 'TRUNCATE showcase_note'")
    assert host.check_output(rows).startswith("0|")
    playbook("restore", postgresql_server_restore_database="sample", postgresql_server_restore_confirm="sample")
    assert host.check_output(rows) == before
    wait_until(lambda: "row 4" in site.get("/api/notes/").text)
