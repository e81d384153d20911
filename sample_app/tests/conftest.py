"""Run the tests as in production: no DEBUG, hashed static files, a separate state directory."""

import os
import tempfile
from pathlib import Path

STATE = tempfile.TemporaryDirectory(prefix="sample-app-")
PRODUCTION = {
    "PATH": os.environ["PATH"],
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SECRET_KEY": "".join(chr(97 + number % 26) for number in range(60)),
    "ALLOWED_HOSTS": "testserver,example.org",
    "APP_RELEASE": "0123456789ab",
    "STATE_DIRECTORY": STATE.name,
    "STATIC_ROOT": f"{STATE.name}/static",
}
SERVICES = (
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_CACHE_URL",
    "REDIS_CHANNELS_URL",
    "CELERY_BROKER_URL",
)
for name in ("DEBUG", "TLS", "CSRF_TRUSTED_ORIGINS", "OUTGOING_URL", *SERVICES):
    os.environ.pop(name, None)
os.environ.update(PRODUCTION)

import django
import pytest

django.setup()


@pytest.fixture(scope="session")
def production():
    """Environment of a production process, as a basis to start another process."""
    return dict(PRODUCTION)


@pytest.fixture(scope="session")
def static_root():
    """Directory with the collected static files."""
    from django.core.management import call_command

    call_command("collectstatic", interactive=False, verbosity=0)
    return Path(PRODUCTION["STATIC_ROOT"])


@pytest.fixture(autouse=True)
def fresh():
    """Give every test an empty cache and a channel layer that no other event loop has used."""
    from channels.layers import channel_layers
    from django.core.cache import cache

    cache.clear()
    channel_layers.backends.clear()
