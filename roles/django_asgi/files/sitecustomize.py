"""Serve a Django project below the path in APP_PATH_PREFIX without a change of its settings.

Python imports this module at its start (site), because PYTHONPATH leads to it: the web service, manage.py, Celery and timers all
see the same prefix. Django itself reads no such variable, prefixes STATIC_URL and MEDIA_URL only if they are relative, and the URLs
of its logins never; outside of a request its URLs have no prefix at all unless FORCE_SCRIPT_NAME is set.
"""

import contextlib
import os

# Absolute paths in these settings move below the prefix; names of URL patterns and other hosts' URLs stay.
URLS = ("STATIC_URL", "MEDIA_URL", "LOGIN_URL", "LOGIN_REDIRECT_URL", "LOGOUT_REDIRECT_URL")
# So that two projects below one name don't overwrite each other's cookies.
COOKIE_PATHS = ("SESSION_COOKIE_PATH", "CSRF_COOKIE_PATH", "LANGUAGE_COOKIE_PATH")


def below(prefix: str, value: object) -> object:
    """Return an absolute path below the prefix; return anything else, or what is there already, as it is."""
    if not isinstance(value, str) or not value.startswith("/") or value.startswith("//"):
        return value
    return value if value == prefix or value.startswith(f"{prefix}/") else prefix + value


def move(prefix: str) -> None:
    """Make django.setup, which every program of a project calls, move the project's settings below the prefix."""
    import django

    setup = django.setup

    def setup_below(set_prefix: bool = True) -> None:
        """Do as django.setup does; set the prefix always, for a WebSocket's consumer is in no request."""
        from django.conf import settings

        for name in URLS:
            setattr(settings, name, below(prefix, getattr(settings, name)))
        for name in COOKIE_PATHS:
            if getattr(settings, name) == "/":
                setattr(settings, name, prefix)
        settings.FORCE_SCRIPT_NAME = prefix
        setup(set_prefix=True)

    django.setup = setup_below


if path_prefix := os.environ.get("APP_PATH_PREFIX"):
    # A Python outside the release's environment, which the app starts, has no Django.
    with contextlib.suppress(ImportError):
        move(path_prefix)
