"""The host with Debian 12: an authority that issues, renews, and is down."""

import json
import re

import pytest
from outside import PATIENCE, wait_until

testinfra_hosts = ["ansible://bookworm"]
NEW = ["sample.test", "www.sample.test", "new.sample.test", "127.0.0.1"]


def state(host) -> dict:
    """Return the host's state of the certificate."""
    return json.loads(host.check_output("nginx-site-certificate state sample"))


@pytest.fixture
def away(host):
    """Stop the authority for one test."""
    host.check_output("systemctl stop authority.socket authority.service")
    yield
    host.check_output("systemctl start authority.socket")


def test_the_authority_has_signed_all_host_names(host, edge):
    assert "Pebble" in edge.certificate().issuer.rfc4514_string()
    assert set(state(host)["names"]) == {"sample.test", "www.sample.test"}
    assert host.service("certbot.timer").is_enabled
    assert host.service("certbot.timer").is_running


def test_a_renewal_by_the_timers_service_loses_nobody(host, edge):
    """Start the timer's service directly; only the due date is brought forward."""
    before = edge.certificate().serial_number
    conf = "/etc/letsencrypt/renewal/nginx_site-sample.conf"
    host.check_output(f"sed -i 's/^.*renew_before_expiry.*/renew_before_expiry = 365 days/' {conf}")
    with edge.websocket() as socket:
        report = host.run(
            "rm -f /run/renewed; (systemctl start certbot.service; touch /run/renewed) & until [ -e /run/renewed ]; do "
            "curl -sk -o /dev/null -w '%{http_code}\\n' --resolve sample.test:443:127.0.0.1 https://sample.test/readyz; "
            "done | sort | uniq -c"
        )
        answers = re.fullmatch(r"\s*(\d+) 200\s*", report.stdout)
        assert answers, report.stdout + report.stderr
        assert int(answers[1]) > 1
        wait_until(lambda: edge.certificate().serial_number != before)
        socket.send("Hi")
        assert "Echo: Hi" in socket.recv(timeout=PATIENCE)
    host.check_output(f"sed -i 's/^renew_before_expiry.*/# renew_before_expiry = 30 days/' {conf}")


def test_a_new_name_of_an_authority_that_is_away_fails_the_deploy_and_not_the_site(edge, ask, playbook, away):
    before = edge.certificate().serial_number
    output = " ".join(playbook("deploy", fails=True, nginx_site_server_names=NEW).split())
    assert "is live on bookworm" in output, "the release comes first"
    assert "issued no certificate for sample.test, www.sample.test, new.sample.test" in output
    assert "Run the same play again" in output
    assert edge.certificate().serial_number == before
    assert ask("https://sample.test/readyz", "--output /dev/null", "--write-out '%{http_code}'") == "200"


def test_the_next_run_gets_it(host, edge_play):
    edge_play(nginx_site_server_names=NEW)
    assert set(state(host)["names"]) == {"sample.test", "www.sample.test", "new.sample.test"}


def test_without_tls_nothing_of_it_is_left(host, ask, edge_play):
    edge_play(nginx_site_tls=False)
    assert not host.socket("tcp://0.0.0.0:443").is_listening
    for path in ("/etc/nginx/tls/sample.pem", "/etc/letsencrypt/live/nginx_site-sample"):
        assert not host.file(path).exists
    assert "nginx" not in host.check_output("systemctl show --property=ExecStartPre,Environment certbot.service")
    assert ask("http://sample.test/healthz", "--output /dev/null", "--write-out '%{http_code}'") == "200"


def test_a_first_certificate_that_is_not_to_be_had_leaves_the_site_up_over_http(host, ask, edge_play, away):
    output = " ".join(edge_play(fails=True).split())
    assert "The site is up over HTTP, and over HTTPS with a certificate that browsers will warn of" in output
    assert ask("http://sample.test/healthz", "--output /dev/null", "--write-out '%{http_code}'") == "200"
    assert state(host)["kind"] == "placeholder"


def test_and_the_next_run_has_it_issued_and_redirects(host, ask, edge_play):
    edge_play()
    assert state(host)["kind"] == "acme"
    assert "308" in ask("http://sample.test/readyz", "--head")
    assert "changed=0" in edge_play()


def test_a_renewal_that_fails_is_a_warning(edge_play):
    output = " ".join(edge_play(nginx_site_acme_directory_url="https://localhost:14002/dir").split())
    assert "WARNING: The authority at https://localhost:14002/dir issued no certificate" in output
    assert "The site keeps its present certificate, which is valid for" in output


def test_http3_is_refused_with_a_sentence(edge_play):
    output = " ".join(edge_play(fails=True, nginx_site_http3_enabled=True).split())
    assert "this host's nginx was built without HTTP/3, which needs nginx 1.25 or newer" in output
