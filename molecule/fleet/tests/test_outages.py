"""Outages of PostgreSQL and Redis, restarts of PostgreSQL and a full disk, under load on both hosts."""

import contextlib
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
from outside import wait_until
from sample import all_ready, hear, job, patiently, ready, say, start_job
from traffic import Traffic
from websockets.sync.client import ClientConnection

testinfra_hosts = ["ansible://web1"]

# Longer than any wait for an answer: connection and pool 3 s, beat 5 s.
OUTAGE_SECONDS = 25
POSTGRESQL = "postgresql@17-main.service"
REDIS = [f"redis-server@{name}.service" for name in ("cache", "channels", "queue")]


@pytest.fixture(scope="module")
def traffic(sites) -> Iterator[list[Traffic]]:
    """Load on both hosts that needs neither PostgreSQL nor Redis; its reports are printed at the end."""
    with contextlib.ExitStack() as stack:
        loads = [Traffic(site.address, host=site.name, rate=15, websockets=5) for site in sites]
        for load in loads:
            stack.enter_context(load)
        wait_until(lambda: all(load.report().summary().echoes[1] > 20 for load in loads))
        yield loads
        for load in loads:
            print(load.stop().table())


@pytest.fixture
def away(traffic, hosts, sites) -> Callable[..., contextlib.AbstractContextManager]:
    """with away(name, *units): stop the units for OUTAGE_SECONDS, restart them, and check that the load lost nothing."""

    @contextlib.contextmanager
    def outage(name: str, *units: str) -> Iterator[None]:
        with contextlib.ExitStack() as windows:
            for load in traffic:
                windows.enter_context(load.window(name))
            began = time.monotonic()
            hosts["data1"].check_output("systemctl stop " + " ".join(units))
            try:
                yield
                wait_until(lambda: time.monotonic() - began > OUTAGE_SECONDS)
            finally:
                hosts["data1"].check_output("systemctl start " + " ".join(units))
            wait_until(lambda: all_ready(*sites))
        for load in traffic:
            load.report().assert_lossless(name)

    return outage


@pytest.fixture
def rooms(sites) -> Iterator[list[ClientConnection]]:
    """A WebSocket in the same room on each host."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(site.websocket("/ws/room/outage/")) for site in sites]
        for socket in sockets:
            hear(socket, "live")
        yield sockets


def failing(site) -> set[str]:
    """Return the dependencies that /readyz reports as failed."""
    return {name for name, state in ready(site).items() if state == "failed"}


def crosses(rooms: list[ClientConnection], text: str) -> bool:
    """Return whether a message reaches the other host; a channel layer delivers at most once."""
    say(rooms[0], text)
    try:
        return hear(rooms[1], "message", seconds=3)["text"] == text
    except TimeoutError:
        return False


def test_a_while_without_postgresql(away, sites, rooms, playbook):
    running = start_job(sites[0], 20)["id"]
    before = [site.release() for site in sites]
    with away("without PostgreSQL", POSTGRESQL):
        for site in sites:
            wait_until(lambda site=site: failing(site) == {"database"})
            assert site.get("/readyz").status_code == 503
            refused = site.post("/api/notes/", json={"text": "nowhere to go"})
            assert (refused.status_code, refused.json()["detail"][:28]) == (503, "The database does not answer")
        say(rooms[0], "rooms need no database")
        assert hear(rooms[1], "message")["text"] == "rooms need no database"
        output = playbook("release", fails=True, django_asgi_workers=1)
    # Ansible breaks long lines.
    said = " ".join(output.split())
    assert "port 5432 failed: Connection refused" in said
    assert "Check that the server runs" in said
    assert "Traceback" not in output
    for site, release in zip(sites, before, strict=True):
        assert said.count(f"Release {release} goes on serving") >= 2
        assert site.release() == release
        patiently(lambda site=site: site.post("/api/notes/", json={"text": "somewhere to go"}))
    wait_until(lambda: job(sites[1], running)["state"] == "done")
    assert len(job(sites[1], running)["completions"]) == 1


def test_a_while_without_redis(away, sites, rooms):
    with away("without Redis", *REDIS):
        for site, room in zip(sites, rooms, strict=True):
            while hear(room, "live")["live"]:
                pass
            wait_until(lambda site=site: failing(site) == {"cache", "channels", "queue"})
            assert site.get("/readyz").status_code == 503
            assert site.post("/api/notes/", json={"text": "notes need no Redis"}).status_code == 201
            assert site.get("/api/cache/").raise_for_status().json()["available"] is False
        waiting = start_job(sites[0], 1)
        assert "begins when it is back" in waiting["detail"]
    for room in rooms:
        while not hear(room, "live")["live"]:
            pass
    wait_until(lambda: crosses(rooms, "the same WebSockets as before"))
    wait_until(lambda: job(sites[1], waiting["id"])["state"] == "done")
    assert len(job(sites[1], waiting["id"])["completions"]) == 1


@pytest.mark.parametrize("how", ["restart", "kill --signal=KILL"])
def test_postgresql_restarted_under_load_loses_no_acknowledged_write(how, sites, hosts, sql):
    mark, stop, acknowledged = uuid.uuid4().hex, threading.Event(), []

    def write(writer: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            text = f"{mark} {writer} {number}"
            with contextlib.suppress(httpx.HTTPError):
                if sites[writer % 2].post("/api/notes/", json={"text": text}).status_code == 201:
                    acknowledged.append(text)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: len(acknowledged) > 50)
        since = sql("select pg_postmaster_start_time()")
        hosts["data1"].check_output(f"systemctl {how} {POSTGRESQL}")
        enough = len(acknowledged) + 50
        wait_until(lambda: len(acknowledged) > enough)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert sql("select pg_postmaster_start_time()") != since
    stored = Counter(sql(f"select text from showcase_note where text like '{mark} %'"))
    assert [text for text in acknowledged if stored[text] != 1] == []
    assert set(stored.values()) == {1}, "no write is stored twice"


@pytest.fixture
def small_disk(hosts, sites) -> Iterator[str]:
    """The databases' directory, on a disk of 400 MB during a test; afterwards its changes are gone."""
    disk, run = "/var/lib/postgresql", hosts["data1"].check_output
    run(
        f"systemctl stop {POSTGRESQL} && mount -t tmpfs -o size=400M tmpfs /mnt && cp --archive {disk}/. /mnt/"
        f" && mount --bind /mnt {disk} && umount /mnt && systemctl start {POSTGRESQL}"
    )
    wait_until(lambda: all_ready(*sites))
    yield disk
    run(f"systemctl stop {POSTGRESQL} && umount {disk} && systemctl start {POSTGRESQL}")
    wait_until(lambda: all_ready(*sites))


def test_postgresql_goes_on_when_a_full_disk_has_room_again(sites, hosts, sql, small_disk):
    run, mark, acknowledged = hosts["data1"].check_output, uuid.uuid4().hex, []
    log = "/var/log/postgresql/postgresql-17-main.log"
    lines = int(run(f"wc --lines <{log}"))

    def write() -> int:
        answer = sites[0].post("/api/notes/", json={"text": f"{mark} ".ljust(200, ".")})
        if answer.status_code == 201:
            acknowledged.append(answer.json()["id"])
        return answer.status_code

    rest = f"$(df --output=avail {small_disk} | tail -n 1)K"
    run(f"fallocate --length={rest} {small_disk}/filler; cat /dev/zero >{small_disk}/rest || true")
    try:
        # Existing pages may have room left.
        wait_until(lambda: write() == 503 and "No space left on device" in run(f"tail --lines=+{lines + 1} {log}"))
        assert sites[1].get("/api/hello/").status_code == 200
    finally:
        run(f"rm -f {small_disk}/filler {small_disk}/rest")
    wait_until(lambda: write() == 201)
    assert [int(line) for line in sql(f"select id from showcase_note where text like '{mark}%' order by id")] == acknowledged
