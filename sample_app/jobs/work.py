"""The work of a job: synchronous, the same in Celery and in a thread of the web worker.

A queue delivers at least once; the job's row makes that *exactly* once. A worker that begins raises
`attempts` and writes only while the row still has that number: of two workers on one job, the
later continues from the last step, and the earlier notices that and stops.
"""

import logging
import time
from datetime import timedelta

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from showcase.identity import identity

from .models import Completion, Heartbeat, Job

logger = logging.getLogger(__name__)

STEPS_PER_SECOND = 4
MOST_STEPS = 100


class SupersededError(Exception):
    """Another worker has taken the job over."""


def steps_for(seconds):
    """Return the number of steps of a job that takes `seconds`."""
    return min(MOST_STEPS, seconds * STEPS_PER_SECOND)


def snapshot(job):
    """Return a job as JSON, without its completions."""
    return {
        "id": str(job.pk),
        "state": job.state,
        "runner": job.runner,
        "seconds": job.seconds,
        "percent": job.step * 100 // job.steps,
        "deliveries": job.deliveries,
        "attempts": job.attempts,
        "host": job.host,
        "worker": job.worker,
        "release": job.release,
        "created": job.created.isoformat(),
        "updated": job.updated.isoformat(),
    }


def stalled_before():
    """Return the time before which the last update of an unfinished job means it has no worker."""
    return timezone.now() - timedelta(seconds=settings.JOB_STALLED_SECONDS)


def claim(job_id, again):
    """Begin, or take over, a job; return it, or None if there is nothing to do.

    `again`: the queue reports that the previous delivery failed, so its worker is gone.
    """
    with transaction.atomic():
        job = Job.objects.select_for_update().filter(pk=job_id).first()
        if job is None:
            return None
        job.deliveries += 1
        busy = job.state == Job.State.RUNNING and job.updated > stalled_before()
        if job.state in (Job.State.DONE, Job.State.FAILED) or (busy and not again):
            job.save(update_fields=["deliveries"])
            return None
        job.attempts += 1
        job.state = Job.State.RUNNING
        job.updated = timezone.now()
        for name, value in identity().items():
            setattr(job, name, value)
        job.save()
    return job


def write(job, **changes):
    """Store changes in the row and in `job`; raise SupersededError if another worker took over."""
    changes["updated"] = timezone.now()
    mine = Job.objects.filter(pk=job.pk, attempts=job.attempts, state=Job.State.RUNNING)
    if not mine.update(**changes):
        raise SupersededError
    for name, value in changes.items():
        setattr(job, name, value)


def finish(job):
    """Mark the job as done and record its completion, in one transaction."""
    with transaction.atomic():
        write(job, state=Job.State.DONE, step=job.steps)
        Completion.objects.create(job=job, attempt=job.attempts, **identity())


def run(job_id, publish, again=False):
    """Do a job to its end; call `publish(snapshot)` at every step, which must not raise.

    The work continues while the database is away: a failed write of a step is skipped; at the end
    OperationalError or InterfaceError is raised, for the caller to retry.
    """
    job = claim(job_id, again)
    if job is None:
        logger.info("job %s: nothing to do", job_id)
        return
    logger.info("job %s: attempt %d, from step %d", job.pk, job.attempts, job.step)
    pause = job.seconds / job.steps
    try:
        publish(snapshot(job))
        for step in range(job.step + 1, job.steps):
            time.sleep(pause)  # a real job would work here
            try:
                write(job, step=step)
            except (OperationalError, InterfaceError) as error:
                logger.warning("job %s: step %d is not stored: %s", job.pk, step, error)
                connection.close()
            publish(snapshot(job) | {"percent": step * 100 // job.steps})
        time.sleep(pause)
        finish(job)
        publish(snapshot(job))
        logger.info("job %s: done", job.pk)
    except SupersededError:
        logger.warning("job %s: another worker took it over", job.pk)


def fail(job_id):
    """Mark a job as failed, unless it is done."""
    unfinished = Job.objects.filter(pk=job_id).exclude(state=Job.State.DONE)
    unfinished.update(state=Job.State.FAILED, updated=timezone.now())


def beat():
    """Refresh the row that proves that the scheduler, the queue and a worker are alive."""
    with transaction.atomic():
        Heartbeat.objects.get_or_create(name="beat", defaults=identity())
        row = Heartbeat.objects.select_for_update().get(name="beat")
        row.beats += 1
        row.at = timezone.now()
        for name, value in identity().items():
            setattr(row, name, value)
        row.save()


def take_stalled():
    """Return the ids of queued or running Celery jobs without a worker, to be queued again."""
    with transaction.atomic():
        stalled = Job.objects.select_for_update().filter(
            runner=Job.Runner.CELERY,
            state__in=(Job.State.QUEUED, Job.State.RUNNING),
            updated__lt=stalled_before(),
        )
        ids = [str(job.pk) for job in stalled[:100]]
        # A running job stays stale, so that the next worker may take it over at once.
        Job.objects.filter(pk__in=ids, state=Job.State.QUEUED).update(updated=timezone.now())
    return ids
