"""A project that keeps everything in its source, as a tutorial leaves it: deployed as it is, and again."""

import json
from urllib.parse import urlsplit

import pytest
from outside import ROOT, Site

testinfra_hosts = ["ansible://bookworm", "ansible://trixie"]
STATE = "/var/lib/rooms"


@pytest.fixture(scope="module")
def site(variables) -> Site:
    """The site of the project on the host at hand."""
    return Site(variables["lab_http_port"], "rooms.test")


@pytest.fixture(scope="module")
def redeployed(playbook, copied) -> str:
    """The output of the deploy of a change of the code, in a larger repository, after a visitor has left something."""
    project = copied("rooms")
    (project.parent / ".gitignore").write_text("local.env\n")
    (project / "local.env").write_text("COLOUR=blue")
    views = project / "chat/views.py"
    views.write_text(views.read_text().replace("<h1>Rooms</h1>", "<h1>More rooms</h1>"))
    return playbook("release", django_asgi_source=str(project.parent), django_asgi_source_subdirectory="rooms")


def test_its_page_finds_its_styles(site):
    page = site.get("/")
    assert "<h1>" in page.text
    style = site.get(page.text.partition('href="')[2].partition('"')[0])
    assert (style.status_code, style.headers["Content-Type"]) == (200, "text/css")


def test_a_room_hears_what_is_said_in_it(site):
    with site.websocket("/ws/rooms/kitchen/") as socket:
        socket.send(json.dumps({"text": "tea?"}))
        assert json.loads(socket.recv(timeout=30)) == {"room": "kitchen", "text": "tea?"}


def test_what_the_repository_had_among_the_uploads_is_served(site):
    assert site.get("/media/welcome.txt").text == "Read me first.\n"


def test_what_visitors_leave_outlives_the_release(site, host, request):
    before = site.release()
    upload = site.post("/upload/", content=b"keep me").json()["url"]
    host.check_output(
        "asgictl --app rooms manage shell -c \"from django.contrib.auth.models import User; User.objects.create(username='ann')\""
    )
    assert "1 users" in site.get("/").text
    request.getfixturevalue("redeployed")
    page = site.get("/")
    assert "<h1>More rooms</h1>" in page.text
    assert "1 users" in page.text, "manage.py and the site use the same database, and so does the next release"
    assert site.get(upload).text == "keep me"
    assert site.release() != before
    assert host.file(f"{STATE}/logs/rooms.log").content_string.count("somebody looks at the rooms") >= 2


def test_a_deploy_and_inspect_warn_of_what_two_workers_do_not_share(host, redeployed):
    warning = "The channel layer default is in memory"
    assert warning in redeployed
    assert warning in host.check_output("asgictl --app rooms inspect")


def test_a_deploy_says_what_gitignore_has_left_out(host, redeployed):
    assert "Left out, as .gitignore says: local.env" in redeployed
    assert not host.file("/opt/rooms/live/src/local.env").exists


def test_a_release_can_be_rolled_back(site, host, redeployed):
    host.check_output("asgictl --app rooms rollback")
    assert "<h1>Rooms</h1>" in site.get("/").text
    assert "1 users" in site.get("/").text


def test_nothing_was_written_into_the_source():
    assert not (ROOT / "molecule/projects/rooms/db.sqlite3").exists()


@pytest.fixture(scope="module")
def below(playbook) -> str:
    """The prefix below which the site has been deployed; nothing of the project has changed."""
    playbook("deploy", django_asgi_path_prefix="/eu/rooms")
    return "/eu/rooms"


def test_below_a_prefix_it_finds_its_styles_rooms_and_uploads(site, host, below):
    page = site.get(f"{below}/")
    style = page.text.partition('href="')[2].partition('"')[0]
    assert style.startswith(f"{below}/static/")
    assert site.get(style).headers["Content-Type"] == "text/css"
    with site.websocket(f"{below}/ws/rooms/kitchen/") as socket:
        socket.send(json.dumps({"text": "tea?"}))
        assert json.loads(socket.recv(timeout=30)) == {"room": "kitchen", "text": "tea?"}
    upload = site.post(f"{below}/upload/", content=b"keep me").json()["url"]
    assert upload.startswith(f"{below}/media/")
    assert site.get(upload).text == "keep me"
    printed = host.check_output(
        "asgictl --app rooms manage shell -c 'from django.conf import settings; print(settings.STATIC_URL)'"
    )
    assert printed.splitlines()[-1] == f"{below}/static/", "commands know the prefix too"


def test_outside_the_prefix_there_is_nothing_but_the_way_to_it(site, below):
    there = site.get("/")
    assert (there.status_code, urlsplit(there.headers["Location"]).path) == (302, f"{below}/")
    assert site.get("/static/").status_code == 404
    assert site.get("/eu/").status_code == 404


def test_a_rollback_to_another_prefix_is_refused(site, host, below):
    refused = host.run("asgictl --app rooms rollback")
    assert refused.rc == 1
    assert "django_asgi_path_prefix" in refused.stderr
    assert site.get(f"{below}/").status_code == 200
