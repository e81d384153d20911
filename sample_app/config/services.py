"""Addresses of PostgreSQL and Redis, turned into what Django, Channels and Celery want to be told.

No error here repeats an address: there is a password in it.
"""

from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from django.core.exceptions import ImproperlyConfigured


def split(name, url, schemes):
    """Return the parts of `url`; refuse, in the name of variable `name`, what is no such address."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and parts.port != 0  # a port that is no number raises
    except ValueError:
        valid = False
    if not valid:
        expected = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ImproperlyConfigured(f"{name} must be an address that begins with one of {expected}.")
    return parts


def postgresql(url, pool_max):
    """Return the settings of a PostgreSQL database.

    `postgres://user:password@host:5432/name?sslmode=require`; `postgres:///name?host=/run/postgresql`
    goes over a Unix socket. What follows the question mark is handed to libpq.
    """
    parts = split("DATABASE_URL", url, ("postgres", "postgresql"))
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ImproperlyConfigured("DATABASE_URL names no database: postgres://…/name")
    query = dict(parse_qsl(parts.query))
    options = {
        # A host that has vanished without a word is noticed in seconds, not in minutes.
        "connect_timeout": 3,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    if pool_max:
        # One pool a process, opened by its first query, so never before gunicorn forks. A worker
        # that is idle holds no connection; one that finds all busy waits `timeout` seconds.
        options["pool"] = {
            "min_size": 0,
            "max_size": pool_max,
            "timeout": 3,
            "max_idle": 60,
            "max_lifetime": 1800,
            "reconnect_timeout": 3,
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", "") or unquote(parts.hostname or ""),
        "PORT": str(parts.port or query.pop("port", "")),
        "OPTIONS": options | query,
        # Asked when a connection leaves the pool: after a restart of the server none is broken.
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 0,
    }


def redis(name, url):
    """Return the address in `url`, checked. `redis://`, `rediss://` (TLS), `unix:///path?db=0`."""
    parts = split(name, url, ("redis", "rediss", "unix"))
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{name} names no socket: unix:///run/redis/redis.sock?db=0")
    return url


def celery_broker(url):
    """Return a Redis address as Celery writes it: a Unix socket is called otherwise there."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = dict(parse_qsl(parts.query))
    query = {"virtual_host": query.pop("db", "0")} | query
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"
