"""Hand a job to Celery, or to a thread of this process if there is no queue."""

import asyncio
import logging
import threading

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connections

from . import tasks, work

logger = logging.getLogger(__name__)

THREADS = threading.BoundedSemaphore(4)


def enqueue(job_id):
    """Put a job into the queue; return whether it was accepted. Blocks, so call it in a thread."""
    try:
        tasks.run.apply_async((str(job_id),), retry=False)
    except Exception:  # kombu's transports each raise their own
        logger.warning("the queue did not accept job %s", job_id, exc_info=True)
        return False
    return True


def start_thread(job_id):
    """Do a job in a thread of this process; return whether one was free. Call it in the event loop.

    The thread is a daemon: it does not delay a stopping worker, and its work is lost then.
    """
    if not THREADS.acquire(blocking=False):
        return False
    loop = asyncio.get_running_loop()

    def publish(snapshot):
        message = {"type": "job.progress", "job": snapshot}
        sending = get_channel_layer().group_send(tasks.group(snapshot["id"]), message)
        try:
            asyncio.run_coroutine_threadsafe(sending, loop)
        except RuntimeError:  # the loop is closed: the worker is stopping
            sending.close()

    def main():
        try:
            work.run(job_id, publish)
        except Exception:
            logger.exception("job %s", job_id)
        finally:
            THREADS.release()
            connections.close_all()

    threading.Thread(target=main, name=f"job-{job_id}", daemon=True).start()
    return True


def uses_celery():
    """Return whether there is a queue."""
    return bool(settings.REDIS_QUEUE_URL)
