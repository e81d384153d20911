"""The host with Debian 13: certificates that the host signs or that the user brings, and HTTP/3."""

import subprocess
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://trixie"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """pair(certificate, key): return the variables for one of three certificates and one of their keys."""
    folder = tmp_path_factory.mktemp("pair")
    for name, bits, hosts in (
        ("right", 2048, "DNS:sample.test,DNS:*.sample.test"),
        ("other", 2048, "DNS:sample.test"),
        ("weak", 1024, "DNS:sample.test,DNS:*.sample.test"),
    ):
        sign = f"openssl req -x509 -newkey rsa:{bits} -nodes -days 90 -subj /CN=sample.test -addext subjectAltName={hosts}"
        subprocess.run(
            [*sign.split(), "-keyout", f"{name}.key", "-out", f"{name}.crt"], cwd=folder, check=True, capture_output=True
        )
    return lambda certificate, key: {
        "nginx_site_tls": "files",
        "nginx_site_tls_certificate_file": str(folder / f"{certificate}.crt"),
        "nginx_site_tls_key_file": str(folder / f"{key}.key"),
    }


def test_http3_is_announced_and_spoken(host, ask):
    assert 'alt-svc: h3=":443"; ma=86400' in ask("https://sample.test/", "--head").lower()
    assert (
        ask("https://sample.test/readyz", "--http3-only", "--output /dev/null", "--write-out '%{http_version} %{http_code}'")
        == "3 200"
    )
    assert host.socket("udp://0.0.0.0:443").is_listening


def test_post_quantum_keys_are_exchanged(host):
    # The client offers only this group, so no other can be chosen.
    command = "echo | openssl s_client -connect 127.0.0.1:443 -servername sample.test -groups X25519MLKEM768"
    assert "X25519MLKEM768" in host.check_output(f"{command} 2>&1 | grep -i 'group'")


def test_the_certificate_is_made_anew_when_it_nears_its_end(host, edge, edge_play):
    before = edge.certificate().serial_number
    host.check_output(
        "nginx-site-certificate make sample self_signed 30 sample.test www.sample.test 127.0.0.1 && nginx-site reload"
    )
    ending = edge.certificate().serial_number
    edge_play()
    assert edge.certificate().serial_number not in (before, ending)
    assert '"days": 396' in host.check_output("nginx-site-certificate state sample")


def test_a_pair_of_the_users_own_is_installed_and_shown_nowhere(edge, edge_play, pair):
    given = pair("right", "right")
    output = edge_play("--diff", "-vv", **given)
    key = Path(given["nginx_site_tls_key_file"]).read_text()
    assert not [line for line in key.splitlines()[1:-1] if line in output]
    assert edge.certificate().issuer.rfc4514_string() == "CN=sample.test"
    assert "changed=0" in edge_play(**given)


@pytest.mark.parametrize(
    ("certificate", "key", "expected"),
    [
        ("right", "other", "is not the key of the certificate in"),
        ("other", "other", "whose certificate is not for www.sample.test; expected one for all of nginx_site_server_names"),
        ("weak", "weak", "nginx does not accept the certificate"),
    ],
)
def test_a_pair_that_nginx_could_not_use_changes_nothing(edge, edge_play, pair, certificate, key, expected):
    before = edge.certificate().serial_number
    output = edge_play(fails=True, **pair(certificate, key))
    assert expected in " ".join(output.split())
    secret = Path(pair(certificate, key)["nginx_site_tls_key_file"]).read_text().splitlines()[1]
    assert secret not in output
    assert edge.certificate().serial_number == before
