"""The worker's budget for WebSockets and event streams, which last: they never take the place of a request, nor a request theirs.

The edge has the same two budgets and refuses first. The worker refuses what comes to it all the same, because the connections
are uneven, or because something else than the edge connects.
"""

from collections.abc import Awaitable, Callable

# In seconds, as on the edge's pages.
RETRY_AFTER = b"5"
REFUSAL = b"This worker has no room for another long connection. Please try again.\n"
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), (b"retry-after", RETRY_AFTER)]

Send = Callable[[dict], Awaitable[None]]


class LongConnections:
    """An ASGI application around another one, which serves at most `limit` WebSockets and event streams at one time.

    One more gets 503 with Retry-After at once, without reaching the application. `held` are those that it serves, `streams` the
    event streams among them. A request is an event stream if the edge takes it for one: it accepts text/event-stream alone.
    """

    def __init__(self, application: Callable, limit: int) -> None:
        self.application, self.limit = application, limit
        self.held = self.streams = 0

    def __call__(self, scope: dict, receive: Callable, send: Send) -> Awaitable[None]:
        """Serve, or refuse; a plain request goes to the application without a further coroutine."""
        stream = scope["type"] == "http" and _accepts_events(scope["headers"])
        if not stream and scope["type"] != "websocket":
            return self.application(scope, receive, send)
        return self._serve(stream, scope, receive, send)

    async def _serve(self, stream: bool, scope: dict, receive: Callable, send: Send) -> None:
        if self.held >= self.limit:
            await _refuse(scope, send)
            return
        self.held += 1
        self.streams += stream
        try:
            await self.application(scope, receive, send)
        finally:
            self.held -= 1
            self.streams -= stream


def _accepts_events(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"accept" and value.lower() == b"text/event-stream" for name, value in headers)


async def _refuse(scope: dict, send: Send) -> None:
    """Answer 503; for a WebSocket with ASGI's extension for a denial, which uvicorn has."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    length = (b"content-length", str(len(REFUSAL)).encode())
    await send({"type": f"{kind}.start", "status": 503, "headers": [*HEADERS, length]})
    await send({"type": f"{kind}.body", "body": REFUSAL})
