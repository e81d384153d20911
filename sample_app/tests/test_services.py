"""Addresses of PostgreSQL and Redis."""

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import services


def test_postgresql():
    parsed = services.postgresql(
        "postgres://us%65r:p%40ss%2Fw@db.example:5433/na%6De?sslmode=require", 5
    )
    assert parsed["ENGINE"] == "django.db.backends.postgresql"
    assert (parsed["USER"], parsed["PASSWORD"]) == ("user", "p@ss/w")
    assert (parsed["HOST"], parsed["PORT"], parsed["NAME"]) == ("db.example", "5433", "name")
    assert parsed["OPTIONS"]["sslmode"] == "require"
    assert parsed["OPTIONS"]["pool"]["max_size"] == 5
    assert parsed["CONN_MAX_AGE"] == 0  # Django refuses any other value with a pool


def test_postgresql_over_a_socket_without_a_pool():
    parsed = services.postgresql("postgresql:///name?host=/run/postgresql", 0)
    assert (parsed["HOST"], parsed["PORT"], parsed["NAME"]) == ("/run/postgresql", "", "name")
    assert "pool" not in parsed["OPTIONS"]


def test_a_command_closes_its_pool_when_it_ends(production):
    command = """
import atexit, django
atexit.register(lambda: print(pool.closed))  # registered first, called last
django.setup()
from django.db import connection
pool = connection.pool
pool.open()
"""
    environment = production | {"DATABASE_URL": "postgres://user@127.0.0.1:1/name"}
    ended = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "True\n"


@pytest.mark.parametrize(
    "url", ["mysql://u:hidden@h/n", "postgres://u:hidden@h:x/n", "postgres://u:hidden@h", "hidden"]
)
def test_what_is_no_database_is_refused_and_not_repeated(url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as refusal:
        services.postgresql(url, 4)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("url", ["redis://:p@h:6379/1", "rediss://h", "unix:///run/r.sock?db=2"])
def test_redis(url):
    assert services.redis("REDIS_URL", url) == url


@pytest.mark.parametrize("url", ["http://hidden", "unix://", "h:6379", "redis://h:x"])
def test_what_is_no_redis_is_refused(url):
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        services.redis("REDIS_URL", url)


def test_celery_calls_a_socket_otherwise():
    assert services.celery_broker("redis://h/1") == "redis://h/1"
    broker = services.celery_broker("unix://:p%40@/run/r.sock?db=2")
    assert broker == "redis+socket://:p%40@/run/r.sock?virtual_host=2"
