"""The programs that asgictl runs in an app's environment, with a Django project of two databases."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from asgictl.programs import last_object, text_of

# The environment of the sample project has Django.
PYTHON = Path(__file__).resolve().parents[1] / ".venv-sample_app/bin/python"
PROJECT = {
    "manage.py": """
import os, sys
os.environ["FROM_MANAGE"] = "1"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "project/__init__.py": "",
    "project/settings.py": """
import os
print("DEBUG is off")
SECRET_KEY = "x" * 60
ALLOWED_HOSTS = ["*"]
STATIC_URL = "assets/"
if os.environ.get("BROKEN"):
    STATIC_URL = "assets"
INSTALLED_APPS = ["shop"]
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{name}.sqlite3"} for name in ("default", "events", "replica")
}
""",
    "shop/__init__.py": "",
    "shop/migrations/__init__.py": "",
    "shop/migrations/0001_initial.py": """
from django.db import migrations
class Migration(migrations.Migration):
    operations = []
""",
}
Ask = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Run a program as asgictl does."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        command = [PYTHON, "-", *arguments]
        variables = {"DJANGO_SETTINGS_MODULE": "project.settings", **environment}
        settings = {"cwd": tmp_path, "env": variables, "input": text_of(program)}
        return subprocess.run(command, check=False, capture_output=True, text=True, **settings)

    return run


def test_each_database_that_is_named_is_migrated_and_no_other(ask: Ask) -> None:
    named = ("default", "events")
    assert last_object(ask("compare_migrations", *named).stdout) == {
        "pending": ["shop.0001_initial", "events:shop.0001_initial"],
        "unknown": [],
    }
    migrated = ask("migrate", "30", *named)
    assert migrated.returncode == 0, migrated.stderr
    assert last_object(ask("compare_migrations", *named).stdout) == {"pending": [], "unknown": []}
    assert last_object(ask("compare_migrations", "replica").stdout)["pending"] == ["shop.0001_initial"]


ROUTER = """
class Router:
    def allow_migrate(self, db, app_label, **hints):
        return {"events": app_label == "shop", "replica": False}.get(db)
"""


def pending(ask: Ask) -> list[str]:
    """What is pending in the databases that are found without a name."""
    compared = ask("compare_migrations")
    assert compared.returncode == 0, compared.stderr
    return last_object(compared.stdout)["pending"]


def test_a_database_besides_the_default_one_is_migrated_only_if_a_router_says_so(ask: Ask, tmp_path: Path) -> None:
    assert pending(ask) == ["shop.0001_initial"]
    (tmp_path / "project/routers.py").write_text(ROUTER)
    with (tmp_path / "project/settings.py").open("a") as settings:
        settings.write("DATABASE_ROUTERS = ['project.routers.Router']\n")
    assert pending(ask) == ["shop.0001_initial", "events:shop.0001_initial"]
    assert ask("migrate", "30").returncode == 0
    assert pending(ask) == []
    assert not (tmp_path / "replica.sqlite3").exists()


def test_a_project_without_a_database_has_nothing_to_migrate(ask: Ask, tmp_path: Path) -> None:
    with (tmp_path / "project/settings.py").open("a") as settings:
        settings.write("DATABASES = {}\n")
    assert pending(ask) == []
    assert ask("migrate", "30").returncode == 0


def test_what_manage_py_prepares_counts(ask: Ask, tmp_path: Path) -> None:
    """As class-based settings need (django-configurations): manage.py sets them up before Django."""
    with (tmp_path / "project/settings.py").open("a") as settings:
        settings.write("os.environ['FROM_MANAGE']\n")
    assert pending(ask) == ["shop.0001_initial"]
    (tmp_path / "manage.py").unlink()
    assert "FROM_MANAGE" in ask("compare_migrations").stderr


# Stands in for PostgreSQL: SQLite, which logs what each connection executes, and whose locks another session may hold.
POSTGRESQL = """
import os, sqlite3
from types import SimpleNamespace
from django.db.backends.sqlite3 import base

class Locked(sqlite3.OperationalError):
    sqlstate = "55P03"

class Cursor(base.SQLiteCursorWrapper):
    answer = None

    def execute(self, sql, parameters=None):
        with open("statements.log", "a") as log:
            print(self.connection.number, " ".join(sql.split()), file=log)
        self.connection.begun = sql == "BEGIN"
        if os.environ.get("LOCKED", "nothing") in sql:
            raise Locked("canceling statement due to lock timeout")
        if "pg_stat_activity" in sql:
            self.answer = [(70 + n, "report", "active", 95.2, query) for n, query in enumerate(os.environ["QUERIES"].split("|"))]
        elif "pg_try_advisory_xact_lock" in sql:
            self.answer = [("QUERIES" not in os.environ or "LOCKED" in os.environ,)]
        elif not sql.startswith("SET ") and "set_config" not in sql:
            return super().execute(sql.replace("CONCURRENTLY", ""), parameters)
        return self

    def fetchone(self):
        return self.answer[0] if self.answer else super().fetchone()

    def fetchall(self):
        return self.answer or super().fetchall()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

class Connection(sqlite3.Connection):
    made, number, begun = 0, 0, False

    # As psycopg: a transaction begins with its first statement.
    info = property(lambda self: SimpleNamespace(transaction_status=2 if self.in_transaction and not self.begun else 0))

    def cursor(self, factory=None):
        if not self.number:
            Connection.made += 1
            self.number = Connection.made
        return super().cursor(Cursor)

class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "postgresql"

    def get_connection_params(self):
        return super().get_connection_params() | {"factory": Connection}
"""
OF_POSTGRESQL = """
from django.db import migrations, models
class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunSQL("CREATE TABLE shop_item (id integer)"),
        migrations.RunSQL("ALTER TABLE shop_item ADD COLUMN price integer"),
        migrations.RunSQL("CREATE INDEX CONCURRENTLY by_price ON shop_item (price)"),
    ]
"""


@pytest.fixture
def statements(ask: Ask, tmp_path: Path) -> Callable[[], list[str]]:
    """Give the project PostgreSQL and a migration that is not atomic; return what each connection, by number, executed."""
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql/base.py").write_text(POSTGRESQL)
    (tmp_path / "shop/migrations/0002_item.py").write_text(OF_POSTGRESQL)
    with (tmp_path / "project/settings.py").open("a") as settings:
        settings.write("DATABASES['default']['ENGINE'] = 'postgresql'\n")
    return lambda: (tmp_path / "statements.log").read_text().splitlines()


def test_every_transaction_of_a_migration_begins_with_the_limit_for_locks(ask: Ask, statements: Callable[[], list[str]]) -> None:
    migrated = ask("migrate", "7")
    assert migrated.returncode == 0, migrated.stderr
    ran = statements()
    begun = [ran[number + 1] for number, statement in enumerate(ran) if statement.endswith(" BEGIN")]
    assert begun
    assert {statement.partition(" ")[2] for statement in begun} == {"SET LOCAL lock_timeout = 7000"}
    (altered,) = (number for number, statement in enumerate(ran) if "ALTER TABLE shop_item" in statement)
    assert ran[altered - 1].endswith("SET LOCAL lock_timeout = 7000")
    (index,) = (number for number, statement in enumerate(ran) if "CONCURRENTLY" in statement)
    assert "SET" not in ran[index - 1]
    assert not [statement for statement in ran if statement.partition(" ")[2].startswith("SET lock_timeout")]


def test_the_lock_of_a_deploy_is_held_by_a_transaction_of_its_own_connection(
    ask: Ask, statements: Callable[[], list[str]]
) -> None:
    assert ask("migrate", "7").returncode == 0
    ran = [statement.partition(" ") for statement in statements()]
    holder = {number for number, _, statement in ran if "pg_try_advisory_xact_lock" in statement}
    migrating = {number for number, _, statement in ran if "shop_item" in statement}
    assert len(holder) == len(migrating) == 1
    assert holder != migrating
    assert not [statement for _, _, statement in ran if "pg_advisory_lock" in statement]


def test_a_migration_that_waits_for_a_lock_tells_who_holds_it_without_values(
    ask: Ask, statements: Callable[[], list[str]]
) -> None:
    queries = {
        "UPDATE item SET pin = 'q7z' /* it's */ WHERE name = 'q7z' AND id = 71": "UPDATE item SET pin = ? WHERE name = ? AND id = ?",
        "SELECT E'a\\'q7z', $x$ it's q7z $x$, t1.\"it's\" FROM t1": 'SELECT ?, ?, t1."it\'s" FROM t1',
        "SELECT 1 -- it's q7z\n , 'q7z": "SELECT ? , ?",
        f"SELECT {'a' * 100}": f"SELECT {'a' * 73}",
    }
    ran = ask("migrate", "7", LOCKED="ALTER TABLE shop_item", QUERIES="|".join(queries))
    answer = last_object(ran.stdout)
    assert answer, ran.stderr
    assert answer | {"sessions": []} == {"waited_for": "lock", "database": "default", "seconds": 7, "sessions": []}
    assert [session["query"] for session in answer["sessions"]] == list(queries.values())
    assert answer["sessions"][0] | {"query": ""} == {
        "pid": 70, "application": "report", "state": "active", "seconds": 95, "query": "",
    }  # fmt: skip


def test_another_deploys_migrations_are_not_waited_for_for_ever(ask: Ask, statements: Callable[[], list[str]]) -> None:
    ran = ask("migrate", "0", QUERIES="")
    assert ran.returncode == 1
    answer = last_object(ran.stdout)
    assert answer["waited_for"] == "deploy"
    assert [session["pid"] for session in answer["sessions"]] == [70]
    assert not [statement for statement in statements() if "shop_item" in statement]
