"""The HTTP endpoints, through the full Django middleware."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from showcase.models import Note


def test_hello(client):
    response = client.get("/api/hello/")
    assert response.json() == {"message": "Hello from DRF with Uvicorn!"}
    assert response["Content-Type"] == "application/json"


def test_echo(client):
    body = {"a": [1, None, "ü"]}
    assert client.post("/api/echo/", body, content_type="application/json").json() == body
    assert client.post("/api/echo/", "{", content_type="application/json").status_code == 400
    assert client.get("/api/echo/").status_code == 405


def test_whoami(client):
    answer = client.get("/api/whoami/", REMOTE_ADDR="192.0.2.7", HTTP_HOST="example.org").json()
    assert answer["client"] == "192.0.2.7"
    assert (answer["scheme"], answer["is_secure"]) == ("http", False)
    assert (answer["host"], answer["release"]) == ("example.org", "0123456789ab")


def test_an_address_that_a_client_claims_is_not_believed(client):
    answer = client.get("/api/whoami/", HTTP_X_FORWARDED_FOR="192.0.2.66").json()
    assert answer["client"] == "127.0.0.1"


def test_an_unknown_host_is_refused(client):
    assert client.get("/api/whoami/", HTTP_HOST="evil.example").status_code == 400


async def test_stream(async_client):
    response = await async_client.get("/api/stream/?chunks=3&delay=0")
    lines = [json.loads(line) async for line in response.streaming_content]
    assert [(line["chunk"], line["of"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]
    assert response["X-Accel-Buffering"] == "no"


@pytest.mark.parametrize(
    "query", ["chunks=0", "chunks=201", "chunks=x", "delay=-1", "delay=3", "delay=nan"]
)
def test_stream_is_bounded(client, query):
    assert client.get(f"/api/stream/?{query}").status_code == 400


@pytest.mark.django_db
def test_notes(client):
    for text in ("one", "two"):
        response = client.post("/api/notes/", {"text": text}, content_type="application/json")
        assert response.status_code == 201
    assert [note["text"] for note in client.get("/api/notes/").json()] == ["two", "one"]
    too_long = {"text": "x" * 201}
    assert client.post("/api/notes/", too_long, content_type="application/json").status_code == 400
    assert Note.objects.count() == 2


def upload(client, name, content=b"content"):
    return client.post("/api/upload/", {"file": SimpleUploadedFile(name, content)})


def test_upload(client, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    response = upload(client, "../../My photo.PNG")
    assert response.status_code == 201
    assert response.json()["size"] == len(b"content")
    (stored,) = settings.MEDIA_ROOT.iterdir()
    assert response.json()["url"] == f"/media/{stored.name}"
    assert stored.suffix == ".png" and "photo" not in stored.name
    assert stored.stat().st_mode & 0o777 == 0o644
    assert settings.MEDIA_ROOT.stat().st_mode & 0o777 == 0o755


def test_upload_is_bounded(client, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.UPLOAD_MAX_BYTES, settings.UPLOAD_QUOTA_BYTES = 10, 15
    assert upload(client, "page.html").status_code == 400
    assert upload(client, "a.txt", b"x" * 11).status_code == 400
    assert upload(client, "a.txt", b"x" * 10).status_code == 201
    assert upload(client, "a.txt", b"x" * 10).status_code == 507
    assert client.post("/api/upload/").status_code == 400


def test_healthz_asks_no_database(client):
    response = client.get("/healthz")
    assert response.json() == {"status": "ok", "release": "0123456789ab"}
    assert "no-store" in response["Cache-Control"] and not response.cookies


@pytest.mark.django_db
def test_readyz(client):
    response = client.get("/readyz")
    assert (response.status_code, response.json()["checks"]) == (200, {"database": "ok"})


@pytest.mark.django_db
def test_readyz_says_that_the_database_is_away(client, monkeypatch):
    def away(self):
        raise OperationalError("unable to open database file")

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", away)
    response = client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "failed")
    assert response.json()["checks"] == {"database": "failed"}
    assert "unable" not in response.content.decode()
    assert client.get("/healthz").status_code == 200


def test_page(client, static_root):
    response = client.get("/")
    page = response.content.decode()
    for name in ("hello-output", "chat-log", "chat-input", "chat-send", "release", "ws-state"):
        assert page.count(f'id="{name}"') == 1
    assert "0123456789ab" in page
    assert "default-src 'self'" in response["Content-Security-Policy"]
    assert "style=" not in page and "<style" not in page and "<script>" not in page


def test_static_names_are_hashed_down_to_the_imports(client, static_root):
    names = json.loads((static_root / "staticfiles.json").read_text())["paths"]
    main = names["showcase/js/main.js"]
    assert f"/static/{main}" in client.get("/").content.decode()
    chat = names["showcase/js/chat.js"].rpartition("/")[2]
    assert f'from "./{chat}"' in (static_root / main).read_text()
