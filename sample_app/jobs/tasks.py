"""Celery's tasks."""

import logging

from asgiref.sync import async_to_sync
from celery.exceptions import SoftTimeLimitExceeded
from channels.layers import get_channel_layer
from django.db import InterfaceError, OperationalError

from config.celery import app
from showcase.outages import REDIS_ERRORS

from . import work

logger = logging.getLogger(__name__)


def group(job_id):
    """Return the name of the group that receives a job's progress."""
    return f"job.{job_id}"


def publish(snapshot):
    """Send a job to its watchers; a lost message is harmless, because they also read its row."""
    message = {"type": "job.progress", "job": snapshot}
    try:
        async_to_sync(get_channel_layer().group_send)(group(snapshot["id"]), message)
    except REDIS_ERRORS as error:
        logger.warning("no channel layer: %s", error)


@app.task(
    name="jobs.run",
    bind=True,
    autoretry_for=(OperationalError, InterfaceError),
    max_retries=60,
    retry_backoff=True,
    retry_backoff_max=15,
)
def run(self, job_id):
    """Do a job; safe if delivered any number of times."""
    again = self.request.retries > 0 or self.request.delivery_info.get("redelivered", False)
    try:
        work.run(job_id, publish, again)
    except SoftTimeLimitExceeded:
        logger.error("job %s: took longer than CELERY_TIME_LIMIT", job_id)
        work.fail(job_id)


@app.task(name="jobs.heartbeat")
def heartbeat():
    """Refresh the heartbeat, and queue again the jobs that were lost."""
    work.beat()
    for job_id in work.take_stalled():
        logger.warning("job %s: no worker has it, queued again", job_id)
        run.delay(job_id)
