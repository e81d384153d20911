"""WebSocket consumers."""

import asyncio
import json

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

from .groups import GroupConsumer
from .identity import identity
from .outages import REDIS_ERRORS

UNSUPPORTED_DATA = 1003  # RFC 6455, 7.4.1
LONGEST_TEXT = 500
LONGEST_NAME = 30


class ChatConsumer(AsyncWebsocketConsumer):
    """Echo every text."""

    channel_layer_alias = None  # it sends only to its own client, so it needs no Redis

    async def receive(self, text_data=None, bytes_data=None):
        if text_data is None:
            await self.close(UNSUPPORTED_DATA)
        else:
            await self.send(json.dumps({"message": f"Echo: {text_data}"}, ensure_ascii=False))


class RoomConsumer(GroupConsumer):
    """A chat room: a message reaches all its clients, on every worker and host.

    In: {"text": …, "name": …}. Out: "welcome", "live" (whether the room reaches other workers now),
    "message" with `via`, the process that received it, and `through`, the one that delivers it.
    """

    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        self.group = f"room.{self.room}"
        await self.accept()
        await self.tell("welcome", room=self.room, through=identity())
        self.follow(self.group)

    async def receive(self, text_data=None, bytes_data=None):
        if text_data is None:
            return await self.close(UNSUPPORTED_DATA)
        try:
            said = json.loads(text_data)
            text, name = said["text"].strip(), str(said.get("name", "")).strip()
            valid = 0 < len(text) <= LONGEST_TEXT and len(name) <= LONGEST_NAME
        except (ValueError, TypeError, KeyError, AttributeError):
            valid = False
        if not valid:
            detail = f'Send {{"text": …}} with 1 to {LONGEST_TEXT} characters.'
            return await self.tell("error", detail=detail)
        message = {"text": text, "name": name or "guest", "via": identity()}
        try:
            async with asyncio.timeout(3):
                event = {"type": "room.message", "message": message}
                await get_channel_layer().group_send(self.group, event)
        except REDIS_ERRORS:
            await self.tell("error", detail="Not delivered: Redis does not answer.", text=text)

    async def on_live(self, live):
        await self.tell("live", live=live)

    async def on_event(self, event):
        await self.tell("message", **event["message"], through=identity())

    async def tell(self, kind, **values):
        """Send one object to the client."""
        await self.send(json.dumps({"type": kind, **values}, ensure_ascii=False))
