"""Cache, queries, outgoing HTTP, and the status of the services."""

import asyncio
import time

import httpx
import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.models import Heartbeat
from showcase import demos, health
from showcase.models import Note


@pytest.fixture
def no_database(monkeypatch):
    def away(self):
        raise OperationalError("hidden")

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", away)


def test_the_cache_saves_the_work(client, monkeypatch):
    monkeypatch.setattr(demos, "WORK_SECONDS", 0)
    answers = [client.get("/api/cache/").json() for _ in range(3)]
    assert [answer["hit"] for answer in answers] == [False, True, True]
    assert [(answer["hits"], answer["misses"]) for answer in answers] == [(0, 1), (1, 1), (2, 1)]
    assert len({answer["value"]["number"] for answer in answers}) == 1
    assert answers[0]["backend"] == "local memory"


async def test_no_hit_is_left_uncounted_or_forgotten(monkeypatch):
    answers = await asyncio.gather(*(demos.count("hits") for _ in range(50)))
    assert sorted(answers) == list(range(1, 51))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert await cache.aget("hits") == 50


def test_without_its_cache_it_is_slower_but_works(client, monkeypatch):
    async def away(*arguments, **options):
        raise RedisConnectionError

    monkeypatch.setattr(demos, "WORK_SECONDS", 0)
    monkeypatch.setattr(cache, "aget", away)
    answer = client.get("/api/cache/")
    assert (answer.status_code, answer.json()["available"], answer.json()["hit"]) == (
        200,
        False,
        False,
    )
    assert answer.json()["value"]["number"]


@pytest.mark.django_db
def test_queries(client):
    Note.objects.create(text="four")
    answer = client.get("/api/queries/").json()
    found = {query["what"]: query["result"] for query in answer["queries"]}
    assert (answer["database"], found["notes"], found["characters written"]) == ("SQLite", 1, 4)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/queries/", "/api/notes/", "/api/jobs/"])
def test_without_its_database_it_says_so(client, no_database, path):
    answer = client.get(path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer.json() == {"detail": "The database does not answer. Try again in a moment."}


@pytest.mark.django_db  # the inner request closes the outer one's connection
def test_it_asks_itself(client):
    answer = client.get("/api/outgoing/").json()
    assert answer["asked"] == "this application, in-process"
    assert [(one["status"], one["release"]) for one in answer["answers"]] == [
        (200, "0123456789ab")
    ] * 3


def test_it_asks_whom_the_deployment_names(client, settings, monkeypatch):
    settings.OUTGOING_URL = "http://service.example:8000"
    asked = []

    async def get(self, path):
        asked.append(str(self.base_url.join(path)))
        raise httpx.ConnectError("hidden")

    monkeypatch.setattr(httpx.AsyncClient, "get", get)
    answer = client.get("/api/outgoing/?url=http://evil.example/")
    assert (answer.status_code, answer.json()) == (502, {"detail": "No good answer: ConnectError."})
    assert set(asked) == {"http://service.example:8000/healthz"}


@pytest.mark.django_db
def test_status_names_the_stand_ins(client):
    answer = client.get("/api/status/").json()
    parts = {name: (part["state"], part["kind"]) for name, part in answer["components"].items()}
    assert parts == {
        "database": ("local", "SQLite"),
        "cache": ("local", "Local memory"),
        "channels": ("local", "In-process"),
        "queue": ("local", "In-process"),
        "beat": ("local", "None"),
    }
    assert (answer["release"], bool(answer["host"])) == ("0123456789ab", True)


@pytest.fixture
def redis_everywhere(settings):
    """Redis for cache, channel layer and queue, at an address where nothing listens."""
    for name in ("REDIS_CACHE_URL", "REDIS_CHANNELS_URL", "REDIS_QUEUE_URL"):
        setattr(settings, name, "unix:///nothing/here.sock")


@pytest.mark.django_db
def test_readyz_asks_what_is_configured_and_says_what_is_away(
    client, redis_everywhere, monkeypatch
):
    away = {"database": "ok", "cache": "failed", "channels": "failed", "queue": "failed"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, away)
    assert "nothing" not in answer.content.decode()

    async def there(url):
        return "Redis", "7"

    monkeypatch.setattr(health, "ask_redis", there)
    answer = client.get("/readyz")
    assert answer.status_code == 200 and set(answer.json()["checks"].values()) == {"ok"}


@pytest.mark.django_db
def test_status_is_never_an_error(client, redis_everywhere, no_database):
    answer = client.get("/api/status/")
    states = {part["state"] for part in answer.json()["components"].values()}
    assert (answer.status_code, states) == (200, {"failed"})


@pytest.mark.django_db(transaction=True)
def test_status_tells_the_age_of_the_heartbeat(client, redis_everywhere):
    Heartbeat.objects.create(name="beat", beats=7, host="h", worker=1, release="r")
    beat = client.get("/api/status/").json()["components"]["beat"]
    assert (beat["state"], beat["beats"], beat["host"]) == ("ok", 7, "h")


def test_a_check_that_hangs_is_given_up(client, redis_everywhere, monkeypatch):
    import asyncio

    monkeypatch.setattr(health, "TIMEOUT", 0.05)
    monkeypatch.setattr(health, "database", lambda: asyncio.sleep(5))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "failed")
