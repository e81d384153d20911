"""Jobs over HTTP: start a job, get a job, list the newest."""

import asyncio
import json

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db.models import Prefetch
from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from showcase.outages import needs_database

from . import start
from .models import Completion, Job
from .work import snapshot, stalled_before, steps_for

QUEUE_SECONDS = 3
WITH_COMPLETIONS = Job.objects.prefetch_related(
    Prefetch("completions", queryset=Completion.objects.order_by("at"))
)


def described(job):
    """Return a job as JSON with its completions; a job that lost its worker is "stalled"."""
    answer = snapshot(job)
    if job.state == Job.State.RUNNING and job.updated < stalled_before():
        answer["state"] = "stalled"
    answer["completions"] = [
        {
            "attempt": completion.attempt,
            "host": completion.host,
            "worker": completion.worker,
            "release": completion.release,
            "at": completion.at.isoformat(),
        }
        for completion in job.completions.all()
    ]
    return answer


def find(job_id):
    """Return the job as JSON, or None."""
    job = WITH_COMPLETIONS.filter(pk=job_id).first()
    return None if job is None else described(job)


@csrf_exempt  # there are no accounts to act for
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@needs_database
async def jobs(request):
    """GET: the ten newest. POST {"seconds": N}: start one; 202, or 503 if all threads are busy."""
    if request.method != "POST":
        return JsonResponse({"jobs": [described(job) async for job in WITH_COMPLETIONS.all()[:10]]})
    try:
        seconds = json.loads(request.body)["seconds"]
        valid = type(seconds) is int and 1 <= seconds <= settings.JOB_MAX_SECONDS
    except (ValueError, TypeError, KeyError):
        valid = False
    if not valid:
        detail = f"seconds must be a whole number from 1 to {settings.JOB_MAX_SECONDS}."
        return JsonResponse({"detail": detail}, status=400)

    celery = start.uses_celery()
    runner = Job.Runner.CELERY if celery else Job.Runner.IN_PROCESS
    job = await Job.objects.acreate(seconds=seconds, steps=steps_for(seconds), runner=runner)
    answer = snapshot(job) | {"completions": []}
    if celery:
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                queued = await asyncio.to_thread(start.enqueue, job.pk)
        except TimeoutError:
            queued = False  # the thread may still succeed, which does no harm
        if not queued:
            # The row is stored, and the heartbeat queues waiting jobs: late, but not lost.
            answer["detail"] = "The queue does not answer; the job begins when it is back."
    elif not start.start_thread(job.pk):
        await job.adelete()
        return JsonResponse({"detail": "This worker is busy. Try again in a moment."}, status=503)
    return JsonResponse(answer, status=202)


@never_cache
@require_safe
@needs_database
async def job(request, job_id):
    """Return one job: its progress, deliveries, attempts and completions."""
    answer = await sync_to_async(find)(job_id)
    if answer is None:
        return JsonResponse({"detail": "This job does not exist."}, status=404)
    return JsonResponse(answer)
