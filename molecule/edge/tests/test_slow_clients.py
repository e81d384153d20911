"""Slow clients and silent WebSockets."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from outside import PATIENCE, wait_until
from raw import handshake, read_to_end

testinfra_hosts = ["ansible://trixie"]


def is_open(connection: socket.socket, drip: bytes) -> bool:
    """Send `drip`; return whether the other side is still connected."""
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
        connection = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
        connection.sendall(begin)
        slow[connection] = drip

    def cut() -> bool:
        """every slow sender's connection closed"""
        assert site.get("/api/hello/").status_code == 200
        for connection in [connection for connection, drip in slow.items() if not is_open(connection, drip)]:
            del slow[connection]
            connection.close()
        return not slow

    assert not cut()
    assert len(slow) == 100, "a later client was served while all slow ones were still connected"
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
        """Return the number of connections that the edge still has; those of other tests are closed by then."""
        assert site.get("/api/hello/").status_code == 200
        return int(host.check_output("ss --no-header --numeric state established '( sport = :80 )' | wc -l"))

    assert left() >= 40, "a later client was served while all slow ones were still connected"
    wait_until(lambda: left() == 0)
    # Data in the kernel's buffers still arrives; the rest never does.
    for connection in slow:
        assert len(read_to_end(connection)) < 64 << 20
        connection.close()


def test_a_healthy_silent_websocket_lives_and_a_dead_one_does_not(site):
    with socket.create_connection(("127.0.0.1", site.port)) as dead, ThreadPoolExecutor() as pool:
        dead.sendall(handshake())
        came = pool.submit(read_to_end, dead)
        with site.websocket() as socket_:
            time.sleep(12)
            # The edge closes after 10 s of silence; the worker's ping every 3 s, which the library answers, breaks it.
            socket_.send("Hi")
            assert json.loads(socket_.recv(timeout=PATIENCE)) == {"message": "Echo: Hi"}
    head, _, frames = came.result().partition(b"\r\n\r\n")
    assert b" 101 " in head
    assert frames.startswith(b"\x89"), "it was pinged before it was dropped"
