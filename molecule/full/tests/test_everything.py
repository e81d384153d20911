"""Everything on one host: the page, rooms, jobs and data, and what becomes of them when a part is away."""

import json
import time

import httpx
import pytest
from outside import Site, wait_until
from traffic import Traffic

testinfra_hosts = ["ansible://app"]


def job(site: Site, number: int | str) -> dict:
    """What the app says of a job."""
    return site.get(f"/api/jobs/{number}/").raise_for_status().json()


def start_job(site: Site, seconds: int) -> dict:
    """Start a job that takes `seconds`."""
    return site.post("/api/jobs/", json={"seconds": seconds}).raise_for_status().json()


def ready(site: Site) -> dict:
    """What each of the app's dependencies answers."""
    return site.get("/readyz").json()["checks"]


def test_everything_answers(site):
    assert set(ready(site)) == {"database", "cache", "channels", "queue"}
    wait_until(lambda: site.get("/api/status/").json()["components"]["beat"]["state"] == "ok")
    states = {name: part["state"] for name, part in site.get("/api/status/").json()["components"].items()}
    assert set(states.values()) == {"ok"}, states


def test_each_panel_of_the_page_works(site, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(site.address)
    page.get_by_text("Hello from DRF with Uvicorn!").wait_for()
    page.fill("#chat-input", "Hi")
    page.click("#chat-send")
    page.locator("#chat-log").get_by_text("Echo: Hi").wait_for()
    page.fill("#room-input", "hello, room")
    page.click("#room-send")
    page.locator("#room-log").get_by_text("hello, room").wait_for()
    page.fill("#ask-input", "How is a release named?")
    page.click("#ask-send")
    wait_until(lambda: len(page.inner_text("#ask-answer")) > 40)
    page.fill("#job-seconds", "2")
    page.click("#job-start")
    page.locator("#job-percent").get_by_text("100").wait_for()
    page.fill("#notes-input", "a note in PostgreSQL")
    page.click("#notes-save")
    page.locator("#notes-list").get_by_text("a note in PostgreSQL").first.wait_for()
    page.click("#cache-again")
    wait_until(lambda: int(page.inner_text("#cache-hits")) >= 1)
    page.click("#queries-again")
    page.locator("#queries-database").get_by_text("PostgreSQL").wait_for()
    page.click("#outgoing-again")
    page.locator("#outgoing-list").get_by_text("200").first.wait_for()
    assert page.inner_text("#release") == site.release()
    page.close()


def test_two_clients_on_different_workers_see_each_others_messages(site):
    def hear(socket, kind: str) -> dict:
        while (message := json.loads(socket.recv(timeout=10)))["type"] != kind:
            pass
        return message

    sockets = [site.websocket("/ws/room/test/") for _ in range(16)]
    for socket in sockets:
        hear(socket, "live")
    sockets[0].send(json.dumps({"text": "crossing", "name": "one"}))
    heard = [hear(socket, "message") for socket in sockets]
    assert {message["text"] for message in heard} == {"crossing"}
    assert len({message["through"]["worker"] for message in heard}) == 2, "the clients are on both workers"
    for socket in sockets:
        socket.close()


def test_a_task_that_outlives_a_deploy_finishes_exactly_once(site, playbook, host):
    before = site.release()
    number = start_job(site, 40)["id"]
    wait_until(lambda: job(site, number)["state"] == "running")
    playbook("release", django_asgi_workers=1)
    assert site.release() != before
    new = start_job(site, 1)["id"]
    wait_until(lambda: job(site, new)["state"] == "done", 20)
    assert job(site, new)["completions"][0]["release"] == site.release(), "new tasks run on the new code"
    wait_until(lambda: job(site, number)["state"] == "done", 60)
    completions = job(site, number)["completions"]
    assert [one["release"] for one in completions] == [before], "the old worker has finished it, and nobody again"
    playbook("release")
    beats = host.check_output("systemctl list-units --plain --no-legend --state=active 'sample-beat@*'").splitlines()
    assert len(beats) == 1, beats


def test_a_killed_celery_worker_loses_no_task(site, host):
    number = start_job(site, 6)["id"]
    wait_until(lambda: job(site, number)["state"] == "running")
    host.check_output("systemctl kill --signal=KILL 'sample-celery@%s.service'", site.release())
    wait_until(lambda: job(site, number)["state"] == "done", 90)
    assert len(job(site, number)["completions"]) == 1


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
                wait_until(lambda: ready(site)[check] == "failed")
                assert site.get("/readyz").status_code == 503
                assert site.get("/api/hello/").status_code == 200
                wait_until(lambda: time.monotonic() - began > 15)
            finally:
                host.check_output(f"systemctl start '{unit}'")
            wait_until(lambda: set(ready(site).values()) == {"ok"}, 60)
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
    wait_until(lambda: job(site, number)["state"] == "done", 60)


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
