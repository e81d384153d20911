"""The load generator, run against a server that commits known faults in known numbers."""

import asyncio
import base64
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1] / "molecule/shared"
sys.path.insert(0, str(SHARED))

from traffic import Report, Settings, Traffic
from traffic.generator import HELLO, STREAM_LINES

# For exchanges that have to time out: long enough that no other does, on a busy machine.
TIMEOUT = 3
PATIENCE = 120
# An odd number, so that each of them meets fresh and kept-alive connections in turn.
HTTP_FAULTS = ("drop", "reset", "truncate", "truncate_head", "502", "500", "delay", "wrong_body", "garbage")
FAILURE_OF = {
    "drop": "closed",
    "reset": "reset",
    "truncate": "truncated",
    "truncate_head": "truncated",
    "502": "status_502",
    "500": "status_500",
    "302": "status_302",
    "delay": "timeout",
    "wrong_body": "wrong_body",
    "garbage": "malformed",
}


class Server:
    """A site on a loopback port, in a thread, that counts the faults it commits.

    http_fault(number of the request), text_fault(text) and handshake_fault(number of the handshake) name the fault to
    commit, or "".
    """

    def __init__(self, **faults: Callable[[int], str]) -> None:
        """Keep the faults, none by default; nothing runs yet."""
        none = every(1)
        self.http_fault = faults.get("http_fault", none)
        self.text_fault = faults.get("text_fault", lambda text: "")
        self.handshake_fault = faults.get("handshake_fault", none)
        self.release = "aaaaaaaaaaaa"
        self.requests = self.texts = self.handshakes = 0
        self.committed = Counter()

    @contextmanager
    def running(self) -> Iterator["Server"]:
        """Serve inside the `with` block."""
        ready = threading.Event()
        thread = threading.Thread(target=asyncio.run, args=[self._run(ready)])
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self.over.set)
            thread.join()

    async def _run(self, ready: threading.Event) -> None:
        """Listen until `over` is set."""
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await self.over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends or a fault ends it."""
        try:
            answered = 0
            while await self._serve_one(reader, writer, answered):
                answered += 1
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test is over
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answered: int) -> bool:
        """Serve one request; return whether the connection goes on."""
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        if "upgrade" in headers:
            key = next(line for line in lines if line.lower().startswith("sec-websocket-key")).split(": ")[1]
            await self._talk(reader, writer, key)
            return False
        sent = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests += 1
        fault = self.http_fault(self.requests)
        if fault:
            stale = answered and fault in ("drop", "reset")
            self.committed["stale_reuse" if stale else FAILURE_OF[fault]] += 1
        return await self._answer(writer, request, sent, fault)

    async def _answer(self, writer: asyncio.StreamWriter, request: str, sent: bytes, fault: str) -> bool:
        """Answer, with a fault or without; return whether the connection goes on."""
        if fault == "drop":
            return False
        if fault == "reset":
            reset(writer)
            return False
        if fault == "delay":
            await asyncio.sleep(3600)
        if fault == "garbage":
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            return False
        head = f"HTTP/1.1 {fault if fault.isdigit() else 200} Status\r\nX-Release: {self.release}\r\nLocation: /\r\n"
        if fault == "truncate_head":
            writer.write(head.encode())
            return False
        if " /api/stream/" in request:
            lines = [b"line\n"] * (STREAM_LINES - (fault == "wrong_body"))
            chunks = [b"%x\r\n%b\r\n" % (len(line), line) for line in lines] + [b"0\r\n\r\n"]
            writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            writer.write(b"".join(chunks[:-1] if fault == "truncate" else chunks))
        else:
            body = b"{}" if fault == "wrong_body" else sent or json.dumps(HELLO).encode()
            writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
            writer.write(body[:-1] if fault == "truncate" else body)
        return fault != "truncate"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        """Echo the texts of a WebSocket, with faults."""
        self.handshakes += 1
        fault = self.handshake_fault(self.handshakes)
        if fault:
            self.committed[FAILURE_OF[fault]] += 1
            await self._answer(writer, "", b"", fault)
            return
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
        writer.write(f"{head}\r\nX-Release: {self.release}\r\nSec-WebSocket-Accept: {accept.decode()}\r\n\r\n".encode())
        while True:
            opcode, text = await read_frame(reader)
            if opcode == 8:
                writer.write(frame(8, text))
                return
            self.texts += 1
            fault = self.text_fault(text.decode())
            self.committed.update([fault] if fault else [])
            if fault == "1012":
                writer.write(frame(8, struct.pack("!H", 1012) + b"restart"))
                while (await read_frame(reader))[0] != 8:
                    pass
                return
            if fault == "1006":
                reset(writer)
                return
            if fault != "lost":
                answer = "garbled" if fault == "garbled" else json.dumps({"message": f"Echo: {text.decode()}"})
                writer.write(frame(1, answer.encode()))


def reset(writer: asyncio.StreamWriter) -> None:
    """Make the kernel send RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a short unmasked frame."""
    return bytes([0x80 | opcode, len(payload)]) + payload


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a short masked frame."""
    first, length = await reader.readexactly(2)
    masked = await reader.readexactly(4 + (length & 0x7F))
    return first & 0x0F, bytes(byte ^ masked[place % 4] for place, byte in enumerate(masked[4:]))


def every(nth: int, *faults: str) -> Callable[[int], str]:
    """Commit the faults in turn, one on each nth occasion."""
    return lambda number: faults[number // nth % len(faults)] if faults and number % nth == 0 else ""


def wait_until(true: Callable[[], object]) -> None:
    """Return when `true()` is; fail if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"still not true after {PATIENCE} s"
        time.sleep(0.05)


def seen(traffic: Traffic, name: str) -> bool:
    """Return whether a window has an answer of every kind."""
    counts = traffic.report().summary(name).counts
    return all(counts[kind] for kind in ("get", "post", "stream", "echo"))


def write_log(path: Path, *events: dict) -> Report:
    """Return the report of a log that holds these events after its start."""
    settings = {"rate": 0, "websockets": 0}
    path.write_text("".join(json.dumps(event) + "\n" for event in ({"event": "start", "at": 100, "settings": settings}, *events)))
    return Report(str(path))


def lost(started: float, seconds: float, kind: str = "get", **values: object) -> dict:
    """Return the event of a failed exchange."""
    return {
        "event": "exchange",
        "kind": kind,
        "number": 7,
        "started": started,
        "seconds": seconds,
        "failure": "reset",
        **values,
    }


def settled(until: float) -> dict:
    """Return the event for a log that is complete until then."""
    return {"event": "settled", "at": until, "until": until}


STOP = {"event": "stop", "at": 200, "reason": "test", "processor_seconds": 1}


def test_a_clean_server_loses_nothing(tmp_path):
    """Every request is answered and counted, for its release and its window."""
    with (
        Server().running() as server,
        Traffic(server.url, str(tmp_path / "log"), rate=80, websockets=5, echo_every=0.05) as traffic,
    ):
        with traffic.window("before"):
            wait_until(lambda: seen(traffic, "before"))
        server.release = "bbbbbbbbbbbb"
        switched = traffic.mark("switched")
        with traffic.window("after"):
            wait_until(lambda: seen(traffic, "after"))
            wait_until(lambda: any(exchange.reused for exchange in traffic.report().exchanges))
        traffic.report().assert_lossless("before", "after")
        traffic.report().assert_answers_only_from("bbbbbbbbbbbb", after=switched)
        report = traffic.stop()
    report.assert_lossless()
    summary = report.summary()
    assert report.failures == report.closes == []
    assert sum(summary.counts[kind] for kind in ("get", "post", "stream")) == server.requests
    assert summary.counts["handshake"] == server.handshakes == 5
    assert summary.echoes == (server.texts, server.texts, 0)
    assert report.releases["aaaaaaaaaaaa"].last_begun < switched < report.releases["bbbbbbbbbbbb"].last_begun
    assert "aaaaaaaaaaaa" in report.summary("before").releases
    assert any(exchange.reused for exchange in report.exchanges)
    assert "switched" in report.table() and "before" in report.table()
    with pytest.raises(AssertionError, match="answered by releases other than aaaaaaaaaaaa"):
        report.assert_answers_only_from("aaaaaaaaaaaa", after=100)


def test_every_http_fault_is_reported_as_what_it_was(tmp_path):
    """The report counts exactly the faults the server committed."""
    with (
        Server(http_fault=every(3, *HTTP_FAULTS)).running() as server,
        Traffic(server.url, str(tmp_path / "log"), rate=100, websockets=0, timeout=TIMEOUT) as traffic,
    ):
        wait_until(lambda: set(server.committed) == {*(FAILURE_OF[fault] for fault in HTTP_FAULTS), "stale_reuse"})
        report = traffic.stop()
    summary = report.summary()
    assert summary.failures == server.committed
    assert sum(summary.counts.values()) == server.requests
    with pytest.raises(AssertionError, match=f"{len(report.failures)} in all:\n.*answered by"):
        report.assert_lossless()


def test_every_websocket_fault_is_reported_as_what_it_was(tmp_path):
    """A lost or garbled echo, an orderly close and an abrupt one are counted, and the client comes back."""
    faults = {"client 1 text 10": "lost", "client 2 text 10": "1012", "client 3 text 10": "1006", "client 4 text 10": "garbled"}
    closes = {"1012": 3, "1006": 3}

    def fault(text: str) -> str:
        """Return a text's fault; a closed client starts again, and has no fault after the third time."""
        kind = faults.get(text, "")
        return kind if server.committed[kind] < closes.get(kind, 1) else ""

    with (
        Server(text_fault=fault).running() as server,
        Traffic(server.url, str(tmp_path / "log"), rate=0, websockets=5, echo_every=0.05, timeout=TIMEOUT) as traffic,
    ):
        wait_until(lambda: server.committed == {"lost": 1, "garbled": 1, **closes})
        wait_until(lambda: traffic.report().summary().failures["timeout"] == 2)
        wait_until(lambda: server.handshakes == 5 + sum(closes.values()))
        report = traffic.stop()
    summary, did = report.summary(), server.committed
    assert Counter(close.code for close in report.closes) == {1012: did["1012"], 1006: did["1006"]}
    assert {close.reason for close in report.closes} == {"restart", "[Errno 104] Connection reset by peer"}
    assert all(close.release == server.release and close.age > 0 for close in report.closes)
    # On a slow machine, more than one text is under way.
    assert summary.failures["crossed"] >= did["1012"]
    assert summary.failures["cut"] >= did["1006"]
    assert summary.failures["timeout"] == did["lost"] + did["garbled"]
    assert summary.echoes[2] == sum(summary.failures[failure] for failure in ("crossed", "cut", "timeout"))
    assert summary.failures["wrong_body"] == summary.counts["message"] == did["garbled"]
    assert summary.counts["handshake"] == server.handshakes == 5 + len(report.closes)
    assert summary.longest_down > 0.04, "no client reconnects at once"
    with pytest.raises(AssertionError, match=r"closed .* 1012 restart"):
        report.assert_lossless(tolerate=("timeout", "cut", "crossed", "wrong_body"))
    report.assert_lossless(tolerate=("timeout", "cut", "crossed", "wrong_body"), close_ok=lambda close: True)


def test_every_handshake_fault_is_reported_as_what_it_was(tmp_path):
    """A WebSocket that is refused is a failure each time, even when a later attempt succeeds."""
    faults = ("drop", "reset", "502", "302", "delay", "garbage")
    with (
        Server(handshake_fault=lambda number: faults[number - 1] if number <= len(faults) else "").running() as server,
        Traffic(server.url, str(tmp_path / "log"), rate=0, websockets=3, timeout=TIMEOUT) as traffic,
    ):
        wait_until(lambda: server.handshakes == len(faults) + 3)
        wait_until(lambda: traffic.report().summary().echoes[1])
        report = traffic.stop()
    summary = report.summary()
    assert summary.failures == server.committed
    assert summary.counts["handshake"] == server.handshakes == len(faults) + 3
    assert summary.echoes[0] == summary.echoes[1] > 0


def test_a_silent_websocket_is_given_up(tmp_path):
    """A WebSocket whose server vanished without a close does not stay open forever."""
    with (
        Server(text_fault=lambda text: "lost").running() as server,
        Traffic(server.url, str(tmp_path / "log"), rate=0, websockets=1, timeout=TIMEOUT) as traffic,
    ):
        wait_until(lambda: traffic.report().closes)
        report = traffic.stop()
    assert report.closes[0].given_up
    assert report.summary().failures["timeout"] >= 1


def test_a_port_without_a_server_refuses(tmp_path):
    """All requests and handshakes are refused, nothing else is logged, and the time limit ends the run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    traffic = Traffic(f"http://127.0.0.1:{port}", str(tmp_path / "log"), seconds=2).start()
    report = traffic.wait()
    summary = report.summary()
    assert summary.failures["connect_refused"] == sum(summary.counts.values())
    assert all(summary.counts[kind] for kind in ("get", "post", "handshake"))
    assert report.stopped == "its time is up"
    with pytest.raises(AssertionError, match="proves nothing: no success of"):
        report.assert_lossless()


def test_the_generator_ends_with_its_parent(tmp_path):
    """The load stops in an orderly way when the process that started it is killed."""
    log = tmp_path / "log"
    program = f"import traffic; traffic.Traffic('http://127.0.0.1:9', {str(log)!r}).start(); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": str(SHARED)}
    )
    process.stdout.readline()
    process.kill()
    process.wait()
    report = Report(str(log))
    wait_until(lambda: report.refresh().stopped)
    assert report.stopped == "the process that started it is gone"


def test_a_killed_generator_proves_nothing(tmp_path):
    """A log that its writer did not finish never passes an assertion."""
    with (
        Server().running() as server,
        Traffic(server.url, str(tmp_path / "log")) as traffic,
    ):
        with traffic.window("short"):
            traffic._process.kill()
        with pytest.raises(AssertionError, match=r"window 'short' is recorded only until .* crashed"):
            traffic.report().assert_lossless("short")
    with pytest.raises(AssertionError, match="the whole run is recorded only until"):
        traffic.stop().assert_lossless()


def test_a_failure_counts_in_each_window_that_it_touches(tmp_path):
    """A failure that began before the window or failed after it counts; one entirely outside does not."""
    report = write_log(
        tmp_path / "log",
        {"event": "begin", "at": 110, "name": "kill"},
        {"event": "end", "at": 120, "name": "kill"},
        lost(105, 1, number=1),
        lost(109, 2, number=2),
        lost(112, 1, number=3),
        lost(119, 10, number=4),
        lost(121, 1, number=5),
        {"event": "close", "number": 1, "at": 111, "opened": 101, "code": 1012},
        {"event": "close", "number": 1, "at": 121, "opened": 115, "code": 1006},
        {"event": "settled", "at": 130, "until": 130},
        STOP,
    )
    assert [failure.number for failure in report.failures_in("kill")] == [2, 3, 4]
    assert [close.code for close in report.closes_in("kill")] == [1012]
    assert len(report.failures) == 5 and len(report.closes) == 2
    with pytest.raises(AssertionError, match=r"window 'kill' lost something, 4 in all:\n  get 2 begun"):
        report.assert_lossless("kill")


def test_begun_before_and_after_an_instant(tmp_path):
    """Only what began before the kill may fail; a WebSocket opened after it must not be closed."""
    events = [lost(109, 5), {"event": "close", "number": 1, "at": 112, "opened": 101, "code": 1006}]
    report = write_log(tmp_path / "log", *events, STOP)
    report.assert_only_in_flight(110)
    with pytest.raises(AssertionError, match="begun after"):
        report.assert_only_in_flight(100.5)
    later = {"event": "close", "number": 1, "at": 113, "opened": 111, "code": 1006}
    with pytest.raises(AssertionError, match="WebSocket 1 to an unnamed release closed"):
        write_log(tmp_path / "log", *events, later, STOP).assert_only_in_flight(110)


def test_a_text_crosses_a_close_no_longer_than_echoes_take(tmp_path):
    """A text that waited longer than 0.25 s and than twice the slowest echo around that time was lost."""
    events = [{"event": "begin", "at": 100, "name": "close"}, {"event": "end", "at": 120, "name": "close"}]
    events += [lost(at, seconds, "echo", failure="crossed") for at, seconds in ((110, 0.2), (112, 0.7))]
    echo = {"event": "exchange", "kind": "echo", "number": 8}
    quick, slow = [*events, echo | {"started": 112, "seconds": 0.1}], [*events, echo | {"started": 111, "seconds": 0.4}]
    far = [*quick, echo | {"started": 105, "seconds": 0.4}]
    write_log(tmp_path / "log", *slow, STOP, settled(130)).assert_lossless("close", tolerate=["crossed"])
    for events in (quick, far):
        with pytest.raises(AssertionError, match=r"lost something, 1 in all:\n  echo 7 begun .*: crossed after 0\.700 s"):
            write_log(tmp_path / "log", *events, STOP, settled(130)).assert_lossless("close", tolerate=["crossed"])
    with pytest.raises(AssertionError, match="lost something, 2 in all"):
        write_log(tmp_path / "log", *slow, STOP, settled(130)).assert_lossless("close")


def test_a_window_is_judged_only_when_it_is_on_record(tmp_path):
    """An open window, or a window after the last settled instant, fails; an unknown window is an error."""
    opened = {"event": "begin", "at": 110, "name": "deploy"}
    ended = {"event": "end", "at": 120, "name": "deploy"}
    for events in ([opened], [opened, ended, {"event": "settled", "at": 121, "until": 119}]):
        with pytest.raises(AssertionError, match="is recorded only until"):
            write_log(tmp_path / "log", *events).assert_lossless("deploy")
    with pytest.raises(KeyError):
        write_log(tmp_path / "log").assert_lossless("deploi")
    write_log(tmp_path / "log", opened, ended, {"event": "settled", "at": 121, "until": 121}).assert_lossless("deploy")


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://8.8.8.8:80"},
        {"base_url": "https://127.0.0.1"},
        {"base_url": "http://127.0.0.1:80", "rate": 501},
        {"base_url": "http://127.0.0.1:80", "seconds": 1e6},
    ],
)
def test_bounds(settings):
    """Load that is unbounded or aimed at other hosts is refused."""
    with pytest.raises(ValueError):
        Settings(log="log", **settings)
