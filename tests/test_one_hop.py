"""Sync views in one hop: the same answers as from Django's own handler, in few threads, each with its database connection."""

import asyncio
import contextlib
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import django
import pytest
from django.conf import settings

STORAGE = tempfile.TemporaryDirectory(prefix="unit")
STOCK = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    f"{__name__}.Own",
]
settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["localhost"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    USE_I18N=True,
    LANGUAGES=[("en", "English"), ("de", "Deutsch")],
    MIDDLEWARE=STOCK,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MESSAGE_STORAGE="django.contrib.messages.storage.cookie.CookieStorage",
    DATA_UPLOAD_MAX_MEMORY_SIZE=2000,
    FILE_UPLOAD_MAX_MEMORY_SIZE=1000,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{STORAGE.name}/db", "CONN_MAX_AGE": 60}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    LOGGING_CONFIG=None,
)
django.setup()

from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async
from django.conf.urls.i18n import i18n_patterns
from django.core import signals
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler
from django.db import connection, connections
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import override_settings
from django.urls import path, re_path, reverse
from django.utils import translation
from django.utils.functional import lazy
from django.views.decorators.csrf import csrf_exempt
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as some
from one_hop import OneHopHandler, Threads, install
from test_draining_worker import Instance

PATIENCE = 60
LARGE = Path(STORAGE.name, "large")
LARGE.write_bytes(bytes(range(256)) * 1000)


class Own:
    """Changes the URLconf, answers one exception, and changes a template's response."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: object) -> object:
        if "HTTP_X_OTHER" in request.META:
            request.urlconf = (path("other/", other), path("other-async/", other_async))
        response = self.get_response(request)
        response["X-Route"] = str(request.resolver_match and request.resolver_match.route)
        return response

    def process_exception(self, request: object, error: Exception) -> object:
        return HttpResponse("caught", status=418) if isinstance(error, LookupError) else None

    def process_template_response(self, request: object, response: object) -> object:
        response.context_data["word"] = "changed"
        return response


def other(request: object) -> object:
    return HttpResponse("other")


async def other_async(request: object) -> object:
    await asyncio.sleep(0)
    return HttpResponse("other, async")


@csrf_exempt
def echo(request: object, word: str = "") -> object:
    # A token of CSRF is random.
    plain = (str, int, bool)
    meta = {key: value for key, value in request.META.items() if isinstance(value, plain) and not key.startswith("CSRF_")}
    return JsonResponse(
        {
            "word": word,
            "meta": meta,
            "uri": request.build_absolute_uri(),
            "get": request.GET.dict(),
            "cookies": request.COOKIES,
            "body": request.body.hex(),
            "prefix": reverse("echo"),
            "language": translation.get_language(),
        }
    )


@csrf_exempt
def form(request: object) -> object:
    files = {name: (file.name, file.size, file.read().hex()) for name, file in request.FILES.items()}
    return JsonResponse({"post": request.POST.dict(), "files": files})


def protected(request: object) -> object:
    get_token(request)
    return HttpResponse("posted" if request.method == "POST" else "a form")


def session(request: object) -> object:
    request.session["count"] = request.session.get("count", 0) + 1
    response = HttpResponse(str(request.session["count"]))
    response.set_cookie("colour", "grün; x", max_age=5, samesite="Lax")
    response.set_signed_cookie("signed", "1")
    response["X-Latin"] = "é"
    return response


def raising(kind: type[Exception]) -> Callable:
    def view(request: object) -> object:
        raise kind("no")

    return view


def template(request: object) -> object:
    return TemplateResponse(request, engines["django"].from_string("A {{ word }} {% if 1 %}page{% endif %}"), {"word": "plain"})


def stream(request: object) -> object:
    return StreamingHttpResponse(f"{number}\n" * number for number in range(5))


async def numbers() -> object:
    for number in range(5):
        await asyncio.sleep(0)
        yield f"{number}\n"


def async_stream(request: object) -> object:
    return StreamingHttpResponse(numbers())


async def async_view(request: object) -> object:
    await asyncio.sleep(0)
    return HttpResponse(f"async {threading.current_thread() is threading.main_thread()}")


async def async_view_stream(request: object) -> object:
    return StreamingHttpResponse(numbers())


def file(request: object) -> object:
    return FileResponse(LARGE.open("rb"), as_attachment=True, filename="gräße.bin")


def nothing(request: object) -> None:
    return None


VIEWS: dict[str, Callable] = {}
HANDLERS: list[OneHopHandler] = []


def special(request: object) -> object:
    """The view of a single test."""
    return VIEWS[request.GET["view"]](request)


TRANSLATED = lazy(lambda: "wort/" if translation.get_language() == "de" else "word/", str)()
urlpatterns = [
    path("echo/", echo, name="echo"),
    path("echo/<str:word>/", echo),
    path("form/", form),
    path("protected/", protected),
    path("session/", session),
    path("template/", template),
    path("stream/", stream),
    path("async-stream/", async_stream),
    path("async/", async_view),
    path("async-view-stream/", async_view_stream),
    path("file/", file),
    path("nothing/", nothing),
    path("denied/", raising(PermissionDenied)),
    path("suspicious/", raising(SuspiciousOperation)),
    path("error/", raising(ZeroDivisionError)),
    path("caught/", raising(LookupError)),
    path(TRANSLATED, echo),
    re_path("^special/", special),
    *i18n_patterns(path("local/", echo), path("local-async/", async_view)),
]
PATHS = [f"/{pattern.pattern}" for pattern in urlpatterns[:1] + urlpatterns[2:-3]]
PATHS += [
    "/echo/grüße/",
    "/echo",
    "/missing/",
    "//echo/",
    "/other/",
    "/other-async/",
    "/en/local/",
    "/de/local/",
    "/de/local-async/",
]
PATHS += ["/word/", "/wort/", "/local/", "/app/echo/", "/app", "/apple/", "/"]


def scope_of(path: str, method: str = "GET", query: bytes = b"", headers: tuple = (), root: str = "") -> dict:
    """The scope of a request as uvicorn would make it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": query,
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("203.0.113.7", 4711),
        "server": ("localhost", 443),
    }


class Client:
    """One request to an application: what it sent, and when its client goes away."""

    def __init__(self, application: Callable, scope: dict, body: tuple[bytes, ...] = (b"",)) -> None:
        self.application, self.scope = application, scope
        parts = [{"type": "http.request", "body": part, "more_body": True} for part in body]
        parts[-1]["more_body"] = False
        self.parts = iter(parts)
        self.gone = asyncio.Event()
        # After so many messages it waits for this event.
        self.free = 0
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.messages: list[dict] = []

    async def receive(self) -> dict:
        if part := next(self.parts, None):
            return part
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.messages.append(message)
        if len(self.messages) > self.free:
            await self.may_send.wait()

    async def run(self) -> list[dict]:
        await self.application(self.scope, self.receive, self.send)
        return self.messages

    def start(self) -> asyncio.Task:
        """Run in a context of its own, as a server does."""
        return asyncio.get_running_loop().create_task(self.run())

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def special_scope(view: Callable) -> dict:
    """The scope of a request to `view`."""
    VIEWS[view.__name__] = view
    return scope_of("/special/", query=f"view={view.__name__}".encode())


async def until(true: Callable[[], object]) -> None:
    """Wait for something to be true, while the event loop runs; fails when time is up."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "time is up"
        await asyncio.sleep(0.005)


def run(test: Callable[[], Awaitable]) -> object:
    """Run a test's coroutine function, until the last request is closed; fails when time is up."""
    try:
        return asyncio.run(asyncio.wait_for(test(), PATIENCE))
    finally:
        for handler in HANDLERS:
            for thread in handler.threads._free:
                thread.executor.submit(int).result(PATIENCE)


def one_hop(threads: int = 1) -> OneHopHandler:
    """A handler with threads of its own."""
    handler = OneHopHandler()
    handler.threads = Threads(threads)
    HANDLERS.append(handler)
    return handler


@pytest.fixture
def events() -> Iterator[list[tuple[str, int]]]:
    """Each request_started and request_finished, with its thread."""
    seen: list[tuple[str, int]] = []

    def started(**_: object) -> None:
        seen.append(("started", threading.get_ident()))

    def finished(**_: object) -> None:
        seen.append(("finished", threading.get_ident()))

    signals.request_started.connect(started)
    signals.request_finished.connect(finished)
    yield seen
    signals.request_started.disconnect(started)
    signals.request_finished.disconnect(finished)


FORM = b"a=1&b=%C3%BC"
PARTS = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n' + b"y" * 1500 + b"\r\n--x--\r\n"
HEADERS = [
    (b"cookie", b"a=1; b=2"),
    (b"cookie", b"django_language=de"),
    (b"cookie", b"csrftoken=" + b"a" * 32),
    (b"x-csrftoken", b"a" * 32),
    (b"referer", b"https://localhost/"),
    (b"accept-language", b"de"),
    (b"x-other", b"1"),
    (b"x-double", b"1"),
    (b"x-double", b"2"),
    (b"x_underscore", b"1"),
    (b"x-latin", b"\xe9"),
    (b"content-type", b"application/x-www-form-urlencoded"),
    (b"content-type", b"multipart/form-data; boundary=x"),
    (b"content-type", b"multipart/form-data"),
    (b"content-length", b"9999999"),
    (b"host", b"elsewhere"),
]
BODIES = [
    (b"",),
    (FORM,),
    (FORM[:4], FORM[4:]),
    (PARTS,),
    (PARTS[:900], PARTS[900:]),
    (b"z" * 3000,),
    (b"&".join([b"a=1"] * 1100),),
]


def masked(messages: list[dict]) -> list[dict]:
    """The messages without what is random or a time: values of signed cookies, tokens, expiry."""
    for message in messages:
        if "headers" in message:
            secret = rb"((?:csrftoken|sessionid|signed)=)[^;]*|(expires=)[^;]*"
            message["headers"] = [(name, re.sub(secret, rb"\1\2-", value)) for name, value in message["headers"]]
    return messages


@pytest.fixture(scope="module")
def both() -> tuple[ASGIHandler, OneHopHandler]:
    """Django's handler and this one."""
    return ASGIHandler(), one_hop(2)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@given_settings(max_examples=250, deadline=None)
@given(
    where=some.sampled_from(PATHS),
    method=some.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "get"]),
    query=some.sampled_from([b"", b"a=1&a=2&%C3%BC=x", b"\xff", b"a=%zz"]),
    headers=some.lists(some.sampled_from(HEADERS), max_size=4, unique=True),
    root=some.sampled_from(["", "", "/app", "/app/"]),
    forced=some.sampled_from([None, None, "/app"]),
    body=some.sampled_from(BODIES),
)
def test_a_request_is_answered_as_django_answers_it(
    both: tuple, where: str, method: str, query: bytes, headers: list, root: str, forced: str | None, body: tuple
) -> None:
    async def ask() -> None:
        scope = scope_of(where, method, query, tuple(headers), root)
        expected, found = [masked(await Client(each, dict(scope), body).start()) for each in both]
        assert found == expected

    with override_settings(FORCE_SCRIPT_NAME=forced):
        run(ask)


@pytest.mark.parametrize("path", PATHS)
def test_each_path_is_answered_as_django_answers_it(both: tuple, path: str) -> None:
    async def ask() -> None:
        for headers, root in (((), ""), ((), "/app"), (((b"x-other", b"1"),), ""), (((b"accept-language", b"de"),), "")):
            scope = scope_of(path, headers=headers, root=root)
            expected, found = [masked(await Client(each, dict(scope)).start()) for each in both]
            assert found == expected

    run(ask)


def test_all_of_a_sync_request_is_in_one_thread_of_the_workers_and_in_order(events: list) -> None:
    def seen(request: object) -> object:
        events.append(("view", threading.get_ident()))
        return HttpResponse(threading.current_thread().name)

    async def ask() -> None:
        client = Client(one_hop(), special_scope(seen))
        await client.run()
        await until(lambda: len(events) == 3)
        assert client.body.startswith(b"view-0")

    run(ask)
    assert [name for name, _ in events] == ["started", "view", "finished"]
    assert len({thread for _, thread in events}) == 1


def test_an_async_view_takes_no_thread_even_in_another_language_or_behind_a_prefix() -> None:
    async def ask() -> None:
        handler = one_hop()
        taken = await handler.threads.take()
        for where, root in (("/async/", ""), ("/de/local-async/", ""), ("/app/async/", "/app")):
            client = Client(handler, scope_of(where, root=root))
            await client.run()
            assert client.body == b"async True"
        handler.threads.release(taken)

    run(ask)


class OnlyAsync(Own):
    """A middleware that can't be sync."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response: Callable) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: object) -> object:
        response = await self.get_response(request)
        response["X-Async"] = "1"
        return response


def test_a_middleware_that_cannot_be_sync_leaves_everything_to_django() -> None:
    async def ask() -> None:
        with override_settings(MIDDLEWARE=[f"{__name__}.OnlyAsync"]):
            handler = one_hop()
        await handler.threads.take()
        client = Client(handler, scope_of("/echo/"))
        assert (b"X-Async", b"1") in (await client.run())[0]["headers"]

    run(ask)


def test_no_more_requests_run_than_there_are_threads_and_the_first_come_first() -> None:
    lock, go, order, running, most = threading.Lock(), threading.Semaphore(0), [], [], []

    def slow(request: object) -> object:
        with lock:
            running.append(1)
            order.append(request.headers["X-Number"])
            most.append(len(running))
        go.acquire(timeout=PATIENCE)
        with lock:
            running.pop()
        return HttpResponse()

    async def ask() -> None:
        handler, tasks = one_hop(2), []
        for number in range(6):
            scope = special_scope(slow)
            scope["headers"].append((b"x-number", str(number).encode()))
            tasks.append(Client(handler, scope).start())
            await asyncio.sleep(0)
        await until(lambda: len(order) == 2)
        for count in range(3, 7):
            go.release()
            await until(lambda count=count: len(order) == count)
        go.release(2)
        await asyncio.gather(*tasks)

    run(ask)
    assert max(most) == 2
    assert order[2:] == ["2", "3", "4", "5"]


def test_views_that_call_async_code_end_though_all_threads_are_taken() -> None:
    def bridge(request: object) -> object:
        async def both_ways() -> tuple:
            loop = threading.get_ident()
            await asyncio.sleep(0.01)
            return loop, await sync_to_async(threading.get_ident)()

        loop, inner = async_to_sync(both_ways)()
        return JsonResponse([loop == threading.main_thread().ident, inner == threading.get_ident()], safe=False)

    async def ask() -> None:
        handler = one_hop(2)
        clients = [Client(handler, special_scope(bridge)) for _ in range(8)]
        await asyncio.gather(*(client.run() for client in clients))
        assert {client.body for client in clients} == {b"[true, true]"}

    run(ask)


def query(request: object) -> object:
    """Reports whether the thread's connection was open, and keeps it."""
    was_open = connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    VIEWS["wrapper"] = connections["default"]
    return HttpResponse(str(was_open))


@contextlib.contextmanager
def max_age(seconds: int) -> Iterator[None]:
    """CONN_MAX_AGE for new threads."""
    database, former = connections.settings["default"], connections.settings["default"]["CONN_MAX_AGE"]
    database["CONN_MAX_AGE"] = seconds
    yield
    database["CONN_MAX_AGE"] = former


@pytest.mark.parametrize(("seconds", "second"), [(60, b"True"), (0, b"False")])
def test_a_threads_connection_is_kept_as_long_as_conn_max_age_says(seconds: int, second: bytes) -> None:
    async def ask() -> None:
        handler = one_hop()
        first, again = (Client(handler, special_scope(query)) for _ in range(2))
        await first.run()
        if not seconds:
            await until(lambda: VIEWS["wrapper"].connection is None)
        await again.run()
        assert (first.body, again.body) == (b"False", second)

    with max_age(seconds):
        run(ask)


def test_a_slow_client_holds_no_thread_for_a_complete_response(events: list) -> None:
    async def ask() -> None:
        handler = one_hop()
        slow, other = (Client(handler, scope_of("/echo/")) for _ in range(2))
        slow.may_send.clear()
        task = slow.start()
        await until(lambda: slow.messages)
        await other.run()
        assert other.messages[0]["status"] == 200
        await until(lambda: [name for name, _ in events].count("finished") == 1)
        slow.may_send.set()
        await task
        await until(lambda: [name for name, _ in events].count("finished") == 2)

    run(ask)
    assert len({thread for _, thread in events}) == 1


def test_closing_another_request_leaves_the_connection_of_a_stream_open() -> None:
    def rows(request: object) -> object:
        def read() -> Iterator[bytes]:
            with connection.cursor() as cursor:
                cursor.execute("with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select i from n")
                for (number,) in iter(cursor.fetchone, None):
                    yield b"%d %s\n" % (number, str(connection.connection is not None).encode())

        return StreamingHttpResponse(read())

    async def ask() -> None:
        handler = one_hop()
        slow, stream = Client(handler, special_scope(query)), Client(handler, special_scope(rows))
        slow.may_send.clear()
        stream.may_send.clear()
        stream.free = 2
        first = slow.start()
        await until(lambda: slow.messages)
        second = stream.start()
        await until(lambda: len(stream.messages) == 3)
        slow.may_send.set()
        await first
        stream.may_send.set()
        await second
        assert stream.body == b"".join(b"%d True\n" % number for number in range(1, 6))
        await until(lambda: VIEWS["wrapper"].connection is None)

    with max_age(0):
        run(ask)


def test_a_sync_stream_is_read_as_it_is_sent_and_closed_in_its_thread(events: list) -> None:
    made, ended = [], []

    def endless(request: object) -> object:
        def ticks() -> Iterator[bytes]:
            try:
                while True:
                    made.append(threading.get_ident())
                    yield b"tick"
            finally:
                ended.append(threading.get_ident())

        return StreamingHttpResponse(ticks())

    async def ask() -> None:
        handler = one_hop()
        client = Client(handler, special_scope(endless))
        client.may_send.clear()
        task = client.start()
        await until(lambda: client.messages)
        assert len(made) == 0, "the client has not yet taken the head"
        client.may_send.set()
        await until(lambda: len(client.messages) > 3)
        assert len(made) <= len(client.messages)
        client.gone.set()
        await task
        assert set(made) == set(ended) == {thread for _, thread in events}
        assert events[-1][0] == "finished"
        after = Client(handler, scope_of("/echo/"))
        assert (await after.run())[0]["status"] == 200

    run(ask)


def test_a_view_whose_client_goes_away_ends_by_itself_and_is_closed(events: list) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(request: object) -> object:
        begun.set()
        go.wait(PATIENCE)
        events.append(("view", threading.get_ident()))
        return HttpResponse()

    async def ask() -> None:
        handler = one_hop()
        client, waiting, after = Client(handler, special_scope(slow)), *(Client(handler, scope_of("/echo/")) for _ in range(2))
        task = client.start()
        await until(begun.is_set)
        unserved = waiting.start()
        waiting.gone.set()
        await unserved
        client.gone.set()
        served = after.start()
        await asyncio.sleep(0.2)
        assert not task.done()
        go.set()
        await task
        await served
        assert (client.messages, waiting.messages) == ([], [])
        assert after.messages[0]["status"] == 200
        await until(lambda: len(events) == 5)

    run(ask)
    assert [name for name, _ in events] == ["started", "view", "finished", "started", "finished"]


def test_async_code_in_a_view_is_cancelled_when_the_client_goes_away(events: list) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def polling(request: object) -> object:
        async def poll() -> None:
            begun.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async_to_sync(poll)()
        return HttpResponse()

    async def ask() -> None:
        client = Client(one_hop(), special_scope(polling))
        task = client.start()
        await until(begun.is_set)
        client.gone.set()
        await task
        assert cancelled.is_set()
        assert client.messages == []
        assert events[-1][0] == "finished"

    run(ask)


def test_a_client_that_goes_away_before_its_body_ends_starts_nothing(events: list) -> None:
    async def ask() -> None:
        client = Client(one_hop(), scope_of("/echo/", "POST"))
        client.parts = iter(())
        client.gone.set()
        assert await client.run() == []

    run(ask)
    assert events == []


def test_whoever_cancels_the_request_sees_it_cancelled() -> None:
    go = threading.Event()

    def slow(request: object) -> object:
        go.wait(PATIENCE)
        return HttpResponse()

    async def ask() -> None:
        handler = one_hop()
        task = Client(handler, special_scope(slow)).start()
        await until(lambda: not handler.threads._free)
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert handler.threads._free

    run(ask)


def test_a_worker_makes_django_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import django.core.asgi

    monkeypatch.setattr(django.core.asgi, "ASGIHandler", ASGIHandler)
    monkeypatch.setattr(OneHopHandler, "threads", None, raising=False)
    install(threads=3)
    application = django.core.asgi.get_asgi_application()
    assert isinstance(application, OneHopHandler)
    assert len(application.threads._free) == 3


PROJECT = """
import threading
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
def view(request): return HttpResponse(f"{threading.current_thread().name} {request.scope['type']}")
async def away(request): return HttpResponse(threading.current_thread().name)
urlpatterns = [path("", view), path("async/", away)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for tests only")
from django.core.asgi import get_asgi_application
app = get_asgi_application()
"""


class DjangoInstance(Instance):
    """A release of a Django project."""

    def _start(self, *arguments: object) -> None:
        (self.source / "project.py").write_text(PROJECT)
        shutil.copy(sys.modules["one_hop"].__file__, self.source.parent)
        super()._start(*arguments)


def test_a_real_worker_serves_sync_views_in_its_threads(short_path: Path, role: Path) -> None:
    instance = DjangoInstance(
        short_path, role, 1, django_asgi_sync_views="one_hop", django_asgi_threads=2, django_asgi_timeout=30
    )
    try:
        instance.start()
        assert re.fullmatch(rb"view-[01]_0 http", instance.get().read())
        assert instance.get("/async/").read() == b"MainThread"
        assert instance.get("/missing/").status == 404
        instance.process.terminate()
        assert instance.process.wait(timeout=PATIENCE) == 0
        assert "Traceback" not in instance.log.read_text()
    finally:
        instance.stop()
