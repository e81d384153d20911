"""asgictl's gate and probe, against servers that answer correctly, wrongly, late or not at all."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
import websockets
from asgictl import gate
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.gate import pass_gate, require_edge, require_static, wait_for_edge
from asgictl.probe import get, shake_hands
from asgictl.release import Release
from fake_host import A, B, put_release
from fake_site import Handler, serving, sound

# A wait that takes longer than these seconds is a hang.
PATIENCE = 120


@pytest.fixture(autouse=True)
def journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal with a recent traceback that has a secret in it."""

    def read(_unit: str, since: float) -> str:
        assert 0 < time.time() - since < 60, "an earlier attempt's messages are not this one's"
        return "ValueError: correct horse"

    monkeypatch.setattr(gate, "journal", read)


def always(status: int = 200, release: str = A, worker: str = "1") -> Callable[[Handler], None]:
    """A server that gives every request the same answer."""
    return lambda handler: handler.answer(status, release, worker)


def refusal(release: Release) -> Refused:
    """The error with which the gate refuses the release."""
    with pytest.raises(Refused) as refused:
        pass_gate(release)
    return refused.value


def test_every_worker_is_asked_before_the_gate_opens(app: App) -> None:
    release = put_release(app, A, worker_count=5)
    with serving(sound(A, workers=5), release.socket):
        passed = pass_gate(release)
    assert passed["workers"] == 5


def test_the_gate_asks_again_until_the_last_worker_has_answered(app: App) -> None:
    release = put_release(app, A, worker_count=2)
    turn = itertools.count(1)
    with serving(lambda handler: handler.answer(200, A, "1" if next(turn) < 20 else "2"), release.socket) as server:
        assert pass_gate(release)["workers"] == 2
    assert len(server.seen) >= 20


def test_a_worker_that_never_answers_fails_the_gate_at_its_deadline(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    release = put_release(app, A, worker_count=2, gate_timeout=30)
    with serving(always(), release.socket) as server:
        # The first answers have arrived, and then the gate's time is up.
        clock = SimpleNamespace(time=time.time, monotonic=lambda: 31.0 if server.seen else 0.0)
        monkeypatch.setattr(gate, "time", clock)
        refused = refusal(release)
    assert "only 1 of 2 workers answered /healthz within 30 s" in str(refused)
    assert refused.details == "ValueError: ********"


def test_the_gate_asks_as_the_edge_would(app: App) -> None:
    release = put_release(app, A, worker_count=1)
    with serving(always(), release.socket) as server:
        pass_gate(release)
    path, headers = server.seen[0]
    assert path == "/healthz"
    assert headers["Host"] == "shop.example.org"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-For"] == "127.0.0.1"


@pytest.mark.parametrize("status", [200, 204, 302])
def test_success_and_redirects_pass(app: App, status: int) -> None:
    release = put_release(app, A, worker_count=1)
    with serving(always(status), release.socket):
        assert pass_gate(release)["workers"] == 1


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_an_error_fails_the_gate_with_its_status(app: App, status: int) -> None:
    release = put_release(app, A)
    with serving(always(status), release.socket):
        refused = refusal(release)
    assert f"HTTP /healthz: the answer was {status}" in str(refused)
    assert "expected 2xx or 3xx" in str(refused)
    assert ("ALLOWED_HOSTS hold shop.example.org" in str(refused)) == (status == 400)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("application/json", ', {"database": "failed", "of": "********"}; expected'),
        ("text/plain; charset=utf-8", ', {"database": "failed", "of": "********"}; expected'),
        ("text/html", "was 503; expected"),
    ],
)
def test_what_an_error_says_is_told_without_secrets_and_no_page_is(app: App, kind: str, told: str) -> None:
    release = put_release(app, A)
    body = '{"database": "failed",\n "of": "correct horse"}'
    with serving(lambda handler: handler.answer(503, A, "1", body, Content_Type=kind), release.socket):
        assert told in str(refusal(release))


def test_the_journals_last_lines_come_along_without_secrets(app: App) -> None:
    release = put_release(app, A)
    with serving(always(500), release.socket):
        assert refusal(release).details == "ValueError: ********"


def test_one_bad_worker_of_several_is_enough(app: App) -> None:
    release = put_release(app, A, worker_count=4)
    turn = itertools.count()
    with serving(lambda handler: handler.answer(500 if (n := next(turn)) % 4 == 3 else 200, A, str(n % 4)), release.socket):
        assert "the answer was 500" in str(refusal(release))


def test_an_answer_from_another_release_fails_the_gate(app: App) -> None:
    release = put_release(app, A)
    with serving(sound(B), release.socket):
        assert f"from release {B}" in str(refusal(release))


def test_a_socket_that_nobody_serves_fails_the_gate(app: App) -> None:
    assert "FileNotFoundError" in str(refusal(put_release(app, A)))


def test_a_connection_that_is_closed_without_an_answer_fails_the_gate(app: App) -> None:
    release = put_release(app, A)
    with serving(lambda handler: setattr(handler, "close_connection", True), release.socket):
        assert "RemoteDisconnected" in str(refusal(release))


def test_an_answer_that_never_comes_fails_the_gate_at_its_deadline(app: App) -> None:
    release = put_release(app, A, worker_count=1, gate_timeout=0.4)
    over = threading.Event()
    began = time.monotonic()
    with serving(lambda _handler: over.wait(PATIENCE), release.socket):
        refused = refusal(release)
        assert 0.4 <= time.monotonic() - began < PATIENCE
        over.set()
    assert "timed out" in str(refused)


def test_a_worker_class_that_does_not_tell_its_pid_needs_one_good_answer(app: App) -> None:
    release = put_release(app, A, worker_count=8)
    with serving(always(release="", worker=""), release.socket):
        assert pass_gate(release)["workers"] == 1


def test_without_a_websocket_path_no_handshake_is_tried(app: App) -> None:
    release = put_release(app, A, worker_count=1)
    with serving(always(), release.socket) as server:
        pass_gate(release)
    assert not any("Upgrade" in headers for _, headers in server.seen)


def test_a_handshake_carries_what_the_consumer_requires(app: App) -> None:
    asked = {
        "websocket_path": "/ws/",
        "websocket_subprotocol": "chat.v2",
        "websocket_headers": {"Authorization": "Token $PASSWORD"},
    }
    release = put_release(app, A, worker_count=1, **asked)
    with serving(websocket(lambda handler: handler.accept_websocket(A)), release.socket) as server:
        pass_gate(release)
    headers = server.seen[-1][1]
    assert (headers["Sec-WebSocket-Protocol"], headers["Authorization"]) == ("chat.v2", "Token correct horse")


def test_a_refusal_of_the_apps_own_can_be_proof_enough(app: App) -> None:
    release = put_release(app, A, worker_count=1, websocket_path="/ws/", websocket_status=403)
    with serving(websocket(lambda handler: handler.answer(403, A)), release.socket):
        pass_gate(release)


def test_a_websocket_that_opens_although_a_refusal_is_expected_fails_the_gate(app: App) -> None:
    release = put_release(app, A, worker_count=1, websocket_path="/ws/", websocket_status=403)
    with serving(websocket(lambda handler: handler.accept_websocket(A)), release.socket):
        assert "the answer was 101; expected 403" in str(refusal(release))


@pytest.mark.parametrize(("expected", "status"), [(401, 401), (0, 302)])
def test_a_health_check_may_answer_with_the_status_asked_for(app: App, expected: int, status: int) -> None:
    release = put_release(app, A, worker_count=1, health_status=expected)
    with serving(always(status), release.socket):
        pass_gate(release)


@pytest.mark.parametrize(("expected", "status"), [(401, 200), (0, 404)])
def test_another_status_of_the_health_check_fails_the_gate(app: App, expected: int, status: int) -> None:
    release = put_release(app, A, worker_count=1, health_status=expected)
    with serving(always(status), release.socket):
        assert f"the answer was {status}; expected {expected or '2xx or 3xx'}" in str(refusal(release))


def test_the_websocket_gate_opens_the_path_asked_for(app: App) -> None:
    release = put_release(app, A, worker_count=1, websocket_path="/ws/chat/")
    with serving(sound(A, workers=1), release.socket) as server:
        pass_gate(release)
    path, headers = server.seen[-1]
    assert (path, headers["Upgrade"], headers["Host"]) == ("/ws/chat/", "websocket", "shop.example.org")


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", "shop.example.org", "https://shop.example.org"),
        ("http", "shop.example.org", "http://shop.example.org"),
        ("https", "shop.example.org:8443", "https://shop.example.org:8443"),
        ("http", "[::1]:8080", "http://[::1]:8080"),
        ("https", "Shop.example.org:443", "https://shop.example.org"),
        ("http", "shop.example.org:80", "http://shop.example.org"),
    ],
)
def test_the_handshake_names_the_origin_that_a_page_of_the_site_has(app: App, scheme: str, host: str, origin: str) -> None:
    asked = {"health_host": host, "health_scheme": scheme, "websocket_path": "/ws/chat/"}
    release = put_release(app, A, worker_count=1, **asked)
    with serving(websocket(pages_of(origin)), release.socket) as server:
        pass_gate(release)
    *requests, (_, handshake) = server.seen
    assert handshake["Host"] == host
    assert not any("Origin" in headers for _, headers in requests), "a browser sends none when it loads a page"


def test_an_app_that_refuses_the_gates_origin_is_told_which_one_it_was(app: App) -> None:
    release = put_release(app, A, worker_count=1, websocket_path="/ws/")
    with serving(websocket(pages_of("https://other.example.org")), release.socket):
        found = str(refusal(release))
    assert "403 (the gate's Origin is https://shop.example.org, and it is not logged in; if that is why, " in found
    assert "django_asgi_websocket_status: 403" in found


def pages_of(origin: str) -> Callable[[Handler], None]:
    """An app that opens WebSockets for pages of one origin only, as AllowedHostsOriginValidator of Channels does."""
    return lambda handler: handler.accept_websocket(A) if handler.headers.get("Origin") == origin else handler.answer(403, A)


def websocket(answer: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """A server that is sound over HTTP and answers handshakes this way."""
    return lambda handler: answer(handler) if handler.headers.get("Upgrade") else handler.answer(200, A, "1")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda handler: handler.answer(403, A), "the answer was 403"),
        (lambda handler: handler.answer(200, A), "the answer was 200"),
        (
            lambda handler: handler.accept_websocket(A, accept="bm9uc2Vuc2U="),
            "the handshake's Sec-WebSocket-Accept is wrong",
        ),
        (lambda handler: handler.accept_websocket(B), f"the answer was 101 from release {B}"),
        (lambda handler: setattr(handler, "close_connection", True), "RemoteDisconnected"),
    ],
)
def test_a_refused_or_false_handshake_fails_the_gate(app: App, answer: Callable, found: str) -> None:
    release = put_release(app, A, worker_count=1, websocket_path="/ws/")
    with serving(websocket(answer), release.socket):
        refused = refusal(release)
    assert f"WebSocket /ws/: {found}" in str(refused)
    assert "expected 101" in str(refused)


def test_an_app_that_accepts_and_closes_at_once_passes(app: App) -> None:
    release = put_release(app, A, worker_count=1, websocket_path="/ws/")
    with serving(websocket(lambda handler: handler.accept_websocket(A)), release.socket):
        assert pass_gate(release)["workers"] == 1


class RealWebSocketServer:
    """A server made with `websockets`, which is strict about the protocol, on a Unix socket in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closed: list[int] = []
        self.ready, self.over = threading.Event(), threading.Event()

    async def _handle(self, connection: websockets.ServerConnection) -> None:
        await connection.wait_closed()
        self.closed.append(connection.close_code)
        self.over.set()

    async def _serve(self) -> None:
        async with websockets.unix_serve(self._handle, str(self.path)):
            self.ready.set()
            while not self.stop:
                await asyncio.sleep(0.01)

    def __enter__(self) -> Self:
        self.stop = False
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.thread.start()
        assert self.ready.wait(PATIENCE)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop = True
        self.thread.join()


@pytest.fixture
def real(short_path: Path) -> Iterator[RealWebSocketServer]:
    """A running RealWebSocketServer."""
    with RealWebSocketServer(short_path / "real.sock") as server:
        yield server


def test_the_probe_opens_and_closes_a_real_websocket_properly(real: RealWebSocketServer) -> None:
    answer = shake_hands(str(real.path), "/ws/", {"Host": "shop.example.org"})
    assert (answer.status, answer.problem) == (101, "")
    assert real.over.wait(PATIENCE)
    assert real.closed == [1000]


def test_a_plain_request_to_a_websocket_is_no_handshake(real: RealWebSocketServer) -> None:
    assert get(str(real.path), "/ws/", {}).status == 426


@pytest.fixture
def release(app: App) -> Release:
    """A release behind an edge."""
    return put_release(app, A)


def edge_of(server: object) -> str:
    """The address of a fake edge."""
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_the_edge_has_settled_when_it_answered_from_the_release_alone(release: Release) -> None:
    with serving(always()) as edge:
        assert wait_for_edge(release, edge_of(edge), alone=0.2, timeout=PATIENCE) >= 0.2
    assert len(edge.seen) > 3
    assert edge.seen[0][1]["Host"] == "shop.example.org"


def test_an_edge_that_alternates_between_releases_has_not_settled(release: Release) -> None:
    turn = itertools.chain([A, A, B] * 5, itertools.repeat(A))
    last_of_the_old = []

    def behaviour(handler: Handler) -> None:
        name = next(turn)
        if name == B:
            last_of_the_old.append(time.monotonic())
        handler.answer(200, name, "1")

    with serving(behaviour) as edge:
        wait_for_edge(release, edge_of(edge), alone=0.2, timeout=PATIENCE)
    assert len(last_of_the_old) == 5
    assert time.monotonic() - last_of_the_old[-1] >= 0.2


def test_a_worker_class_that_does_not_tell_its_release_is_given_time(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "EDGE_CONNECTION_SECONDS", 0.2)
    turn = itertools.chain([(200, B), (502, ""), (200, "")], itertools.repeat((200, "")))
    with serving(always(release=""), release.socket), serving(lambda handler: handler.answer(*next(turn), "")) as edge:
        assert wait_for_edge(release, edge_of(edge), alone=0, timeout=PATIENCE) >= 0.2
    assert len(edge.seen) > 4


def test_an_edge_that_stays_with_the_old_release_is_named(release: Release) -> None:
    with serving(always(release=B)) as edge, pytest.raises(Refused) as refused:
        wait_for_edge(release, edge_of(edge), alone=0.1, timeout=0.3)
    assert edge_of(edge) in str(refused.value)
    assert f"status 200, release '{B}'" in str(refused.value)


def test_an_edge_that_does_not_answer_is_refused_before_the_switch(release: Release) -> None:
    with serving(always()) as edge:
        require_edge(release, edge_of(edge))
        gone = edge_of(edge)
    with pytest.raises(Refused, match="does not answer"):
        require_edge(release, gone)


def test_an_edge_that_answers_with_an_error_is_still_an_edge(release: Release) -> None:
    with serving(always(502, release="")) as edge:
        require_edge(release, edge_of(edge))


@pytest.mark.parametrize(("url", "status", "refused"), [("/static/", 200, False), ("/static/", 404, True), ("", 404, False)])
def test_the_edge_has_to_send_a_static_file_of_the_release(app: App, url: str, status: int, refused: bool) -> None:
    release = put_release(app, A, static={"css/a b.css": "a {}"}, static_url=url)
    with serving(always(status)) as edge:
        if refused:
            with pytest.raises(Refused, match=r"does not send /static/css/a%20b\.css, a static file .*: the answer was 404\."):
                require_static(release, edge_of(edge))
        else:
            require_static(release, edge_of(edge))
    assert [path for path, _ in edge.seen] == (["/static/css/a%20b.css"] if url else [])


def test_a_release_without_static_files_asks_for_none(app: App) -> None:
    release = put_release(app, A, static={".keep": ""}, static_url="/static/")
    with serving(always(404)) as edge:
        require_static(release, edge_of(edge))
    assert edge.seen == []


def test_the_edge_is_asked_below_the_sites_prefix_and_the_app_without_it(app: App) -> None:
    release = put_release(app, A, static={"site.css": "a {}"}, static_url="/static/", path_prefix="/shop", worker_count=1)
    with serving(always(), release.socket) as socket, serving(always()) as edge:
        pass_gate(release)
        require_edge(release, edge_of(edge))
        wait_for_edge(release, edge_of(edge), alone=0, timeout=PATIENCE)
        require_static(release, edge_of(edge))
    assert {path for path, _ in socket.seen} == {"/healthz"}
    assert {path for path, _ in edge.seen} == {"/shop/healthz", "/shop/static/site.css"}
