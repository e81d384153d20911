"""What the programs share; `text_of` makes it a module of theirs."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path


def inside_manage(run: Callable[[], None]) -> None:
    """Run a function inside the project's own manage.py, in place of a command: its preparations may be more than Django's."""
    from django.core import management

    # manage.py imports this name when it runs, whether from Django or from what django-configurations wraps around it.
    management.execute_from_command_line = lambda _argv=None: run()
    sys.argv = ["manage.py", "check"]
    if Path("manage.py").exists():
        runpy.run_path("manage.py", run_name="__main__")
    else:
        run()


def migrated_databases(named: list[str]) -> list[str]:
    """Return the aliases of the databases to migrate: those that are named, or else those that the project's routers allow.

    A database besides `default` counts only if a router says so: Django takes silence for consent, and replicas have none.
    """
    from django.apps import apps
    from django.db import DEFAULT_DB_ALIAS, connections, router

    def is_meant(alias: str, app: str) -> bool:
        answers = (one.allow_migrate(alias, app) for one in router.routers if hasattr(one, "allow_migrate"))
        return next((answer for answer in answers if answer is not None), alias == DEFAULT_DB_ALIAS)

    return [
        alias
        for alias in named or connections
        if not connections.settings[alias]["ENGINE"].endswith(".dummy")
        and (named or any(is_meant(alias, config.label) for config in apps.get_app_configs()))
    ]
