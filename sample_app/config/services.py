"""Convert addresses of PostgreSQL and Redis into settings of Django, Channels and Celery.

No error here repeats an address, because it may contain a password.
"""

from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from django.core.exceptions import ImproperlyConfigured


def split(name, url, schemes):
    """Return the parts of `url`; refuse another scheme or a bad port, naming variable `name`."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and parts.port != 0  # a port that is not a number raises
    except ValueError:
        valid = False
    if not valid:
        expected = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ImproperlyConfigured(f"{name} must be an address that begins with one of {expected}.")
    return parts


def postgresql(url, pool_max):
    """Return the settings of a PostgreSQL database.

    `postgres://user:password@host:5432/name?sslmode=require`; `postgres:///name?host=/run/postgresql`
    uses a Unix socket. The query string is passed to libpq.
    """
    parts = split("DATABASE_URL", url, ("postgres", "postgresql"))
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ImproperlyConfigured("DATABASE_URL names no database: postgres://…/name")
    query = dict(parse_qsl(parts.query))
    options = {
        # Detect a host that has vanished silently in seconds, not in minutes.
        "connect_timeout": 3,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    if pool_max:
        # One pool per process, opened by its first query, so never before gunicorn forks. An idle
        # worker holds no connection; if all are busy, a query waits up to `timeout` seconds.
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
        # Checked when a connection leaves the pool, so a server restart leaves none broken.
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 0,
    }


def redis(name, url):
    """Return `url` after a check: `redis://`, `rediss://` (TLS) or `unix:///path?db=0`."""
    parts = split(name, url, ("redis", "rediss", "unix"))
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{name} names no socket: unix:///run/redis/redis.sock?db=0")
    return url


def celery_broker(url):
    """Return a Redis address in Celery's form, which differs for a Unix socket."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = dict(parse_qsl(parts.query))
    query = {"virtual_host": query.pop("db", "0")} | query
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"
