"""Limits of one client, and of all clients together."""

import itertools
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from outside import PATIENCE, wait_until
from raw import exchange, handshake, read_to_end, statuses

testinfra_hosts = ["ansible://app"]

# Opens WebSockets for the clients on its command line, as the load balancer would, and counts the answers by status.
OPEN = """
import socket, sys
answers, kept = {}, []
for client in sys.argv[1:]:
    connection = socket.create_connection(("127.0.0.1", 80), timeout=120)
    connection.sendall((
        "GET /ws/chat/ HTTP/1.1\\r\\nHost: sample.test\\r\\nOrigin: http://sample.test\\r\\n"
        "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
        f"X-Forwarded-For: {client}\\r\\n\\r\\n"
    ).encode())
    kept.append(connection)
    status = connection.recv(4096).split()[1].decode()
    answers[status] = answers.get(status, 0) + 1
print(answers)
"""


@pytest.fixture(autouse=True)
def calm():
    """Wait until the rates recover that a test has used up: the bursts, divided by the rates."""
    yield
    time.sleep(160 / 60)


def test_one_address_has_so_many_websockets_and_no_more(site):
    kept = []
    try:
        for _ in range(60):
            connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
            connection.sendall(handshake())
            assert statuses(connection.recv(4096)) == [101]
            kept.append(connection)
        refused = exchange(site.port, handshake())[0]
        assert statuses(refused) == [429]
        assert b"Retry-After: 5\r\n" in refused
        assert b"<h1>Too many requests</h1>" in refused
        # Requests have a budget of their own.
        assert site.get("/api/hello/").status_code == 200
    finally:
        for connection in kept:
            connection.close()
    wait_until(lambda: statuses(exchange(site.port, handshake())[0]) == [101])


# While the WebSockets stay open: one request, then as many as fit that wait for their bodies, then one more.
ASK = """
import time
def ask(request, client, answers=True):
    time.sleep(1 / 40)  # slower than the rate
    kept.append(socket.create_connection(("127.0.0.1", 80), timeout=120))
    kept[-1].sendall(f"{request} HTTP/1.1\\r\\nHost: sample.test\\r\\nX-Forwarded-For: 198.51.100.{client}\\r\\n".encode())
    kept[-1].sendall(b"\\r\\n" if answers else b"Content-Length: 9\\r\\n\\r\\n")
    return kept[-1].recv(4096).split()[1].decode() if answers else None
print(ask("GET /api/hello/", 9))
for number in range(100):
    ask("POST /api/notes/", 10 + number % 4, answers=False)
print(ask("GET /api/hello/", 9))
"""


def test_all_addresses_together_have_so_many_websockets_and_as_many_requests_besides(host):
    clients = " ".join(f"198.51.100.{number % 4}" for number in range(110))
    websockets, *requests = host.check_output(f"python3 -c %s {clients}", OPEN + ASK).splitlines()
    assert websockets == "{'101': 90, '503': 20}"
    assert requests == ["200", "503"]


def test_the_rate_of_one_address_is_bounded(site):
    request = b"GET /healthz HTTP/1.1\r\nHost: sample.test\r\nAccept: application/json\r\n\r\n"

    def ask(count: int) -> bytes:
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as connection:
            connection.sendall(request * count)
            return read_to_end(connection, lambda received: len(statuses(received)) == count)

    began = time.monotonic()
    # In parallel they exceed the rate, even if each one is slow.
    with ThreadPoolExecutor(16) as pool:
        received = b"".join(pool.map(ask, itertools.repeat(40, 16)))
    seconds = time.monotonic() - began
    answers = statuses(received)
    assert len(answers) == 640
    assert set(answers) == {200, 429}
    # The burst, plus what the rate allows in that time.
    assert 80 <= answers.count(200) <= 82 + 40 * seconds
    assert b'"title": "Too many requests"' in received
    assert b"Retry-After: 5\r\n" in received


def test_the_rate_of_all_addresses_is_bounded(host, inside):
    script = (
        "import socket,time\n"
        "c=socket.create_connection(('127.0.0.1',80),timeout=120)\n"
        "began=time.monotonic()\n"
        "c.sendall(b''.join(b'GET /healthz HTTP/1.1\\r\\nHost: sample.test\\r\\nX-Forwarded-For: 198.51.100.%d\\r\\n\\r\\n'%(n%100)"
        " for n in range(500)))\n"
        "data=b''\n"
        "while data.count(b'HTTP/1.1 ')<500 and (part:=c.recv(65536)): data+=part\n"
        "print(data.count(b'HTTP/1.1 200'),data.count(b'HTTP/1.1 503'),data.count(b'HTTP/1.1 429'),time.monotonic()-began)"
    )
    passed, busy, many, seconds = map(float, host.check_output("python3 -c %s", script).split())
    assert passed + busy == 500
    # The burst, plus what the rate allows in that time.
    assert 160 <= passed <= 162 + 60 * seconds
    assert many == 0
    # asgictl, which follows a cut-over from the host itself, is not limited.
    assert inside("/healthz")[0] == 200
