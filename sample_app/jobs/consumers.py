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
    """Return the job as JSON, or None. In a thread of its own: the shared one may be waiting."""
    try:
        return find(job_id)
    finally:
        connection.close()


class JobConsumer(GroupConsumer):
    """Tell how far a job is: each step as it is announced, and now and then from the database.

    The second way makes up for announcements that nobody heard: sent before this client came,
    while Redis was away, or by another process where there is no Redis.
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
        """Send what the database says until the job has ended."""
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
            self.wake.set()  # the end is told from the row, with completions
        else:
            await self.tell(event["job"])

    async def tell(self, job):
        if not self.ended:
            self.ended = job["state"] in ENDED
            await self.send(json.dumps({"job": job}))
