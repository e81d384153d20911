"""Three common tasks of an asynchronous site: use a cache, query, call another service."""

import asyncio
import random
import time

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.models import Count, Max, Sum
from django.db.models.functions import Length
from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs.models import Heartbeat, Job

from .identity import identity
from .models import Note
from .outages import REDIS_ERRORS, needs_database

CACHED_SECONDS = 15
WORK_SECONDS = 0.3


def milliseconds(start):
    """Return the milliseconds since `start`, rounded for a reader."""
    return round((time.perf_counter() - start) * 1000, 1)


async def count(name):
    """Raise the counter `name` and return it."""
    await cache.aadd(name, 0, timeout=None)
    # Not aincr: it reads, then writes, so workers lose counts of each other, and the key expires.
    return await sync_to_async(cache.incr)(name)


@never_cache
@require_safe
async def cached(request):
    """Return a value that takes 0.3 s to make, from the cache if possible; count hits and misses.

    Without the cache the site is slower, not broken: the value is made and the answer says so.
    """
    start = time.perf_counter()
    answer = {"backend": "redis" if settings.REDIS_CACHE_URL else "local memory", "available": True}
    try:
        made = await cache.aget("value")
        answer["hit"] = made is not None
        if made is None:
            made = await work()
            await cache.aset("value", made, CACHED_SECONDS)
        for name in ("hits", "misses"):
            counted = (name == "hits") == answer["hit"]
            answer[name] = await count(name) if counted else await cache.aget(name, 0)
    except REDIS_ERRORS:
        answer |= {"available": False, "hit": False, "hits": None, "misses": None}
        made = await work()
    return JsonResponse(answer | {"value": made, "ms": milliseconds(start)})


async def work():
    """Return a value that is slow to make, and the process that made it."""
    await asyncio.sleep(WORK_SECONDS)
    return {"number": random.randrange(1000, 10000), "made_by": identity()}


@never_cache
@require_safe
@needs_database
async def queries(request):
    """Return five queries through Django's async interface, each with its time."""
    answers = []

    async def measure(what, query):
        start = time.perf_counter()
        result = await query
        answers.append({"what": what, "result": result, "ms": milliseconds(start)})

    start = time.perf_counter()
    await measure("notes", Note.objects.acount())
    written = await aggregate(Note.objects.annotate(length=Length("text")), total=Sum("length"))
    answers.append({"what": "characters written", **written})
    states = {}
    since = time.perf_counter()
    async for row in Job.objects.order_by().values("state").annotate(count=Count("pk")):
        states[row["state"]] = row["count"]
    counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    answers.append({"what": "jobs", "result": counted or "none", "ms": milliseconds(since)})
    attempts = await aggregate(Job.objects, total=Max("attempts"))
    answers.append({"what": "most attempts", **attempts})
    beats = Heartbeat.objects.filter(name="beat").values_list("beats", flat=True)
    await measure("heartbeats", beats.afirst())
    return JsonResponse(
        {
            "database": connection.display_name,
            "queries": [answer | {"result": answer["result"] or 0} for answer in answers],
            "ms": milliseconds(start),
        }
    )


async def aggregate(rows, total):
    """Return an aggregate over the rows, and its time."""
    start = time.perf_counter()
    return {"result": (await rows.aaggregate(total=total))["total"], "ms": milliseconds(start)}


@never_cache
@require_safe
async def outgoing(request):
    """Send three concurrent requests with httpx to OUTGOING_URL, or to this application.

    The deployment sets the address, never the visitor. 502 if one gets no valid answer in 3 s.
    """
    transport = None
    base = settings.OUTGOING_URL
    if not base:
        from config.asgi import django_application  # it imports the URLs, so not at the top

        transport = httpx.ASGITransport(django_application)
        base = f"{request.scheme}://{request.get_host()}"
    start = time.perf_counter()
    try:
        async with httpx.AsyncClient(base_url=base, transport=transport, timeout=3) as client:
            responses = await asyncio.gather(*(ask(client) for _ in range(3)))
    except (httpx.HTTPError, ValueError) as error:
        detail = f"No good answer: {type(error).__name__}."
        return JsonResponse({"detail": detail}, status=502)
    return JsonResponse(
        {
            "asked": settings.OUTGOING_URL or "this application, in-process",
            "answers": responses,
            "ms": milliseconds(start),
        }
    )


async def ask(client):
    """Return status, time and release of one /healthz; raise httpx.HTTPError or ValueError."""
    start = time.perf_counter()
    response = await client.get("/healthz")
    response.raise_for_status()
    release = response.json().get("release", "")
    return {"status": response.status_code, "ms": milliseconds(start), "release": release}
