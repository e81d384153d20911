"""A Django project below a path prefix: its own settings are not changed, and a real gunicorn serves it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgictl.probe import UnixConnection
from rendering import render
from websockets.sync.client import unix_connect

# The environment of the sample project has Django and Channels, that of the tests has gunicorn.
SAMPLE = Path(__file__).resolve().parents[1] / ".venv-sample_app"
PYTHON = SAMPLE / "bin/python"
PREFIX = "/eu/shop.v2"
PATIENCE = 120
PROJECT = {
    "manage.py": """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """
SECRET_KEY = "x" * 60
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
STATIC_URL, MEDIA_URL, LOGOUT_REDIRECT_URL = "/static/", "media/", "https://example.org/"
LANGUAGE_COOKIE_PATH = "/eu"
""",
    "shop/urls.py": """
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.templatetags.static import static
from django.urls import path, reverse

def where(request, rest):
    request.session["seen"] = True
    settled = {name: getattr(settings, name) for name in ("MEDIA_URL", "LOGOUT_REDIRECT_URL", "LANGUAGE_COOKIE_PATH")}
    own = {"info": request.path_info, "absolute": request.build_absolute_uri(), "reversed": reverse("where", args=["a"])}
    return JsonResponse({**own, **settled, "static": static("site.css"), "rest": rest})

urlpatterns = [path("private/", login_required(where)), path("where/<path:rest>/", where, name="where")]
""",
    "shop/asgi.py": """
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, reverse

class Chat(WebsocketConsumer):
    def connect(self):
        self.accept()
        self.send(reverse("where", args=[self.scope["url_route"]["kwargs"]["room"]]))

routes = [path("ws/<room>/", Chat.as_asgi())]
application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(routes)})
""",
}


class Release:
    """A release below the prefix; `environment` is what each of its programs gets."""

    def __init__(self, directory: Path, role: Path) -> None:
        self.directory, self.socket = directory, str(directory / "app.sock")
        for name, text in PROJECT.items():
            (directory / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / "src" / name).write_text(text)
        given = {"django_asgi_module": "shop.asgi:application", "django_asgi_path_prefix": PREFIX}
        (directory / "gunicorn.conf.py").write_text(render("django_asgi", "gunicorn.conf.py.j2", **given))
        for module in (role / "files").glob("*.py"):
            shutil.copy(module, directory)
        own = {"DJANGO_SETTINGS_MODULE": "shop.settings", "APP_PATH_PREFIX": PREFIX, "PYTHONPATH": str(directory)}
        self.environment = {**os.environ, **own, "WEB_CONCURRENCY": "1"}

    def run(self, python: str | Path, *arguments: str) -> str:
        """Return what a program of the release prints."""
        settings = {"cwd": self.directory / "src", "env": self.environment, "capture_output": True, "text": True}
        ran = subprocess.run([python, *arguments], check=False, **settings)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request as the edge does, whose path lacks the prefix; return status, headers and body."""
        connection = UnixConnection(self.socket, timeout=PATIENCE)
        connection.request("GET", path, headers={"Host": "example.org"})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


@pytest.fixture(scope="module")
def release(role: Path) -> Iterator[Release]:
    """A release that gunicorn serves."""
    with tempfile.TemporaryDirectory(prefix="unit") as directory:
        made = Release(Path(directory), role)
        command = [sys.executable, "-m", "gunicorn", "--config", made.directory / "gunicorn.conf.py"]
        paths = ":".join(map(str, (made.directory, *SAMPLE.glob("lib/python*/site-packages"))))
        with (made.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--bind", f"unix:{made.socket}"],
                env=made.environment | {"PYTHONPATH": paths},
                stdout=log,
                stderr=log,
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while not Path(made.socket).exists():
                assert process.poll() is None and time.monotonic() < deadline, (made.directory / "log").read_text()
                time.sleep(0.05)
            yield made
        finally:
            process.kill()
            process.wait()


def test_django_finds_the_page_and_writes_every_address_below_the_prefix(release: Release) -> None:
    status, headers, body = release.get("/where/a%2Fb%20c/?x=%2F")
    assert status == 200
    assert json.loads(body) == {
        "info": "/where/a/b c/",
        "absolute": f"http://example.org{PREFIX}/where/a/b%20c/?x=%2F",
        "reversed": f"{PREFIX}/where/a/",
        "static": f"{PREFIX}/static/site.css",
        "rest": "a/b c",
        "MEDIA_URL": f"{PREFIX}/media/",
        "LOGOUT_REDIRECT_URL": "https://example.org/",
        "LANGUAGE_COOKIE_PATH": "/eu",
    }
    assert re.search(r"; Path=([^;]*)", headers["set-cookie"])[1] == PREFIX


@pytest.mark.parametrize(
    ("path", "location"),
    [("/private/", f"{PREFIX}/accounts/login/?next={PREFIX}/private/"), ("/where/a", f"{PREFIX}/where/a/")],
)
def test_redirects_stay_below_the_prefix(release: Release, path: str, location: str) -> None:
    status, headers, _ = release.get(path)
    assert (status // 100, headers["location"]) == (3, location)


def test_channels_routes_a_websocket_whose_consumer_writes_addresses_below_the_prefix(release: Release) -> None:
    with unix_connect(release.socket, "ws://example.org/ws/lobby/") as websocket:
        assert websocket.recv(timeout=PATIENCE) == f"{PREFIX}/where/lobby/"


def test_a_management_command_writes_addresses_below_the_prefix(release: Release) -> None:
    code = "from django.urls import reverse; from django.conf import settings; print(reverse('where', args=['a']), settings.LOGIN_URL)"
    assert release.run(PYTHON, "manage.py", "shell", "-c", code).split()[-2:] == [
        f"{PREFIX}/where/a/",
        f"{PREFIX}/accounts/login/",
    ]


def test_what_is_below_the_prefix_already_stays(release: Release) -> None:
    code = "import django; django.setup(); django.setup(); from django.conf import settings; print(settings.STATIC_URL)"
    assert release.run(PYTHON, "-c", code).split() == [f"{PREFIX}/static/"]


def test_a_python_without_django_starts_as_usual(release: Release) -> None:
    assert release.run(sys.executable, "-S", "-c", "import sitecustomize; print('fine')") == "fine\n"
