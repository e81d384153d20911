"""Preparing a real Django project on a host: links in its source, static files, checks, and the words of each failure."""

import shutil
import subprocess
from pathlib import Path

import pytest
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.prepare import prepare, report_of
from asgictl.release import Release
from fake_host import A, manifest
from test_asgictl_deploy import order

# The environment of the sample project has Django.
PYTHON = Path(__file__).resolve().parents[1] / ".venv-sample_app/bin/python"
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
"""
ASGI = """
from django.core.asgi import get_asgi_application
application = get_asgi_application()
"""
PROJECT = {"manage.py": MANAGE, "shop/__init__.py": "", "shop/asgi.py": ASGI}
SETTINGS = """
import os
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "x" * 20 + "yz1234567890" * 3)
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.staticfiles", "shop"]
STATIC_URL = "/static/"
STATIC_ROOT = os.environ["STATIC_ROOT"]
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003", "security.W004", "security.W008"]
"""


@pytest.fixture
def staging(app: App, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A release as it is before its project is prepared: unpacked, with its environment."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    app.state_directory.mkdir(parents=True)
    release = Release(app, A, staging=True)
    source = release.directory / "src"
    for name, text in {**PROJECT, "shop/static/site.css": "body {}"}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (release.directory / "venv/bin").mkdir(parents=True)
    (release.directory / "venv/bin/python").write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    (release.directory / "venv/bin/python").chmod(0o755)
    (release.directory / "secrets").write_text("")
    return release


def prepared(
    staging: Release, settings: str, *, env: dict[str, str] | None = None, gate_timeout: int = 60, **changes: object
) -> list[str]:
    """Prepare the project with these settings after the usual ones; return what an operator is told."""
    (staging.directory / "src/shop/settings.py").write_text(SETTINGS + settings)
    values = manifest(
        settings_module="shop.settings",
        project_dir=".",
        env=env or {},
        worker_count=1,
        health_host="a",
        gate_timeout=gate_timeout,
    )
    staging.__dict__["manifest"] = values
    return prepare(staging, order(staging.app, A, **changes))["findings"]


def test_a_project_that_reads_the_roles_variables(staging: Release) -> None:
    assert prepared(staging, "") == []
    assert (staging.directory / "static/site.css").read_text() == "body {}"
    staging.directory.rename(staging.final_directory)
    report = report_of(Release(staging.app, A))
    assert (report["release"], report["findings"], report["facts"]["static_url"]) == (A, [], "/static/")


def test_a_project_that_keeps_everything_beside_its_code(staging: Release) -> None:
    source, state = staging.directory / "src", staging.app.state_directory
    (source / "media").mkdir()
    (source / "media/logo.png").write_text("seed")
    (source / "db.sqlite3").write_text("rows")
    (state / "db.sqlite3").write_text("newer rows")
    assert (
        prepared(
            staging,
            """
STATIC_ROOT = BASE_DIR / "staticfiles"
MEDIA_ROOT = BASE_DIR / "media"
MEDIA_URL = "/media/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
""",
            shared_paths=["private"],
            media_url="/media/",
        )
        == []
    )
    assert (source / "staticfiles").readlink() == Path("../static")
    assert (staging.directory / "static/site.css").read_text() == "body {}"
    assert (source / "media").readlink() == state / "media"
    assert (state / "media/logo.png").read_text() == "seed"
    assert (source / "db.sqlite3").readlink() == state / "db.sqlite3"
    assert (state / "db.sqlite3").read_text() == "newer rows", "what the source has is copied once"
    assert (source / "private").readlink() == state / "private"
    staging.directory.rename(staging.final_directory)
    assert (staging.final_directory / "src/staticfiles/site.css").read_text() == "body {}"


def test_settings_that_make_directories_and_logs_in_the_source(staging: Release) -> None:
    # Root, who may run these tests, could write there; the app can't.
    settings = """
for place in (BASE_DIR / "logs", BASE_DIR / "cache"):
    if not place.is_symlink():
        raise PermissionError(13, "Permission denied", str(place))
LOGGING = {"version": 1, "handlers": {"file": {"class": "logging.FileHandler", "filename": BASE_DIR / "logs/web/debug.log"}}}
(BASE_DIR / "logs/web").mkdir(exist_ok=True)
"""
    assert prepared(staging, settings) == []
    assert (staging.app.state_directory / "logs/web/debug.log").exists()
    assert (staging.directory / "src/cache").readlink() == staging.app.state_directory / "cache"


def test_a_project_without_static_files(staging: Release) -> None:
    assert prepared(staging, 'INSTALLED_APPS = ["shop"]') == []
    assert list((staging.directory / "static").iterdir()) == []


def test_a_project_that_names_no_static_root(staging: Release) -> None:
    assert prepared(staging, "STATIC_ROOT = None") == []
    assert (staging.directory / "static/site.css").exists()


def test_a_finding_below_the_fail_level_is_told_and_one_above_it_ends_the_deploy(staging: Release) -> None:
    (told,) = prepared(staging, "SILENCED_SYSTEM_CHECKS.remove('security.W002')")
    assert told.startswith("manage.py check --deploy: ?: (security.W002)")
    (staging.directory / "static/site.css").unlink()
    (staging.directory / "static").rmdir()
    with pytest.raises(Refused, match="check --deploy") as refused:
        prepared(staging, "SILENCED_SYSTEM_CHECKS.remove('security.W002')", check_fail_level="WARNING")
    assert "security.W002" in refused.value.details


@pytest.mark.parametrize(
    ("settings", "message", "details"),
    [
        ("import nothing_of_the_kind", "can't be loaded", "No module named 'nothing_of_the_kind'"),
        ("open('/nowhere/settings.ini')", "can't be loaded", "'/nowhere/settings.ini'"),
        ("STATICFILES_DIRS = [STATIC_ROOT]", "collectstatic failed", "STATICFILES_DIRS"),
        ("ROOT_URLCONF = 'shop.missing'", "check --deploy", "No module named 'shop.missing'"),
    ],
)
def test_a_failure_tells_its_last_lines(staging: Release, settings: str, message: str, details: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        prepared(staging, settings)
    assert details in refused.value.details


def test_a_module_that_cannot_be_imported_is_found_before_the_database_is_touched(staging: Release) -> None:
    with pytest.raises(Refused, match=r"shop\.wsgi:application can't be imported .* django_asgi_module names it") as refused:
        prepared(staging, "", module="shop.wsgi:application")
    assert "No module named 'shop.wsgi'" in refused.value.details


def test_a_static_root_elsewhere_is_refused_before_anything_is_written(staging: Release, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="where the edge does not look"):
        prepared(staging, f"STATIC_ROOT = {str(tmp_path / 'www')!r}")
    assert list(tmp_path.iterdir()) == []


def test_a_module_whose_import_hangs_is_named_when_its_time_is_up(staging: Release) -> None:
    (staging.directory / "src/shop/asgi.py").write_text(
        "import time\n\nprint('waiting for a service', flush=True)\ntime.sleep(600)\n"
    )
    with pytest.raises(Refused, match=r"shop.asgi:application was not imported within 1 s") as refused:
        prepared(staging, "", gate_timeout=1)
    assert "waiting for a service" in refused.value.details
    assert "django_asgi_gate_timeout" in str(refused.value)


def pending(staging: Release, settings: str, **changes: object) -> list[str] | None:
    """Prepare a project that uses Django's content types; return the migrations that its database lacks."""
    apps = 'INSTALLED_APPS = ["django.contrib.contenttypes", "shop"]\n'
    (staging.directory / "src/shop/settings.py").write_text(SETTINGS + apps + settings)
    staging.__dict__["manifest"] = manifest(
        settings_module="shop.settings", env={}, health_host="a", worker_count=1, gate_timeout=60
    )
    return prepare(staging, order(staging.app, A, **changes))["pending"]


SQLITE = 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}\n'


def test_the_migrations_that_the_database_lacks_are_told(staging: Release) -> None:
    assert pending(staging, SQLITE) == ["contenttypes.0001_initial", "contenttypes.0002_remove_content_type_name"]
    command = [PYTHON, "manage.py", "migrate", "--verbosity=0"]
    environment = {"DJANGO_SETTINGS_MODULE": "shop.settings", "STATIC_ROOT": "/x"}
    subprocess.run(command, cwd=staging.directory / "src", env=environment, check=True)
    shutil.rmtree(staging.directory / "static")
    assert pending(staging, SQLITE) == []


def test_nothing_is_told_of_migrations_that_the_role_never_applies(staging: Release) -> None:
    assert pending(staging, SQLITE, migrate=False) is None


def test_nothing_is_told_of_migrations_if_the_database_does_not_answer(staging: Release) -> None:
    staging.app.state_directory.joinpath("db.sqlite3").mkdir()
    assert pending(staging, SQLITE) is None
