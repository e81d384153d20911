"""A project with neither a database nor static files nor WebSockets."""

import json

import pytest
from outside import Site

testinfra_hosts = ["ansible://bookworm", "ansible://trixie"]


@pytest.fixture(scope="module")
def site(variables, bare) -> Site:
    """The site of the project on the host at hand."""
    return Site(variables["lab_http_port"], "www.bare.test")


def test_it_serves_its_page(site):
    assert site.get("/").text == "Nothing but this"


def test_a_release_without_a_database_can_be_rolled_back(site, host, bare):
    before = json.loads(host.check_output("asgictl --app bare --json status --quick"))["live"]["release"]
    bare("release", f"--limit={host.backend.get_pytest_id().rpartition('/')[2]},localhost", django_asgi_env={"COLOUR": "blue"})
    assert json.loads(host.check_output("asgictl --app bare --json status --quick"))["live"]["release"] != before
    host.check_output("asgictl --app bare rollback")
    assert json.loads(host.check_output("asgictl --app bare --json status --quick"))["live"]["release"] == before
    assert site.get("/").text == "Nothing but this"
