"""The WebSocket, through the application that a server runs.

Uses asgiref's test client, because channels.testing needs daphne and Twisted.
"""

import pytest
from asgiref.testing import ApplicationCommunicator

from config.asgi import application

# Seconds after which a wait counts as a hang; asgiref's 1 s is too short on a busy machine.
PATIENCE = 60


def connection(path="/ws/chat/", origin="http://testserver"):
    """Return a client of the application, not connected yet."""
    headers = [(b"host", b"testserver")]
    if origin:
        headers.append((b"origin", origin.encode()))
    scope = {"type": "websocket", "path": path, "headers": headers, "query_string": b""}
    return ApplicationCommunicator(application, scope)


async def connect(socket):
    """Connect; return whether the application accepted."""
    await socket.send_input({"type": "websocket.connect"})
    return (await socket.receive_output(PATIENCE))["type"] == "websocket.accept"


async def disconnect(socket):
    """Disconnect as a client does; fail if the application raises or does not end."""
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(PATIENCE)


async def test_echo():
    socket = connection()
    assert await connect(socket)
    for text, answer in [("Hi", '{"message": "Echo: Hi"}'), ("ü", '{"message": "Echo: ü"}')]:
        await socket.send_input({"type": "websocket.receive", "text": text})
        assert await socket.receive_output(PATIENCE) == {"type": "websocket.send", "text": answer}
    await disconnect(socket)


async def test_binary_is_not_supported():
    socket = connection()
    assert await connect(socket)
    await socket.send_input({"type": "websocket.receive", "bytes": b"Hi"})
    closed = await socket.receive_output(PATIENCE)
    assert (closed["type"], closed["code"]) == ("websocket.close", 1003)
    await disconnect(socket)


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        (None, False),
        ("http://testserver", True),
        ("http://testserver:8080", True),
        ("https://example.org:8443", True),
        ("https://evil.example", False),
        ("https://testserver.evil.example", False),
        ("null", False),
    ],
)
async def test_origin(origin, accepted):
    socket = connection(origin=origin)
    assert await connect(socket) is accepted
    await disconnect(socket)


async def test_unknown_path_is_refused():
    socket = connection("/ws/nothing/")
    assert not await connect(socket)
    await disconnect(socket)
