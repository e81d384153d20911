"""Commands around a release, placeholders in values, and more at the edge: each is there when it is wished, and gone after it."""

import base64
import json

import pytest
from outside import Site

testinfra_hosts = ["ansible://trixie"]
LIMIT = "--limit=trixie,localhost"
PASSWORD = "correct horse battery"
LOGIN = "Basic " + base64.b64encode(f"review:{PASSWORD}".encode()).decode()


@pytest.fixture(scope="module")
def site(variables, bare) -> Site:
    """The site of the project on the host at hand."""
    return Site(variables["lab_http_port"], "www.bare.test")


@pytest.fixture(scope="module")
def completed(bare, tmp_path_factory) -> str:
    """The output of a deploy with commands around the release, placeholders, and more at the edge."""
    robots = tmp_path_factory.mktemp("edge") / "robots.conf.j2"
    robots.write_text('location = /robots.txt { return 200 "from {{ nginx_site_name }}"; }\n')
    return bare(
        "deploy",
        LIMIT,
        "--diff",
        django_asgi_leader_host="trixie",
        django_asgi_build_commands=["sh -c 'mkdir dist node_modules && echo built >dist/app.js && touch node_modules/x'"],
        django_asgi_prepare_commands=["python -c \"open('bare/stamp.txt', 'w').write('prepared')\""],
        django_asgi_after_commands=["python -c 'raise SystemExit(\"the cache is cold\")'"],
        django_asgi_env={"WHERE": '{"source": "{source}", "release": "{release}", "literal": "{other}"}'},
        nginx_site_redirect_names=["bare.test"],
        nginx_site_basic_auth_users={"review": PASSWORD},
        nginx_site_extra_template=str(robots),
    )


@pytest.fixture(scope="module")
def live(host, completed) -> str:
    """The release that is live after that deploy."""
    return json.loads(host.check_output("asgictl --app bare --json status --quick"))["live"]["release"]


def test_what_commands_build_and_prepare_belongs_to_the_release_and_to_root(host, live):
    source = f"/opt/bare/releases/{live}/src"
    assert host.file(f"{source}/dist/app.js").content_string == "built\n"
    assert not host.file(f"{source}/node_modules").exists
    assert host.file(f"{source}/bare/stamp.txt").content_string == "prepared"
    assert host.check_output(f"find {source} ! -user root") == ""
    assert host.run(f"runuser -u bare -- touch {source}/bare/another").rc != 0


def test_a_command_after_the_cut_over_that_fails_is_a_warning(completed):
    assert "the cache is cold" in completed
    assert "is live on trixie" in completed


def test_values_know_their_release_in_the_service_and_in_manage_py(site, host, live):
    expected = {"source": f"/opt/bare/releases/{live}/src", "release": live, "literal": "{other}"}
    assert site.get("/where/", Authorization=LOGIN).json() == expected
    said = host.check_output("asgictl --app bare run python -c 'import os; print(os.environ[\"WHERE\"])'")
    assert json.loads(said) == expected


def test_a_site_behind_a_password_opens_with_it_alone_and_nobody_hears_it(site, host, completed):
    assert site.get("/").status_code == 401
    assert site.get("/", **{"X-Forwarded-For": "127.0.0.1"}).status_code == 401
    assert site.get("/", Authorization=LOGIN).text == "Nothing but this"
    assert PASSWORD not in completed
    assert host.file("/etc/nginx/nginx_site-bare.htpasswd").mode == 0o640


def test_another_name_leads_to_the_first_one_and_a_location_of_the_users_is_served(site, variables, completed):
    other = Site(variables["lab_http_port"], "bare.test").get("/a/?b=c")
    assert other.status_code == 301
    assert other.headers["Location"].startswith("http://www.bare.test")
    assert other.headers["Location"].endswith("/a/?b=c")
    assert site.get("/robots.txt", Authorization=LOGIN).text == "from bare"


def test_what_is_no_longer_wished_goes(site, host, bare, completed):
    bare("deploy", LIMIT)
    assert site.get("/").text == "Nothing but this"
    assert site.get("/robots.txt").status_code == 404
    assert not host.file("/etc/nginx/nginx_site-bare.htpasswd").exists
