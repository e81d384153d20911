"""A project with neither a database nor static files nor WebSockets."""

import json

import pytest
from outside import Playbooks, Site

testinfra_hosts = ["ansible://bookworm", "ansible://trixie"]


@pytest.fixture(scope="session")
def bare(copied, author) -> Playbooks:
    """The project's playbooks, after its first deploy to both hosts."""
    playbooks = author(
        django_asgi_name="bare",
        django_asgi_source=str(copied("bare")),
        django_asgi_module="bare.asgi:application",
        django_asgi_settings_module="bare.settings",
        django_asgi_secrets={"BARE_KEY": "only for this test, and long enough" * 2},
        django_asgi_workers=1,
        nginx_site_server_names=["www.bare.test"],
    )
    playbooks("deploy")
    return playbooks


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
