"""Settings, read only from the environment.

Production is the default and needs SECRET_KEY and ALLOWED_HOSTS; DEBUG=1 is for development and
needs nothing. The variables are listed in README.md.
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from . import services

BASE_DIR = Path(__file__).resolve().parent.parent


def env_flag(name):
    """Return the variable as a boolean (unset: False); refuse any other word."""
    word = os.environ.get(name, "").strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"", "0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {word!r}.")


def env_number(name, default):
    """Return the variable as a whole number of at least 0; refuse anything else."""
    word = os.environ.get(name) or str(default)
    if not word.isdecimal():
        raise ImproperlyConfigured(f"{name} must be a whole number, not {word!r}.")
    return int(word)


def env_list(name, default=()):
    """Return the variable, a comma-separated list, as a list of words."""
    words = [word.strip() for word in os.environ.get(name, "").split(",")]
    return [word for word in words if word] or list(default)


# --- Mode, release, key ---------------------------------------------------------------------

DEBUG = env_flag("DEBUG")
RELEASE = os.environ.get("APP_RELEASE") or "development"

SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set: give production a random one of at least 50 characters, "
            "or set DEBUG=1 for development."
        )
    SECRET_KEY = get_random_secret_key()  # only for this process: nothing to leak or to reuse

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")

# --- State: everything that outlives a release ----------------------------------------------

if os.environ.get("STATE_DIRECTORY"):
    STATE_DIRECTORY = Path(os.environ["STATE_DIRECTORY"])
else:
    STATE_DIRECTORY = BASE_DIR / "var"
    STATE_DIRECTORY.mkdir(exist_ok=True)

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": STATE_DIRECTORY / "db.sqlite3",
    "OPTIONS": {
        # Several workers, and two releases during a deploy, share the file: with WAL readers
        # continue during a write, and with IMMEDIATE writers queue instead of failing.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
    },
}
DATABASE_URL = os.environ.get("DATABASE_URL", "")
DB_POOL_MAX = env_number("DB_POOL_MAX", 4)  # connections a process may hold; 0: no pool
DATABASES = {"default": services.postgresql(DATABASE_URL, DB_POOL_MAX) if DATABASE_URL else SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MEDIA_ROOT = STATE_DIRECTORY / "media"
MEDIA_URL = "/media/"
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o755  # nginx serves these files as another user
FILE_UPLOAD_PERMISSIONS = 0o644
UPLOAD_MAX_BYTES = 2 * 1024 * 1024
UPLOAD_QUOTA_BYTES = 100 * 1024 * 1024

# Large files arrive in pieces, so neither the edge's body limit nor a deploy interrupts them.
FILES_ROOT = STATE_DIRECTORY / "files"
FILE_CHUNK_BYTES = 1024 * 1024
FILE_MAX_BYTES = env_number("FILE_MAX_BYTES", 100 * 1024 * 1024)
FILES_QUOTA_BYTES = env_number("FILES_QUOTA_BYTES", 1024 * 1024 * 1024)
FILES_KEEP_SECONDS = env_number("FILES_KEEP_SECONDS", 24 * 3600)

# --- Static files ---------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("STATIC_ROOT") or STATE_DIRECTORY / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "config.storage.HashedStaticFilesStorage"
    },
}

# --- The application ------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "rest_framework",
    "showcase",
    "jobs",
]

# Under ASGI, each of these classes takes every request through a thread and back: list only the
# ones you use. Sessions, messages and accounts are not used here.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# --- Redis: cache, channel layer, queue; without it, stand-ins inside each process -------------


def env_redis(name):
    """Return the Redis address in the variable; unset: that of REDIS_URL; empty: none."""
    url = os.environ.get(name, os.environ.get("REDIS_URL", ""))
    return services.redis(name, url) if url else ""


REDIS_CACHE_URL = env_redis("REDIS_CACHE_URL")
REDIS_CHANNELS_URL = env_redis("REDIS_CHANNELS_URL")
REDIS_QUEUE_URL = env_redis("CELERY_BROKER_URL")
REDIS_PREFIX = os.environ.get("REDIS_PREFIX") or "sample"  # apps may share a Redis, not keys

if REDIS_CACHE_URL:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_CACHE_URL,
            "KEY_PREFIX": f"{REDIS_PREFIX}:cache",
            # A slow cache is worse than none.
            "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

if REDIS_CHANNELS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                "hosts": [
                    {
                        "address": REDIS_CHANNELS_URL,
                        "socket_connect_timeout": 2,
                        # Longer than the 5 s that the layer waits for a message: redis-py's default
                        # is also 5 s, and idle connections would fail in turn.
                        "socket_timeout": 15,
                        # After a restart of Redis, each connection in the pool fails once.
                        "retry": Retry(NoBackoff(), 1),
                        "max_connections": 1000,
                    }
                ],
                "prefix": f"{REDIS_PREFIX}:channels",
                "capacity": 500,  # messages queued for one process; more are dropped
                "expiry": 30,
                "group_expiry": 3600,  # entries of a killed process expire
            },
        }
    }
else:
    # Each worker has its own layer: a room reaches only the clients of one process.
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# --- Background jobs --------------------------------------------------------------------------

JOB_MAX_SECONDS = env_number("JOB_MAX_SECONDS", 120)
JOB_STALLED_SECONDS = 30  # a job without progress for this long has lost its worker
HEARTBEAT_SECONDS = env_number("HEARTBEAT_SECONDS", 10)
CELERY_TIME_LIMIT = env_number("CELERY_TIME_LIMIT", 300)

CELERY_BROKER_URL = services.celery_broker(REDIS_QUEUE_URL) or "memory://"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        # The message of a worker that died with its machine is delivered again after this time.
        # It must be longer than any task, or a running task is started a second time.
        "visibility_timeout": CELERY_TIME_LIMIT + 120,
        "global_keyprefix": f"{REDIS_PREFIX}:queue:",
        "socket_connect_timeout": 2,
        "socket_timeout": 15,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
    if REDIS_QUEUE_URL
    else {}
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # forever, so systemd need not restart it
CELERY_TASK_ACKS_LATE = True  # a message is removed when its task ends, not when it begins
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a stopping worker returns tasks that it has not begun
# A task continues while Redis restarts; a repeated message then finds its job done.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TASK_SOFT_TIME_LIMIT = CELERY_TIME_LIMIT
CELERY_TASK_TIME_LIMIT = CELERY_TIME_LIMIT + 30
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_HIJACK_ROOT_LOGGER = False  # LOGGING below applies to workers too
CELERY_BEAT_SCHEDULE_FILENAME = os.environ.get("CELERY_BEAT_SCHEDULE_FILE") or str(
    STATE_DIRECTORY / "celerybeat-schedule"
)
CELERY_BEAT_SCHEDULE = {
    "heartbeat": {
        "task": "jobs.heartbeat",
        "schedule": HEARTBEAT_SECONDS,
        "options": {"expires": HEARTBEAT_SECONDS},  # after an outage one beat is enough
    }
}

# --- Outgoing HTTP ----------------------------------------------------------------------------

# Base address for /api/outgoing/; empty: the application itself, without a network.
OUTGOING_URL = os.environ.get("OUTGOING_URL", "")
if OUTGOING_URL:
    services.split("OUTGOING_URL", OUTGOING_URL, ("http", "https"))

ASK_TOKEN_SECONDS = 0.03  # between two tokens of an answer

# --- API --------------------------------------------------------------------------------------

# JSON in, JSON out, no accounts. Add authentication before you add anything worth protecting.
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "EXCEPTION_HANDLER": "showcase.outages.exception_handler",
}

USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# --- TLS ------------------------------------------------------------------------------------

# TLS=1 means that the edge serves HTTPS. Only then may cookies be limited to HTTPS and plain
# requests be redirected to it: on a plain-HTTP host that would be a redirect loop.
TLS = env_flag("TLS")
if TLS:
    # The edge overwrites this header, and only the edge can reach the app's socket.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # requested on the host, without the edge
    SECURE_HSTS_SECONDS = env_number("HSTS_SECONDS", 3600)  # raise it once you are sure
    CSRF_COOKIE_SECURE = True
    SESSION_COOKIE_SECURE = True
    # Subdomains and preloading affect other hosts of the domain: its owner decides.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
else:
    # HSTS, redirect to HTTPS, secure cookies: these four findings mean only that TLS is off.
    SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008", "security.W012", "security.W016"]

# --- Logging: to stderr; the collector adds the time ----------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "showcase.request_id.RequestIdFilter"}},
    "formatters": {"plain": {"format": "%(levelname)s %(name)s [%(request_id)s]: %(message)s"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "filters": ["request_id"],
            "formatter": "plain",
        }
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO"},  # not twice, and no mail to admins
        "httpx": {"level": "WARNING"},
    },
}
