"""A consumer that follows a group and survives an outage of the channel layer."""

import asyncio
import logging

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

from .outages import REDIS_ERRORS

logger = logging.getLogger(__name__)


class GroupConsumer(AsyncWebsocketConsumer):
    """Follow one group in a separate task; override on_event and, if needed, on_live.

    Channels ties the consumer to the layer: without Redis, no WebSocket. Here the socket stays
    open, is notified, and receives from the group again when Redis is back.
    """

    channel_layer_alias = None  # Channels itself listens to no layer
    REJOIN = 20  # seconds: a Redis that restarted empty has no groups
    LONGEST_WAIT = 5

    def keep(self, coroutine):
        """Run a coroutine until the client leaves; if it fails, close the socket."""
        task = asyncio.ensure_future(coroutine)
        self.__dict__.setdefault("tasks", []).append(task)
        task.add_done_callback(self.ended_task)

    def ended_task(self, task):
        if not task.cancelled() and task.exception():
            logger.error("a consumer's task failed", exc_info=task.exception())
            self.closing = asyncio.ensure_future(self.close(1011))

    def follow(self, group):
        """Receive from this group from now on."""
        self.keep(self.listen(group))

    async def listen(self, group):
        layer, channel, live, wait = get_channel_layer(), None, None, 0.5
        try:
            while True:
                try:
                    channel = channel or await layer.new_channel()
                    await layer.group_add(group, channel)
                    if not live:
                        live, wait = True, 0.5
                        await self.on_live(True)
                    try:
                        async with asyncio.timeout(self.REJOIN):
                            while True:
                                await self.on_event(await layer.receive(channel))
                    except TimeoutError:
                        pass  # join again: this is cheap and restores a lost membership
                except REDIS_ERRORS as error:
                    if live is not False:
                        logger.warning("no channel layer: %s", error)
                        live = False
                        await self.on_live(False)
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, self.LONGEST_WAIT)
        finally:
            if channel and live:
                try:
                    async with asyncio.timeout(2):
                        await layer.group_discard(group, channel)
                except REDIS_ERRORS:
                    pass  # the membership expires

    async def on_live(self, live):
        """Handle the start (True) or end (False) of the connection to the group."""

    async def on_event(self, event):
        """Handle one event of the group."""
        raise NotImplementedError

    async def disconnect(self, code):
        tasks = self.__dict__.get("tasks", [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
