"""A freshly deployed site as a visitor sees it."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from outside import PATIENCE

testinfra_hosts = ["ansible://app"]


def test_the_api_says_hello(site):
    response = site.get("/api/hello/")
    assert response.status_code == 200
    assert response.json() == {"message": "Hello from DRF with Uvicorn!"}


def test_the_chat_echoes(site):
    with site.websocket() as socket:
        socket.send("Hi")
        assert json.loads(socket.recv(timeout=PATIENCE)) == {"message": "Echo: Hi"}


def test_many_websockets_talk_at_once(site):
    def talk(number: int) -> str:
        with site.websocket() as socket:
            for word in ("one", "two", "three"):
                socket.send(f"{number} {word}")
                answer = json.loads(socket.recv(timeout=PATIENCE))["message"]
        return answer

    with ThreadPoolExecutor(max_workers=200) as pool:
        assert list(pool.map(talk, range(200))) == [f"Echo: {number} three" for number in range(200)]


def test_the_app_sees_the_client_and_no_forgery_of_it(site, host):
    seen = site.get("/api/whoami/").json()
    forged = site.get(
        "/api/whoami/",
        **{"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6"},
    ).json()
    # The lab's gateway is the client that the published port shows to nginx.
    gateway = host.check_output("ip -4 route show default").split()[2]
    for answer in (seen, forged):
        assert (answer["client"], answer["scheme"]) == (gateway, "http")
        assert answer["host"] == "sample.test"


def test_an_unknown_name_is_refused(site):
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        site.get("/", Host="somebody-else.test")


def test_the_worker_stays_unnamed_and_the_release_does_not(site):
    headers = site.get("/healthz").headers
    assert "X-Worker" not in headers
    assert re.fullmatch("[0-9a-f]{12}", headers["X-Release"])


def test_hashed_static_files_are_cached_for_good_and_compressed(site):
    page = site.get("/").text
    path = re.search(r'/static/[^"]+\.[0-9a-f]{12}\.css', page)[0]
    response = site.get(path, **{"Accept-Encoding": "gzip"})
    assert response.status_code == 200
    assert "immutable" in response.headers["Cache-Control"]
    assert response.headers["Content-Encoding"] == "gzip"
    assert site.get("/static/nothing.here.css").status_code == 404


def test_an_upload_is_served_by_the_edge(site):
    uploaded = site.post("/api/upload/", files={"file": ("note.txt", b"kept across releases", "text/plain")})
    assert uploaded.status_code == 201, uploaded.text
    served = site.get(uploaded.json()["url"])
    assert served.content == b"kept across releases"
    assert "X-Release" not in served.headers, "the app itself served the file"


def test_too_large_a_body_is_refused(site):
    assert site.post("/api/echo/", content=b"x" * (11 << 20)).status_code == 413
