"""Large files: uploaded in pieces, downloaded as a stream."""

import hashlib
import os
import time

import pytest
from asgiref.sync import async_to_sync


@pytest.fixture(autouse=True)
def small(settings, tmp_path):
    settings.FILES_ROOT = tmp_path / "files"
    settings.FILE_CHUNK_BYTES, settings.FILE_MAX_BYTES, settings.FILES_QUOTA_BYTES = 10, 40, 60


def announce(client, size=25, name="my file.bin"):
    return client.post("/api/files/", {"name": name, "size": size}, content_type="application/json")


def put(client, url, offset, piece):
    return client.put(f"{url}?offset={offset}", piece, content_type="application/octet-stream")


def send(client, content):
    url = announce(client, len(content)).json()["url"]
    for offset in range(0, len(content), 10):
        answer = put(client, url, offset, content[offset : offset + 10])
        assert answer.status_code == 200, answer.content
    return answer.json()


async def joined(response):
    return b"".join([piece async for piece in response.streaming_content])


def test_up_and_down(client):
    content = bytes(range(25))
    known = send(client, content)
    assert known["complete"] and known["sha256"] == hashlib.sha256(content).hexdigest()
    response = client.get(known["url"])
    assert async_to_sync(joined)(response) == content
    assert response["Content-Length"] == "25"
    assert response["Content-Disposition"] == 'attachment; filename="my file.bin"'
    (listed,) = client.get("/api/files/").json()["files"]
    assert (listed["sha256"], listed["offset"]) == (known["sha256"], 25)


def test_an_upload_goes_on_where_it_was_cut_off(client):
    url = announce(client).json()["url"]
    assert put(client, url, 0, b"x" * 10).json()["offset"] == 10
    for wrong in (0, 20):
        answer = put(client, url, wrong, b"x" * 10)
        assert (answer.status_code, answer.json()["offset"]) == (409, 10)
    assert client.get(url).status_code == 409
    assert put(client, url, 10, b"x" * 10).json()["complete"] is False
    assert put(client, url, 20, b"x" * 5).json()["complete"] is True
    assert put(client, url, 20, b"x" * 5).json()["offset"] == 25


def test_everything_is_bounded(client):
    for body in ({}, {"name": "x"}, {"name": "", "size": 1}, {"name": "x", "size": "1"}, []):
        assert client.post("/api/files/", body, content_type="application/json").status_code == 400
    assert announce(client, 41).status_code == announce(client, 0).status_code == 413
    url = announce(client, 40).json()["url"]
    assert announce(client, 21).status_code == 507
    assert put(client, url, 0, b"x" * 11).status_code == 413
    assert put(client, url, 0, b"").status_code == 413
    assert put(client, url, "-1", b"x").status_code == 400
    assert announce(client, 20).status_code == 201
    short = client.get("/api/files/").json()["files"][0]["url"]
    put(client, short, 0, b"x" * 10)
    assert put(client, short, 15, b"x").status_code == 409
    assert client.delete(url).status_code == 204
    assert client.delete(url).status_code == client.get(url).status_code == 404
    assert announce(client, 40).status_code == 201


def test_more_than_was_announced_is_refused(client):
    url = announce(client, 5).json()["url"]
    assert put(client, url, 0, b"x" * 6).status_code == 413


def test_a_name_is_no_path(client):
    assert announce(client, name="../../etc/passwd").json()["name"] == ".._.._etc_passwd"


def test_old_and_abandoned_files_make_room(client, settings):
    send(client, b"x" * 20)
    announce(client, 20)
    (part,) = settings.FILES_ROOT.glob("*.part")
    os.utime(part, (time.time() - 7200,) * 2)
    assert len(client.get("/api/files/").json()["files"]) == 1
    settings.FILES_KEEP_SECONDS = 0
    assert client.get("/api/files/").json()["files"] == []
    assert [path.name for path in settings.FILES_ROOT.iterdir()] == ["lock"]
