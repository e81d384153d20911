"""Apply pending migrations to one database after another.

Arguments: the databases' aliases; none: those that the project's routers allow.
"""

import contextlib
import os
import sys
import zlib

from asgictl_shared import inside_manage, migrated_databases

os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
named = sys.argv[1:]


def migrate() -> None:
    """Apply them."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    for alias in migrated_databases(named):
        connection = connections[alias]
        # Two hosts of a fleet, or a fleet and a person, may migrate at the same time; PostgreSQL makes the second one wait.
        with connection.cursor() if connection.vendor == "postgresql" else contextlib.nullcontext() as cursor:
            if cursor:
                cursor.execute("SELECT pg_advisory_lock(%s)", [zlib.crc32(settings.SETTINGS_MODULE.encode())])
            call_command("migrate", database=alias, interactive=False)


inside_manage(migrate)
