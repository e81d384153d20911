"""Report what the project is; then collect its static files and run its checks, with one start of Django for all.

It runs inside the project's own manage.py, whose preparations count. Argument: the descriptor for messages, each a JSON object
on a line. After the first one, {"facts": …} or {"failed": …}, it reads an object from standard input: `collect` (whether to
collect static files), `static_root` (where to, if the settings name no place), `module` (the application that is served) and
`databases` (whose migrations count; null: none).
"""

import importlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from asgictl_shared import compared_migrations, inside_manage, migrated_databases

messages = os.fdopen(int(sys.argv[1]), "w", buffering=1)


def tell(**message: object) -> None:
    """Send a message to asgictl."""
    messages.write(json.dumps(message, default=str) + "\n")


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell of an error that ends the program, and of the path that it, or the error that caused it, is about."""
    cause: BaseException | None = error
    while cause and not (isinstance(cause, OSError) and cause.filename):
        cause = cause.__cause__ or cause.__context__
    tell(failed=f"{kind.__name__}: {error}", path=absolute(os.fsdecode(cause.filename)) if cause else "")
    sys.__excepthook__(kind, error, trace)


def absolute(path: object) -> str:
    """Return a setting's path, seen from the directory of manage.py; empty if it is not set."""
    return str(Path(path).resolve()) if path else ""


def storage(name: str, former: str) -> dict:
    """Return the class of a storage, named by `former` before Django 4.2, and what files it keeps on this host."""
    from django.conf import settings
    from django.core.files.storage import FileSystemStorage
    from django.utils.module_loading import import_string

    path = settings.STORAGES.get(name, {}).get("BACKEND") if hasattr(settings, "STORAGES") else getattr(settings, former)
    if not path:
        return {"class": "", "local": False, "manifest": False}
    found = import_string(path)
    return {"class": path, "local": issubclass(found, FileSystemStorage), "manifest": hasattr(found, "manifest_name")}


def databases() -> dict:
    """Return, for each alias: its engine, the file of SQLite, whether connections persist or are pooled, whether it is migrated."""
    from django.conf import settings

    found, migrated = {}, migrated_databases([])
    for alias, database in settings.DATABASES.items():
        engine = database.get("ENGINE", "")
        name = database.get("NAME") or ""
        options = database.get("OPTIONS") or {}
        is_file = (
            engine.endswith(("sqlite3", "spatialite")) and str(name) not in ("", ":memory:") and not str(name).startswith("file:")
        )
        found[alias] = {
            "engine": engine,
            "file": absolute(name) if is_file else "",
            "persistent": bool(engine) and database.get("CONN_MAX_AGE", 0) != 0,
            "pool": bool(options.get("pool")),
            "migrated": alias in migrated,
        }
    return found


def facts() -> dict:
    """Return what asgictl's rules need to know of the project; no value that may be a secret."""
    from django import get_version
    from django.conf import settings

    logging = getattr(settings, "LOGGING", None) or {}
    handlers = logging.get("handlers", {}).values() if isinstance(logging, dict) else []
    return {
        "django": get_version(),
        "debug": settings.DEBUG,
        "apps": list(settings.INSTALLED_APPS),
        "middleware": list(settings.MIDDLEWARE),
        "static_url": settings.STATIC_URL or "",
        "static_root": absolute(settings.STATIC_ROOT),
        "static_storage": storage("staticfiles", "STATICFILES_STORAGE"),
        "media_url": settings.MEDIA_URL or "",
        "media_root": absolute(settings.MEDIA_ROOT),
        "default_storage": storage("default", "DEFAULT_FILE_STORAGE"),
        "databases": databases(),
        "channel_layers": {name: layer.get("BACKEND", "") for name, layer in getattr(settings, "CHANNEL_LAYERS", {}).items()},
        # Django's own default is harmless to a project that does not use the cache.
        "caches": {name: cache.get("BACKEND", "") for name, cache in settings.CACHES.items()}
        if settings.is_overridden("CACHES")
        else {},
        "log_files": sorted(absolute(handler["filename"]) for handler in handlers if handler.get("filename")),
        "allowed_hosts": list(settings.ALLOWED_HOSTS),
        "ssl_redirect": settings.SECURE_SSL_REDIRECT,
        "proxy_ssl_header": bool(settings.SECURE_PROXY_SSL_HEADER),
    }


def run() -> None:
    """Do what the program's text promises."""
    import django

    django.setup()
    tell(facts=facts())
    wanted = json.loads(sys.stdin.readline())
    from django.conf import settings
    from django.core import checks
    from django.core.management import call_command

    if wanted["collect"]:
        if not settings.STATIC_ROOT:
            settings.STATIC_ROOT = wanted["static_root"]
        call_command("collectstatic", interactive=False, verbosity=0, skip_checks=False)
    tell(collected=wanted["collect"])
    checked = [check for check in checks.run_checks(include_deployment_checks=True) if not check.is_silenced()]
    tell(checks=[{"level": check.level, "text": str(check)} for check in checked])
    # As gunicorn reads it: module:name, or module:name(arguments).
    module, _, name = wanted["module"].partition(":")
    getattr(importlib.import_module(module), name.partition("(")[0] or "application")
    tell(imported=wanted["module"])
    # It saves another start of Django. A failure is left to the step that migrates, which explains it.
    with suppress(Exception):
        tell(pending=compared_migrations(wanted["databases"])["pending"] if wanted["databases"] is not None else None)


sys.excepthook = report
inside_manage(run)
