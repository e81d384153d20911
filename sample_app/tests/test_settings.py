"""The settings, each in a separate process, as a deployment starts it."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def manage(environment, *arguments):
    """Run manage.py with only this environment; return the finished process."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        check=False,
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("tls", ["0", "1"])
def test_production_passes_the_deployment_checks(production, tls):
    result = manage(production | {"TLS": tls}, "check", "--deploy", "--fail-level", "WARNING")
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


def test_a_weak_key_does_not_pass_the_deployment_checks(production):
    weak = production | {"SECRET_KEY": "short"}
    result = manage(weak, "check", "--deploy", "--fail-level", "WARNING")
    assert result.returncode != 0 and "security.W009" in result.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set: give production a random one"),
        ({"DEBUG": "maybe"}, "DEBUG must be 1 or 0, not 'maybe'."),
        ({"DATABASE_URL": "mysql://u:hidden@h/n"}, "DATABASE_URL must be an address that begins"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_CACHE_URL must be an address that begins"),
        ({"TLS": "1", "HSTS_SECONDS": "-1"}, "HSTS_SECONDS must be a whole number, not '-1'."),
    ],
)
def test_refuses_to_start(production, change, sentence):
    result = manage(production | change, "check")
    assert result.returncode != 0
    assert sentence in result.stderr.splitlines()[-1]
    assert "hidden" not in result.stderr


def test_development_needs_nothing_and_keeps_no_key(production):
    bare = {"PATH": production["PATH"], "STATE_DIRECTORY": production["STATE_DIRECTORY"]}
    code = "from django.conf import settings; print(settings.SECRET_KEY)"
    keys = [manage(bare | {"DEBUG": "1"}, "shell", "-v0", "-c", code).stdout for _ in range(2)]
    assert all(len(key) > 50 for key in keys) and keys[0] != keys[1]


def test_migrations_are_complete(production):
    result = manage(production, "makemigrations", "--check", "--dry-run")
    assert result.returncode == 0, result.stdout


def test_tls_redirects_all_but_health(production):
    code = (
        "from django.test import Client; c = Client();"
        "print(*[c.get(p, headers={'x-forwarded-proto': s}).status_code for p, s in"
        " [('/api/hello/', 'http'), ('/api/hello/', 'https'), ('/healthz', 'http')]])"
    )
    result = manage(production | {"TLS": "1"}, "shell", "-v0", "-c", code)
    assert result.stdout.strip() == "301 200 200", result.stderr


def test_one_address_of_redis_serves_for_all_that_is_not_named_otherwise(production):
    code = (
        "from django.conf import settings as s;"
        "print(s.REDIS_CACHE_URL, s.REDIS_CHANNELS_URL, s.CELERY_BROKER_URL, s.DATABASES['default']['ENGINE'],"
        "s.DATABASES['default']['OPTIONS']['pool']['max_size'])"
    )
    services = {
        "REDIS_URL": "redis://h/1",
        "REDIS_CHANNELS_URL": "",
        "CELERY_BROKER_URL": "unix:///run/r.sock",
        "DATABASE_URL": "postgres://u:p@h/n",
        "DB_POOL_MAX": "7",
    }
    result = manage(production | services, "shell", "-v0", "-c", code)
    assert result.stdout.split() == [
        "redis://h/1",
        "redis+socket:///run/r.sock?virtual_host=0",
        "django.db.backends.postgresql",
        "7",
    ], result.stderr
