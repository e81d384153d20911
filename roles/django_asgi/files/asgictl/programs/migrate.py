"""Apply pending migrations to one database after another; on PostgreSQL never wait for ever.

Arguments: the seconds that a statement may wait for a lock; the databases' aliases, none: those that the project's routers
allow. If it had to stop for a lock, the last line that it prints is {"waited_for": "deploy" or "lock", "database", "seconds",
"sessions"}, the last one a list of {"pid", "application", "state", "seconds", "query"}.

The locks must hold behind PgBouncer too, which in transaction mode gives every transaction another session of PostgreSQL:
pg_advisory_lock and SET would stay in a session that other clients get next, and a startup parameter is refused. What lasts for
a transaction is safe: so an own connection holds pg_advisory_xact_lock in an open transaction, and SET LOCAL begins each
transaction of the migrations.
"""

import json
import os
import re
import sys
import time
import zlib
from collections.abc import Callable

from asgictl_shared import inside_manage, migrated_databases

os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
seconds, named = int(sys.argv[1]), sys.argv[2:]
# Another deploy's migrations may take a while.
DEPLOY_SECONDS = 10 * seconds
POLL_SECONDS = 0.2
LOCK_NOT_AVAILABLE = "55P03"
MOST_SESSIONS = 5
MOST_CHARACTERS = 80
# Statements that lock a table or index against the site; with CONCURRENTLY they don't, and must not be in a transaction.
LOCKING = re.compile(
    r"\s*((ALTER|DROP)\s+TABLE|(CREATE|DROP|ALTER)\s+(UNIQUE\s+)?INDEX|TRUNCATE)\b(?!.*\bCONCURRENTLY\b)",
    re.IGNORECASE | re.DOTALL,
)
# Comments, names in quotes, and values, which may be cut off at the end.
PARTS = re.compile(
    r"""(?P<comment>/\*.*?(?:\*/|$)|--[^\n]*)|(?P<name>"[^"]*"?)|[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?$)|'(?:[^']|'')*(?:'|$)"""
    r"|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)|(?<![\w.])[0-9][0-9.]*",
    re.DOTALL,
)
BUSY = """
    SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start), query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND coalesce(clock_timestamp() - xact_start > interval '1 second', true)
      AND pid IN (SELECT pid FROM pg_locks WHERE granted AND locktype = 'relation' AND relation >= 16384)
    ORDER BY xact_start NULLS LAST LIMIT %s
"""
HOLDER = """
    SELECT pid, application_name, state, extract(epoch FROM clock_timestamp() - xact_start), '' FROM pg_stat_activity
    WHERE pid IN (SELECT pid FROM pg_locks
                  WHERE granted AND locktype = 'advisory' AND objsubid = 1 AND classid = 0 AND objid::bigint = %s
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


class Waited(Exception):
    """It took too long to get a lock; the argument is the report."""


def without_values(query: str) -> str:
    """Return the beginning of a statement on one line, without its comments and with ? for every value."""
    text = PARTS.sub(lambda part: "" if part["comment"] else part["name"] or "?", query)
    return " ".join(text.split())[:MOST_CHARACTERS]


def report(waited_for: str, alias: str, limit: int, cursor: object, query: str, argument: int) -> Waited:
    """Return the report with the sessions that `query` finds; PostgreSQL hides state and query of other roles' sessions."""
    cursor.execute(query, [argument])
    sessions = [
        {
            "pid": pid,
            "application": application or "",
            "state": state or "",
            "seconds": None if age is None else round(float(age)),
            "query": without_values(text) if state else "",
        }
        for pid, application, state, age, text in cursor.fetchall()
    ]
    return Waited({"waited_for": waited_for, "database": alias, "seconds": limit, "sessions": sessions})


def take_lock(cursor: object, alias: str, key: int) -> None:
    """Take the lock of this project's migrations until the transaction ends; Waited if another deploy keeps it."""
    # A snapshot that lasts would make CREATE INDEX CONCURRENTLY wait for this very transaction.
    cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    # The transaction is idle for as long as the migrations take.
    limits = "('idle_in_transaction_session_timeout', 'transaction_timeout')"
    cursor.execute(f"SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN {limits}")
    deadline = time.monotonic() + DEPLOY_SECONDS
    while True:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s::bigint)", [key])
        if cursor.fetchone()[0]:
            return
        if time.monotonic() > deadline:
            raise report("deploy", alias, DEPLOY_SECONDS, cursor, HOLDER, key)
        time.sleep(POLL_SECONDS)


def limited(execute: Callable, sql: object, parameters: object, many: bool, context: dict) -> object:
    """Execute a statement of a migration that must not wait long for a lock (Django's execute_wrapper)."""
    from django.db import transaction

    connection = context["connection"]
    if connection.get_autocommit():
        if not LOCKING.match(str(sql)):
            return execute(sql, parameters, many, context)
        with transaction.atomic(using=connection.alias):
            begin(connection)
            return execute(sql, parameters, many, context)
    begin(connection)
    return execute(sql, parameters, many, context)


def begin(connection: object) -> None:
    """Set the limit if the transaction has not begun yet; psycopg begins one with its first statement."""
    # psycopg's TransactionStatus.IDLE, of both versions.
    if connection.connection.info.transaction_status == 0:
        with connection.connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {seconds * 1000}")


def migrate_postgresql(alias: str, key: int) -> None:
    """Migrate one database of PostgreSQL under the lock of this project's migrations."""
    from django.core.management import call_command
    from django.db import OperationalError, connections

    connection = connections[alias]
    # A pool would report how long it has waited, not why.
    connection.settings_dict["OPTIONS"].pop("pool", None)
    holder = connection.copy()
    try:
        holder.set_autocommit(False)
        with holder.cursor() as cursor:
            take_lock(cursor, alias, key)
            try:
                with connection.execute_wrapper(limited):
                    call_command("migrate", database=alias, interactive=False)
            except OperationalError as error:
                cause = error.__cause__
                # psycopg and psycopg2.
                if LOCK_NOT_AVAILABLE not in (getattr(cause, "sqlstate", ""), getattr(cause, "pgcode", "")):
                    raise
                raise report("lock", alias, seconds, cursor, BUSY, MOST_SESSIONS) from error
    finally:
        holder.close()


def migrate() -> None:
    """Apply them."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    for alias in migrated_databases(named):
        if connections[alias].vendor == "postgresql":
            # Two hosts of a fleet, or two deploys, may migrate at the same time.
            migrate_postgresql(alias, zlib.crc32(settings.SETTINGS_MODULE.encode()))
        else:
            call_command("migrate", database=alias, interactive=False)


try:
    inside_manage(migrate)
except Waited as waited:
    # Django has not ended its line.
    print(f"\n{json.dumps(waited.args[0])}")
    sys.exit(1)
