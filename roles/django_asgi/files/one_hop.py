"""Sync Django views in one thread hop: an ASGI handler that runs all of a sync request in one call in one thread.

Django's ASGIHandler runs the sync half of each middleware, each signal and the view as a thread hop of its own, in a thread that
it starts for the request. OneHopHandler differs from it only in this:

* a request to a sync view (and one that no view answers) runs request_started, all middleware and the view in one call;
* the threads are a worker's own, of a fixed number; what finds none free waits, first come, first served;
* a request is closed in the thread that it ran in, so that thread's database connection persists as CONN_MAX_AGE says;
* a sync iterator is sent chunk by chunk, where Django first reads all of it into memory.

An async view goes Django's way, and so does every request if a middleware can't be sync.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers import asgi, base
from django.db import close_old_connections
from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, get_resolver, set_script_prefix
from django.utils import translation
from django.utils.module_loading import import_string

# A disconnect is noticed from then on; most views end before, and need no task that waits for it.
WATCH_AFTER_SECONDS = 0.05
END = object()

logger = logging.getLogger("django.request")


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function`; an adapter, because sync_to_async takes its function before its arguments."""
    return function(*arguments)


class Thread:
    """A thread that works off one call after another.

    `await run(function, *arguments)` returns what the function returns; async_to_sync in there comes back to the event loop.
    """

    def __init__(self, name: str) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self.run: Callable[..., Awaitable[Any]] = sync_to_async(call, thread_sensitive=False, executor=self.executor)
        self.holds_stream = False
        self._postponed: list[tuple] = []

    def finish(self, *call: Any) -> None:
        """Do what is left of a request that has released the thread; nobody waits for it, which saves the event loop a turn."""
        if self.holds_stream:
            # Closing a request closes an old database connection, from which the stream may still be reading.
            self._postponed.append(call)
        else:
            self.executor.submit(*call)

    def stream_ended(self) -> None:
        """Do what was postponed."""
        self.holds_stream = False
        while self._postponed:
            self.executor.submit(*self._postponed.pop(0))


class Threads:
    """`size` threads, each taken by one request at a time. To be used on one event loop only."""

    def __init__(self, size: int) -> None:
        self._free = [Thread(f"view-{number}") for number in range(size)]
        self._waiting: deque[asyncio.Future[Thread]] = deque()

    async def take(self) -> Thread:
        """Return the thread that was released last, whose database connection is open; wait for one if all are taken."""
        if self._free:
            return self._free.pop()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(turn.result())
            raise

    def release(self, thread: Thread) -> None:
        """Give `thread` to the request that has waited longest; return None, in its place."""
        thread.stream_ended()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(thread)
                return
        self._free.append(thread)


class SyncChain(base.BaseHandler):
    """Django's sync middleware and views, as under WSGI, with the match of a path that was resolved before."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Return the view of `request`; resolve again if a middleware has changed URLconf, path or language."""
        match, *resolved_by = request.__dict__.pop("_resolved", (None,))
        if match is None or hasattr(request, "urlconf") or resolved_by != [request.path_info, translation.get_language()]:
            return super().resolve_request(request)
        request.resolver_match = match
        return match


class Watch:
    """Cancels the current task if its client disconnects inside the `with` block, and swallows only that cancellation."""

    def __init__(self, receive: Callable[[], Awaitable[dict]]) -> None:
        self.receive = receive
        self.task: asyncio.Task | None = None
        self.fired = False

    def __enter__(self) -> None:
        """Start to watch, after a moment."""
        self.request = asyncio.current_task()
        self.timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._start)

    def _start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.fired = True
        self.request.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        """Stop to watch; True if the cancellation was this one's."""
        self.timer.cancel()
        if self.task:
            self.task.cancel()
        # Whoever else cancels the request, such as a server that shuts down, is counted by uncancel().
        return self.fired and self.request.uncancel() == 0 and kind is asyncio.CancelledError


class Exchange:
    """A request and its response; its methods run in the request's thread."""

    def __init__(self, handler: "OneHopHandler", scope: dict, body: Any, resolved: tuple) -> None:
        self.handler, self.scope, self.body, self.resolved = handler, scope, body, resolved
        self.response: HttpResponseBase | None = None

    def respond(self) -> None:
        """Do what ASGIHandler.handle and run_get_response do up to the response, and keep that."""
        handler = self.handler
        signals.request_started.send(sender=type(handler), scope=self.scope)
        request, self.response = handler.create_request(self.scope, self.body)
        if request is not None:
            request._resolved = self.resolved
            response = handler.chain.get_response(request)
            response._handler_class = type(handler)
            if isinstance(response, FileResponse):
                response.block_size = handler.chunk_size
            self.response = response
        self.close_response = self.response.close
        if django.VERSION < (5,):
            # Its send_response would close the response in another thread.
            self.response.close = lambda: None
        # What asgiref has bound to this thread, such as open caches, is visible in this context only.
        self.context = contextvars.copy_context()

    def close(self) -> None:
        """Close the response, which sends request_finished; without one, send it. What fails is logged."""
        try:
            if self.response is None:
                signals.request_finished.send(sender=type(self.handler))
            else:
                self.close_response()
        except Exception:
            logger.exception("Closing the request failed: %s", self.scope["path"])
        finally:
            self.body.close()


class OneHopHandler(asgi.ASGIHandler):
    """Django's ASGIHandler with a short way for sync views; `threads` is set by `install`."""

    threads: Threads

    def __init__(self) -> None:
        super().__init__()
        able = all(getattr(import_string(path), "sync_capable", True) for path in settings.MIDDLEWARE)
        self.chain = SyncChain() if able else None

    async def handle(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Answer the request of `scope`, in one hop unless its view is async."""
        resolved = resolve(self.request_class, scope)
        if self.chain is None or (resolved[0] and base.iscoroutinefunction(resolved[0].func)):
            await super().handle(scope, receive, send)
            return
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        set_script_prefix(script_prefix(self, scope))
        exchange, thread = Exchange(self, scope, body, resolved), None
        try:
            with Watch(receive):
                thread = await self.threads.take()
                await thread.run(exchange.respond)
                if not exchange.response.streaming:
                    # What is complete holds no thread; a slow client may take its time.
                    former, thread = thread, self.threads.release(thread)
                    try:
                        await self.send_response(exchange.response, send)
                    finally:
                        former.finish(exchange.context.run, exchange.close)
                elif exchange.response.is_async:
                    # Its iterator runs on the event loop, and what that does in a thread is in the one of the request's context.
                    await thread.run(close_old_connections)
                    thread = self.threads.release(thread)
                    try:
                        await self.send_response(exchange.response, send)
                    finally:
                        await sync_to_async(exchange.close)()
                else:
                    thread.holds_stream = True
                    exchange.response.streaming_content = chunks(thread, iter(exchange.response))
                    await self.send_response(exchange.response, send)
        finally:
            if thread:
                try:
                    # Behind the view, if that still runs.
                    await thread.run(exchange.close)
                finally:
                    self.threads.release(thread)
            elif exchange.response is None:
                body.close()


async def chunks(thread: Thread, iterator: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what `iterator` yields in `thread`, each when the one before has been sent."""
    while (chunk := await thread.run(next, iterator, END)) is not END:
        yield chunk


def script_prefix(handler: asgi.ASGIHandler, scope: dict) -> str:
    """Return the prefix as Django finds it, whose function was a method before Django 5.0."""
    find = getattr(asgi, "get_script_prefix", None) or handler.get_script_prefix
    return find(scope)


def resolve(request_class: type[HttpRequest], scope: dict) -> tuple[ResolverMatch | None, str, str]:
    """Return the view that the root URLconf has for the path of `scope`, if any; the path; the language that it is resolved in.

    Without a view the request goes the way of sync views, whose middleware may find one.
    """
    path = scope["path"]
    if settings.FORCE_SCRIPT_NAME or scope.get("root_path"):
        # Django's versions differ in how they remove the prefix.
        path = request_class({**scope, "headers": [], "query_string": b""}, None).path_info
    language = translation.get_language()
    # What a resolver raises here, it raises again in the thread, where Django answers it.
    with contextlib.suppress(Exception):
        return get_resolver().resolve(path), path, language
    # i18n_patterns match only in the language that LocaleMiddleware will find in the path.
    if settings.USE_I18N and (found := translation.get_language_from_path(path)) and found != language:
        with contextlib.suppress(Exception), translation.override(found):
            return get_resolver().resolve(path), path, found
    return None, path, language


def install(threads: int) -> None:
    """Make django.core.asgi.get_asgi_application return a OneHopHandler with that number of threads.

    To be called in a worker before it loads the project; whatever wraps the application stays in effect.
    """
    from django.core import asgi as public

    OneHopHandler.threads = Threads(threads)
    public.ASGIHandler = OneHopHandler
