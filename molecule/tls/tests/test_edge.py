"""The edge as visitors see it, on both hosts: one with a self-signed certificate, one with an authority's."""

import json
import re
import ssl

import pytest
from cryptography import x509
from outside import PATIENCE, wait_until

testinfra_hosts = ["ansible://app"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_versions_are_spoken_and_http2_with_them(edge, version):
    with edge.handshake(minimum_version=version, maximum_version=version) as connection:
        assert connection.version() == version.name.replace("_", ".")
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(edge, version):
    with pytest.raises(ssl.SSLError, match=r"(?i)alert|protocol"):
        edge.handshake(minimum_version=version, maximum_version=version)


def test_an_unknown_name_sees_no_certificate(edge):
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        edge.handshake("somebody-else.test")


def test_every_name_is_in_the_certificate_and_an_address_is_served_without_a_name(edge, ask):
    names = edge.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert {"sample.test", "www.sample.test"} <= {str(name.value) for name in names.value}
    assert "200" in ask("https://127.0.0.1/readyz", "--head")


def test_http_is_sent_to_https_with_its_path_and_noted(host, ask):
    answer = ask("'http://www.sample.test/notes/?page=2'", "--head")
    assert "308 Permanent Redirect" in answer
    assert "Location: https://www.sample.test/notes/?page=2" in answer

    def noted() -> bool:
        """the redirect's line in the access log"""
        lines = map(json.loads, host.check_output("tail /var/log/nginx/sample/access.json").splitlines())
        return ("308", "/notes/") in [(line["status"], line["path"]) for line in lines]

    wait_until(noted)


def test_the_app_knows_that_it_is_asked_over_tls(ask):
    assert json.loads(ask("https://sample.test/api/whoami/", "--http2"))["scheme"] == "https"


def test_a_websocket_talks_over_tls(edge):
    with edge.websocket() as socket:
        socket.send("Hi")
        assert json.loads(socket.recv(timeout=PATIENCE)) == {"message": "Echo: Hi"}


def test_key_and_certificate_are_roots_alone(host):
    file = host.file("/etc/nginx/tls/sample.pem")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    assert host.file("/etc/nginx/tls").mode == 0o700
    assert host.run("runuser -u www-data -- cat /etc/nginx/tls/sample.pem").rc == 1


def test_exactly_one_hsts_header_the_edges_or_else_the_apps(ask, variables):
    headers = r"(?im)^strict-transport-security: *(.*?)\s*$"
    apps = [f"max-age={variables['django_asgi_env']['HSTS_SECONDS']}"]
    edges = [f"max-age={variables['nginx_site_hsts_max_age']}"] if "nginx_site_hsts_max_age" in variables else []
    assert re.findall(headers, ask("https://sample.test/", "--head")) == (edges or apps)
    assert re.findall(headers, ask("https://sample.test/static/nothing.css", "--head")) == edges
    assert re.findall(headers, ask("http://sample.test/", "--head")) == []
