"""The chat room: two clients, and a channel layer that goes away."""

import json

import pytest
from channels.layers import InMemoryChannelLayer

from showcase.groups import GroupConsumer

from .test_websocket import PATIENCE, connect, connection, disconnect


async def hear(socket):
    return json.loads((await socket.receive_output(PATIENCE))["text"])


async def say(socket, **values):
    await socket.send_input({"type": "websocket.receive", "text": json.dumps(values)})


async def enter(room="lobby"):
    socket = connection(f"/ws/room/{room}/")
    assert await connect(socket)
    assert (await hear(socket))["type"] == "welcome"
    assert await hear(socket) == {"type": "live", "live": True}
    return socket


async def test_what_one_says_all_in_the_room_hear():
    one, two, elsewhere = await enter(), await enter(), await enter("other")
    await say(one, text=" Grüße ", name="Ada")
    for socket in (one, two):
        heard = await hear(socket)
        assert (heard["type"], heard["text"], heard["name"]) == ("message", "Grüße", "Ada")
        assert heard["via"] == heard["through"] and set(heard["via"]) == {
            "host",
            "worker",
            "release",
        }
    assert await elsewhere.receive_nothing()
    await disconnect(two)
    await say(one, text="alone")
    assert (await hear(one))["name"] == "guest"
    for socket in (one, elsewhere):
        await disconnect(socket)


@pytest.mark.parametrize(
    "values", [{}, {"text": ""}, {"text": 1}, {"text": "x" * 501}, {"text": "x", "name": "x" * 31}]
)
async def test_what_is_no_message_is_refused(values):
    socket = await enter()
    await say(socket, **values)
    assert (await hear(socket))["type"] == "error"
    await disconnect(socket)


async def test_a_room_has_a_plain_name():
    assert not await connect(connection("/ws/room/a%20b/"))
    assert not await connect(connection(f"/ws/room/{'a' * 41}/"))


async def test_the_socket_outlives_the_channel_layer(monkeypatch):
    away = True

    def unless_away(original):
        async def method(*arguments):
            if away:
                raise ConnectionError
            return await original(*arguments)

        return method

    for name in ("group_add", "group_send"):
        original = getattr(InMemoryChannelLayer, name)
        monkeypatch.setattr(InMemoryChannelLayer, name, unless_away(original))
    monkeypatch.setattr(GroupConsumer, "LONGEST_WAIT", 0.1)
    socket = connection("/ws/room/lobby/")
    assert await connect(socket)
    assert (await hear(socket))["type"] == "welcome"
    assert await hear(socket) == {"type": "live", "live": False}
    await say(socket, text="Hi")
    assert await hear(socket) == {
        "type": "error",
        "detail": "Not delivered: Redis does not answer.",
        "text": "Hi",
    }
    away = False
    assert await hear(socket) == {"type": "live", "live": True}
    await say(socket, text="Hi")
    assert (await hear(socket))["text"] == "Hi"
    await disconnect(socket)
