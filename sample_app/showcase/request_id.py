"""The edge's id of a request, in every log line written during that request."""

import logging
from contextvars import ContextVar

request_id = ContextVar("request_id", default="-")


class RequestIdMiddleware:
    """Wraps the ASGI application, unlike MIDDLEWARE: costs no thread and covers WebSockets."""

    def __init__(self, application):
        self.application = application

    async def __call__(self, scope, receive, send):
        for name, value in scope.get("headers", ()):
            if name == b"x-request-id":
                request_id.set(value.decode("latin1"))
        await self.application(scope, receive, send)


class RequestIdFilter(logging.Filter):
    """Adds the request id to each record, for the formatter; "-" outside a request."""

    def filter(self, record):
        record.request_id = request_id.get()
        return True
