"""Uploads, downloads, events and the request id, as the edge passes them on."""

import hashlib
import logging

import pytest

from config.asgi import application
from showcase.request_id import RequestIdFilter, RequestIdMiddleware, request_id


def test_a_body_is_counted_and_digested(client, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    body = bytes(range(256)) * 8192
    answer = client.post("/api/receive/", body, content_type="application/octet-stream").json()
    assert answer == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert client.get("/api/receive/").status_code == 405


def test_a_download_is_the_edges_to_send(client):
    response = client.get("/api/download/report")
    assert response["X-Accel-Redirect"] == "/protected/report"
    assert response.content == b""
    assert client.get("/api/download/..%2Fdb.sqlite3").status_code == 404


async def test_events(async_client):
    response = await async_client.get("/api/events/")
    events = [chunk.decode() async for chunk in response.streaming_content]
    assert response["Content-Type"] == "text/event-stream"
    assert (len(events), events[-1]) == (10, "id: 10\ndata: 10 of 10\n\n")


@pytest.mark.parametrize("events", ["0", "1001", "x", "-1", "²", ""])
def test_events_are_bounded(client, events):
    assert client.get(f"/api/events/?events={events}").status_code == 400


@pytest.mark.parametrize(
    ("headers", "expected"), [([(b"x-request-id", b"0a1b")], "0a1b"), ([], "-")]
)
async def test_log_lines_carry_the_edges_id(headers, expected):
    seen = []

    async def inside(scope, receive, send):
        record = logging.makeLogRecord({})
        RequestIdFilter().filter(record)
        seen.append(record.request_id)

    request_id.set("-")
    await RequestIdMiddleware(inside)({"type": "http", "headers": headers}, None, None)
    assert seen == [expected]
    assert isinstance(application, RequestIdMiddleware)
