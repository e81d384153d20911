"""Health checks: whether the process is up, whether its services answer, and what they are."""

import asyncio
import logging
import platform
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from jobs.models import Heartbeat, Job

from .identity import identity
from .models import Note

logger = logging.getLogger(__name__)

TIMEOUT = 3  # seconds, for each check; they run side by side
# A database that hangs blocks only these threads.
DATABASE_THREADS = ThreadPoolExecutor(2, thread_name_prefix="health")


def ask_database():
    """Return (kind, version, last heartbeat); raise if the database is away or not migrated."""
    try:
        Note.objects.exists()
        Job.objects.exists()
        beat = Heartbeat.objects.filter(name="beat").values().first()
        if connection.vendor != "postgresql":
            return "SQLite", sqlite3.sqlite_version, beat
        number = connection.pg_version
        version, pool = f"{number // 10000}.{number % 10000}", connection.pool
        if pool:
            seen = pool.get_stats()
            version += f", pool {seen.get('pool_size', 0)} of {seen.get('pool_max', 0)}"
        return "PostgreSQL", version, beat
    finally:
        connection.close()  # back into the pool


async def database():
    """Call ask_database in a thread reserved for health checks."""
    return await sync_to_async(ask_database, thread_sensitive=False, executor=DATABASE_THREADS)()


async def ask_redis(url):
    """Return (kind, version) over a new, so never stale, connection; raise if Redis is away."""
    options = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    async with Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options) as client:
        await client.ping()
        try:
            server = await client.info("server")
        except ResponseError:  # it answers, but INFO is not permitted
            return "Redis", ""
    valkey = server.get("server_name") == "valkey"
    version = server.get("valkey_version" if valkey else "redis_version", "")
    return "Valkey" if valkey else "Redis", str(version)


async def cache():
    return await ask_redis(settings.REDIS_CACHE_URL)


async def channels():
    return await ask_redis(settings.REDIS_CHANNELS_URL)


async def queue():
    return await ask_redis(settings.REDIS_QUEUE_URL)


def configured():
    """Return the checks of the configured services, by name."""
    checks = {"database": database}
    if settings.REDIS_CACHE_URL:
        checks["cache"] = cache
    if settings.REDIS_CHANNELS_URL:
        checks["channels"] = channels
    if settings.REDIS_QUEUE_URL:
        checks["queue"] = queue
    return checks


async def attempt(name, check):
    """Return (answer or None, milliseconds): None if the check fails or does not end in time."""
    start, answer = time.perf_counter(), None
    try:
        async with asyncio.timeout(TIMEOUT):
            answer = await check()
    except (DatabaseError, InterfaceError, RedisError, OSError, TimeoutError) as error:
        logger.warning("%s does not answer: %s: %s", name, type(error).__name__, error)
    except Exception:
        logger.exception("the check of %s failed", name)
    return answer, round((time.perf_counter() - start) * 1000, 1)


async def attempt_all():
    """Run all checks and return the results of attempt() by name."""
    checks = configured()
    answers = await asyncio.gather(*(attempt(name, check) for name, check in checks.items()))
    return dict(zip(checks, answers, strict=True))


@never_cache
@require_safe
async def healthz(request):
    """Answer 200: the process is up. No other check, so an outage elsewhere restarts nothing."""
    return JsonResponse({"status": "ok", "release": settings.RELEASE})


@never_cache
@require_safe
async def readyz(request):
    """Answer 200 if every service the app needs answers, otherwise 503, with the state of each.

    The reason goes only to the log, because this address is public.
    """
    results = {
        name: "failed" if answer is None else "ok"
        for name, (answer, _) in (await attempt_all()).items()
    }
    ready = all(result == "ok" for result in results.values())
    return JsonResponse(
        {"status": "ok" if ready else "failed", "release": settings.RELEASE, "checks": results},
        status=200 if ready else 503,
    )


STAND_INS = {
    "cache": ("Local memory", "each worker has its own"),
    "channels": ("In-process", "rooms reach one worker only"),
    "queue": ("In-process", "jobs run in the web worker"),
}


@never_cache
@require_safe
async def status(request):
    """Describe this process and its services for the page. Always 200.

    Each component's state is "ok", "failed", or "local": a stand-in inside the process.
    """
    answers = await attempt_all()
    components = {}
    for name in ("database", "cache", "channels", "queue"):
        if name not in answers:
            kind, detail = STAND_INS[name]
            components[name] = {"state": "local", "kind": kind, "detail": detail}
            continue
        answer, milliseconds = answers[name]
        if answer is None:
            kind = "Redis"
            if name == "database":
                kind = "PostgreSQL" if settings.DATABASE_URL else "SQLite"
            components[name] = {"state": "failed", "kind": kind, "detail": "does not answer"}
        else:
            kind, detail = answer[:2]
            state = "local" if kind == "SQLite" else "ok"
            components[name] = {"state": state, "kind": kind, "detail": detail, "ms": milliseconds}
    components["beat"] = beat_component(answers["database"][0])
    return JsonResponse(
        identity()
        | {
            "python": platform.python_version(),
            "django": django.get_version(),
            "components": components,
        }
    )


def beat_component(database_answer):
    """Describe the scheduler from the row that its task refreshes."""
    if not settings.REDIS_QUEUE_URL:
        return {"state": "local", "kind": "None", "detail": "no scheduled tasks"}
    beat = database_answer[2] if database_answer else None
    if beat is None:
        detail = "no heartbeat yet" if database_answer else "unknown without the database"
        return {"state": "failed", "kind": "Celery beat", "detail": detail}
    age = round((timezone.now() - beat["at"]).total_seconds())
    fresh = age <= 3 * settings.HEARTBEAT_SECONDS
    return {
        "state": "ok" if fresh else "failed",
        "kind": "Celery beat",
        "detail": f"beat {beat['beats']}, {max(age, 0)} s ago",
        "beats": beat["beats"],
        **{name: beat[name] for name in ("host", "worker", "release")},
    }
