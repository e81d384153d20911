"""A site with different settings on the host with Debian 13, and the host after its removal."""

import pytest

testinfra_hosts = ["ansible://trixie"]
OTHER = {"nginx_site_tls": "acme", "nginx_site_tls_profile": "modern", "nginx_site_listen_tls": 8443}


@pytest.fixture(scope="module")
def other(edge_play):
    """Deploy the site with an authority's certificate, the modern profile and another port."""
    edge_play(**OTHER)


def handshake(host, *options: str) -> str:
    """Return the output of openssl on the host for a handshake on the other port."""
    return host.run(f"echo | openssl s_client -connect 127.0.0.1:8443 -servername sample.test {' '.join(options)} 2>&1").stdout


def test_the_modern_profile_speaks_tls_1_3_alone(host, other):
    assert "New, TLSv1.3, Cipher is TLS_" in handshake(host)
    assert "alert protocol version" in handshake(host, "-tls1_2")


def test_an_authority_signs_here_too(host, ask, other):
    assert "Pebble" in handshake(host)
    assert "Location: https://sample.test:8443/readyz" in ask("http://sample.test/readyz", "--head")


def test_the_former_port_is_closed(host, other):
    assert not host.socket("tcp://0.0.0.0:443").is_listening


def test_the_site_goes_and_spares_what_is_not_its_own(host, other, playbook):
    host.check_output(
        "echo 'server { listen 8080; return 200 neighbour; }' > /etc/nginx/sites-enabled/neighbour.conf && nginx-site reload"
    )
    playbook("remove", **OTHER)
    assert host.check_output("curl --silent http://127.0.0.1:8080/") == "neighbour"
    listening = host.check_output("ss --listening --numeric --tcp --udp --no-header")
    assert not [port for port in (80, 443, 8443) if f":{port} " in listening], listening
    assert host.check_output("find /etc /usr/local /var/lib -name '*nginx[_-]site*' -o -path '/etc/nginx/tls*'") == ""
    assert host.check_output("ls /etc/nginx/sites-enabled") == "neighbour.conf"
    assert host.check_output("grep worker_connections /etc/nginx/nginx.conf").split() == ["worker_connections", "768;"]
    assert "nginx" not in host.check_output("systemctl cat certbot.service logrotate.timer")
