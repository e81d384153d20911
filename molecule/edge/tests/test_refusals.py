"""What the edge refuses or says itself: limits, slow clients, maintenance, an application that is away."""

import json
import re
import socket
import time

import pytest
from outside import wait_until
from raw import closed_after, exchange, handshake, statuses

testinfra_hosts = ["ansible://app"]

# Opens WebSockets for the clients on its command line, as the load balancer would, and prints what each is answered.
OPEN = """
import socket, sys
answers, kept = {}, []
for client in sys.argv[1:]:
    connection = socket.create_connection(("127.0.0.1", 80), timeout=10)
    connection.sendall((
        "GET /ws/chat/ HTTP/1.1\\r\\nHost: sample.test\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
        f"X-Forwarded-For: {client}\\r\\n\\r\\n"
    ).encode())
    kept.append(connection)
    status = connection.recv(4096).split()[1].decode()
    answers[status] = answers.get(status, 0) + 1
print(answers)
"""


@pytest.fixture
def calm():
    """Let the rates of the tests before pass first."""
    time.sleep(2.2)


def test_one_address_has_so_many_websockets_and_no_more(site, calm):
    kept = []
    try:
        for _ in range(60):
            connection = socket.create_connection(("127.0.0.1", site.port), timeout=10)
            connection.sendall(handshake())
            assert statuses(connection.recv(4096)) == [101]
            kept.append(connection)
        refused = site.get("/api/hello/")
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "5"
        assert "<h1>Too many requests</h1>" in refused.text
        assert statuses(exchange(site.port, handshake())[0]) == [429]
    finally:
        for connection in kept:
            connection.close()
    wait_until(lambda: site.get("/api/hello/").status_code == 200, 10)


def test_all_addresses_together_have_so_many_and_no_more(host, calm):
    clients = " ".join(f"198.51.100.{number % 4}" for number in range(110))
    assert host.check_output(f"python3 -c %s {clients}", OPEN) == "{'101': 100, '503': 10}"


def test_the_rate_of_one_address_is_bounded(site, calm):
    request = b"GET /healthz HTTP/1.1\r\nHost: sample.test\r\nAccept: application/json\r\n\r\n"
    received, _ = exchange(site.port, request * 300, silence=2)
    answers = statuses(received)
    assert len(answers) == 300
    assert set(answers) == {200, 429}
    # The burst, and what the rate gives while it lasts.
    assert 80 <= answers.count(200) < 250
    assert b'"title": "Too many requests"' in received
    assert b"Retry-After: 5\r\n" in received


def test_the_rate_of_all_addresses_is_bounded(host, inside, calm):
    script = (
        "import socket,sys\n"
        "c=socket.create_connection(('127.0.0.1',80),timeout=3)\n"
        "c.sendall(b''.join(b'GET /healthz HTTP/1.1\\r\\nHost: sample.test\\r\\nX-Forwarded-For: 198.51.100.%d\\r\\n\\r\\n'%(n%100)"
        " for n in range(500)))\n"
        "data=b''\n"
        "try:\n"
        "  while part:=c.recv(65536): data+=part\n"
        "except OSError: pass\n"
        "print(data.count(b'HTTP/1.1 200'),data.count(b'HTTP/1.1 503'),data.count(b'HTTP/1.1 429'))"
    )
    passed, busy, many = map(int, host.check_output("python3 -c %s", script).split())
    assert passed + busy == 500
    assert busy > 50
    assert many == 0
    # asgictl, which follows a cut-over from the host itself, is not held up.
    assert inside("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"X-Slow: 1\r\n"),
        (b"POST /api/echo/ HTTP/1.1\r\nHost: sample.test\r\nContent-Length: 100000\r\n\r\n", b""),
    ],
    ids=["header", "body"],
)
def test_slow_senders_are_cut_and_nobody_else_waits(begin, drip, site, calm):
    slow = []
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        connection.sendall(begin)
        slow.append(connection)
    began = time.monotonic()
    open_after = {}
    try:
        while slow and time.monotonic() - began < 9:
            asked = time.monotonic()
            assert site.get("/api/hello/").status_code == 200
            assert time.monotonic() - asked < 1.5
            for connection in list(slow):
                try:
                    connection.settimeout(0.001)
                    if drip:
                        connection.sendall(drip)
                    gone = connection.recv(4096) == b""
                except TimeoutError:
                    gone = False
                except OSError:
                    gone = True
                if gone:
                    open_after[connection] = time.monotonic() - began
                    slow.remove(connection)
            time.sleep(0.5)
        assert not slow, f"{len(slow)} are still open"
        assert max(open_after.values()) < 8
    finally:
        for connection in (*slow, *open_after):
            connection.close()


def test_slow_readers_are_cut_and_nobody_else_waits(site, host, calm):
    host.check_output("runuser -u sample -- truncate --size=64M /var/lib/sample/protected/large")
    slow = []
    for _ in range(40):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", site.port))
        connection.sendall(b"GET /api/download/large HTTP/1.1\r\nHost: sample.test\r\n\r\n")
        slow.append(connection)
    for _ in range(8):
        asked = time.monotonic()
        assert site.get("/api/hello/").status_code == 200
        assert time.monotonic() - asked < 1.5
        time.sleep(1)
    # What the kernel holds is still read; the rest never comes.
    assert host.check_output("ss --no-header --numeric state established '( sport = :80 )' | wc -l") == "0"
    for connection in slow:
        assert closed_after(connection, 20) < 20
        connection.close()


@pytest.fixture
def closed(host):
    """The maintenance page is on, and off again whatever happens."""
    assert host.check_output("asgictl maintenance") == "sample: the site is open"
    host.check_output("asgictl maintenance on")
    yield
    host.check_output("asgictl maintenance off")


def test_maintenance_closes_the_site_at_once_and_opens_it_again(site, host, inside, playbook, calm, closed):
    page = site.get("/api/hello/")
    assert page.status_code == 503
    assert page.headers["Retry-After"] == "120"
    assert "being worked on" in page.text
    assert site.get("/", Accept="application/json").json()["title"] == "Maintenance"
    assert statuses(exchange(site.port, handshake())[0]) == [503]
    assert site.get("/readyz").status_code == 200
    assert inside("/api/hello/")[0] == 200
    assert inside("/api/hello/", **{"X-Forwarded-For": "203.0.113.9"})[0] == 200
    assert inside("/api/hello/", **{"X-Forwarded-For": "198.51.100.9"})[0] == 503
    assert site.get("/api/hello/", **{"X-Forwarded-For": "203.0.113.9"}).status_code == 503
    assert "maintenance page" in host.check_output("asgictl status")
    before = site.get("/readyz").headers["X-Release"]
    playbook("release", django_asgi_workers=1)
    assert site.get("/readyz").headers["X-Release"] != before, "a release goes on behind the page"
    playbook("rollback")
    assert json.loads(host.check_output("asgictl --json maintenance off")) == {
        "app": "sample",
        "maintenance": False,
        "changed": True,
    }
    assert site.get("/api/hello/").status_code == 200


def test_an_app_that_is_away_is_excused(site, host, calm):
    live = site.release()
    host.check_output("systemctl stop sample@%s.socket sample@%s.service", live, live)
    try:
        page = site.get("/")
        assert (page.status_code, page.headers["Retry-After"]) == (502, "5")
        assert "<h1>Back in a moment</h1>" in page.text
        assert re.search("request [0-9a-f]{32}", page.text)
        assert len(page.content) < 1500
        assert site.get("/", Accept="application/json").json()["status"] == 502
    finally:
        host.check_output("systemctl start sample@%s.service", live)
    wait_until(lambda: site.get("/healthz").status_code == 200)


def test_an_app_that_takes_too_long_is_excused(site, host, calm):
    group = f"sample@{site.release()}.service"
    host.check_output("systemctl kill --signal=STOP %s", group)
    try:
        page = site.get("/")
        assert (page.status_code, page.headers["Retry-After"]) == (504, "30")
        assert "<h1>Taking too long</h1>" in page.text
    finally:
        host.check_output("systemctl kill --signal=CONT %s", group)
    wait_until(lambda: site.get("/healthz").status_code == 200)
