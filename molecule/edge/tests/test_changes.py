"""The edge during an operator's changes and the application's failures: it reports them and keeps working."""

import json
import re

import pytest
from outside import PATIENCE, wait_until
from raw import exchange, handshake, statuses

testinfra_hosts = ["ansible://trixie"]


@pytest.fixture
def closed(host):
    """Turn the maintenance page on, and off again after the test in any case."""
    assert host.check_output("asgictl maintenance") == "sample: the site is open"
    host.check_output("asgictl maintenance on")
    yield
    host.check_output("asgictl maintenance off")


def test_maintenance_closes_the_site_at_once_and_opens_it_again(site, host, inside, playbook, closed):
    page = site.get("/api/hello/")
    assert page.status_code == 503
    assert page.headers["Retry-After"] == "120"
    assert "being worked on" in page.text
    assert site.get("/", Accept="application/json").json()["title"] == "Maintenance"
    assert statuses(exchange(site.port, handshake())[0]) == [503]
    assert site.get("/readyz").status_code == 200
    assert inside("/api/hello/")[0] == 200
    assert inside("/api/hello/", **{"X-Forwarded-For": "203.0.113.9"})[0] == 200
    assert inside("/api/hello/", **{"X-Forwarded-For": "198.51.100.9"})[0] == 503
    assert site.get("/api/hello/", **{"X-Forwarded-For": "203.0.113.9"}).status_code == 503
    assert "maintenance page" in host.check_output("asgictl status")
    before = site.get("/readyz").headers["X-Release"]
    playbook("release", django_asgi_workers=1)
    assert site.get("/readyz").headers["X-Release"] != before, "a release works behind the page"
    playbook("rollback")
    assert json.loads(host.check_output("asgictl --json maintenance off")) == {
        "app": "sample",
        "maintenance": False,
        "changed": True,
    }
    assert site.get("/api/hello/").status_code == 200


def test_an_app_that_is_away_is_excused(site, host):
    live = site.release()
    host.check_output("systemctl stop sample@%s.socket sample@%s.service", live, live)
    try:
        page = site.get("/")
        assert (page.status_code, page.headers["Retry-After"]) == (502, "5")
        assert "<h1>Back in a moment</h1>" in page.text
        assert re.search("request [0-9a-f]{32}", page.text)
        assert len(page.content) < 1500
        assert site.get("/", Accept="application/json").json()["status"] == 502
    finally:
        host.check_output("systemctl start sample@%s.service", live)
    wait_until(lambda: site.get("/healthz").status_code == 200)


def test_an_app_that_takes_too_long_is_excused(site, host):
    group = f"sample@{site.release()}.service"
    host.check_output("systemctl kill --signal=STOP %s", group)
    try:
        page = site.get("/")
        assert (page.status_code, page.headers["Retry-After"]) == (504, "30")
        assert "<h1>Taking too long</h1>" in page.text
    finally:
        host.check_output("systemctl kill --signal=CONT %s", group)
    wait_until(lambda: site.get("/healthz").status_code == 200)


def test_the_proxy_protocol_names_the_client(site, host, inside, playbook):
    gateway = host.check_output("ip -4 route show default").split()[2]
    request = b"GET /api/whoami/ HTTP/1.1\r\nHost: sample.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"
    playbook("deploy", nginx_site_proxy_protocol_enabled=True, nginx_site_trusted_proxies=[gateway])
    try:
        received, _ = exchange(site.port, b"PROXY TCP4 198.51.100.7 10.0.0.1 5000 80\r\n" + request, PATIENCE)
        assert json.loads(received.partition(b"\r\n\r\n")[2])["client"] == "198.51.100.7"
        received, closed = exchange(site.port, request, PATIENCE)
        assert closed and statuses(received) in ([], [400])
        # asgictl, on the host itself, still gets through.
        assert inside("/healthz")[0] == 200
    finally:
        playbook("deploy")
