"""One view of each kind."""

from collections.abc import AsyncIterator, Iterator

from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

ANSWER = {"message": "Hello"}
ROWS = [{"number": number, "name": f"Article {number}", "price": number * 1.5} for number in range(30)]
CHUNK = b"." * 99 + b"\n"
CHUNKS = 20


def sync_view(request: HttpRequest) -> HttpResponseBase:
    """A sync view, as most views are."""
    return JsonResponse(ANSWER)


async def async_view(request: HttpRequest) -> HttpResponseBase:
    """An async view."""
    return JsonResponse(ANSWER)


@api_view(["GET"])
def api(request: Request) -> Response:
    """A view of REST framework, with its own authentication classes."""
    return Response(ANSWER)


def page(request: HttpRequest) -> HttpResponseBase:
    """A page from a template, with a table."""
    return render(request, "measured.html", {"rows": ROWS})


async def stream(request: HttpRequest) -> HttpResponseBase:
    """A stream: with an async iterator under ASGI, with a sync one under WSGI, as each can send it chunk by chunk."""
    return StreamingHttpResponse(async_chunks() if hasattr(request, "scope") else chunks(), content_type="text/plain")


async def async_chunks() -> AsyncIterator[bytes]:
    """Yield the stream's content."""
    for _ in range(CHUNKS):
        yield CHUNK


def chunks() -> Iterator[bytes]:
    """Yield the stream's content."""
    for _ in range(CHUNKS):
        yield CHUNK
