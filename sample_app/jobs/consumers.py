"""A job's progress over a WebSocket."""

import asyncio
import json
import logging

from asgiref.sync import sync_to_async
from django.db import connection

from showcase.groups import GroupConsumer
from showcase.outages import DATABASE_ERRORS

from .api import find
from .tasks import group

logger = logging.getLogger(__name__)

NOT_FOUND = 4404
ENDED = ("done", "failed")


def read(job_id):
    """Return the job as JSON, or None. Runs in its own thread: the shared one may be busy."""
    try:
        return find(job_id)
    finally:
        connection.close()


class JobConsumer(GroupConsumer):
    """Report a job's progress: each announced step, and at intervals the row in the database.

    The database makes up for missed announcements: sent before this client connected, while Redis
    was away, or by another process if there is no Redis.
    """

    INTERVAL = 2

    async def connect(self):
        self.job_id = self.scope["url_route"]["kwargs"]["job_id"]
        self.ended = False
        self.wake = asyncio.Event()
        await self.accept()
        self.follow(group(self.job_id))
        self.keep(self.watch())

    async def watch(self):
        """Send the job from the database until it has ended."""
        while not self.ended:
            try:
                job = await sync_to_async(read, thread_sensitive=False)(self.job_id)
            except DATABASE_ERRORS:
                await self.send(json.dumps({"detail": "The database does not answer."}))
            else:
                if job is None:
                    return await self.close(NOT_FOUND)
                await self.tell(job)
            try:
                async with asyncio.timeout(self.INTERVAL):
                    await self.wake.wait()
            except TimeoutError:
                continue
            self.wake.clear()

    async def on_event(self, event):
        if event["job"]["state"] in ENDED:
            self.wake.set()  # the row has the end and its completions
        else:
            await self.tell(event["job"])

    async def tell(self, job):
        if not self.ended:
            self.ended = job["state"] in ENDED
            await self.send(json.dumps({"job": job}))
