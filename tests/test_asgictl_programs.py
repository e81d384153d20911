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
    migrated = ask("migrate", *named)
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
    assert ask("migrate").returncode == 0
    assert pending(ask) == []
    assert not (tmp_path / "replica.sqlite3").exists()


def test_a_project_without_a_database_has_nothing_to_migrate(ask: Ask, tmp_path: Path) -> None:
    with (tmp_path / "project/settings.py").open("a") as settings:
        settings.write("DATABASES = {}\n")
    assert pending(ask) == []
    assert ask("migrate").returncode == 0


def test_what_manage_py_prepares_counts(ask: Ask, tmp_path: Path) -> None:
    """As class-based settings need (django-configurations): manage.py sets them up before Django."""
    with (tmp_path / "project/settings.py").open("a") as settings:
        settings.write("os.environ['FROM_MANAGE']\n")
    assert pending(ask) == ["shop.0001_initial"]
    (tmp_path / "manage.py").unlink()
    assert "FROM_MANAGE" in ask("compare_migrations").stderr
