"""What takes long: clients that are slow, and WebSockets that are silent."""

import json
import socket
import threading
import time

from outside import wait_until
from raw import closed_after, handshake

testinfra_hosts = ["ansible://trixie"]


def others_are_served(site) -> None:
    """Fail where another client has to wait for the slow ones, which may take four seconds each."""
    asked = time.monotonic()
    assert site.get("/api/hello/").status_code == 200
    assert time.monotonic() - asked < 4


def is_open(connection: socket.socket, drip: bytes) -> bool:
    """Send `drip`; is the other side still there?"""
    try:
        connection.settimeout(0.001)
        connection.sendall(drip)
        return connection.recv(4096) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_slow_senders_are_cut_and_nobody_else_waits(site):
    header = b"GET /healthz HTTP/1.1\r\n"
    body = b"POST /api/echo/ HTTP/1.1\r\nHost: sample.test\r\nContent-Length: 100000\r\n\r\n"
    slow = {}
    for begin, drip in [(header, b"X-Slow: 1\r\n"), (body, b"")] * 50:
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=10)
        connection.sendall(begin)
        slow[connection] = drip

    def cut() -> bool:
        """every slow sender's connection closed"""
        others_are_served(site)
        for connection in [connection for connection, drip in slow.items() if not is_open(connection, drip)]:
            del slow[connection]
            connection.close()
        return not slow

    assert not cut()
    assert len(slow) == 100, "nobody is cut at once"
    wait_until(cut)


def test_slow_readers_are_cut_and_nobody_else_waits(site, host):
    host.check_output("runuser -u sample -- truncate --size=64M /var/lib/sample/protected/large")
    slow = []
    for _ in range(40):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", site.port))
        connection.sendall(b"GET /api/download/large HTTP/1.1\r\nHost: sample.test\r\n\r\n")
        slow.append(connection)

    def left() -> int:
        """Connections that the edge still has; others' are over by then."""
        others_are_served(site)
        return int(host.check_output("ss --no-header --numeric state established '( sport = :80 )' | wc -l"))

    assert left() > 0, "nobody is cut at once"
    wait_until(lambda: left() == 0)
    # What the kernel holds is still read; the rest never comes.
    for connection in slow:
        assert closed_after(connection, 20) < 20
        connection.close()


def test_a_healthy_silent_websocket_lives_and_a_dead_one_does_not(site):
    with socket.create_connection(("127.0.0.1", site.port)) as dead:
        dead.sendall(handshake())
        ended = []
        watcher = threading.Thread(target=lambda: ended.append(closed_after(dead, 60)))
        watcher.start()
        with site.websocket() as socket_:
            time.sleep(10)
            # The edge closes after 7 s of silence; the worker's ping every 5 s, which the library answers, breaks it.
            socket_.send("Hi")
            assert json.loads(socket_.recv(timeout=10)) == {"message": "Echo: Hi"}
        watcher.join()
    # The worker's first ping, and the 5 s that it waits for an answer.
    assert 5 < ended[0] < 40
