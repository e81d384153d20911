"""TLS of the role nginx_site without a host: its templates, its validation, and its decisions about certificates."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rendering
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rendering import evaluate, render
from test_nginx_site import nginx_of

ROLE = "nginx_site"
REQUIRED: dict[str, Any] = {
    "nginx_site_name": "my-shop",
    "nginx_site_server_names": ["shop.example.org", "www.example.org"],
    "nginx_site_upstream_socket": "/opt/my-shop/live/socket",
}
DEBIAN_12 = "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.9 30 May 2023 (running with OpenSSL 3.0.16 11 Feb 2025)"
DEBIAN_13 = "nginx version: nginx/1.26.3\nbuilt with OpenSSL 3.5.1 1 Jul 2025\nconfigure arguments: --with-http_v3_module"
UBUNTU_22 = "nginx version: nginx/1.18.0 (Ubuntu)\nbuilt with OpenSSL 3.0.2 15 Mar 2022"
UBUNTU_24 = "nginx version: nginx/1.24.0 (Ubuntu)\nbuilt with OpenSSL 3.0.13 30 Jan 2024"
FILE = "/etc/nginx/tls/my-shop.pem"


def host(build: str = DEBIAN_13, dump: str = "", **certificate: Any) -> dict[str, Any]:
    """Return a host's facts: nginx's build and configuration, and the state of its certificate."""
    return {
        "__nginx_site_host": nginx_of(dump, build=build),
        "__nginx_site_tls_found": {"stdout": json.dumps(certificate) if certificate else ""},
    }


def text(template: str, found: dict[str, Any] | None = None, **variables: Any) -> str:
    """Return a file of the host `found`, without comments."""
    return re.sub(r"(?m)^\s*#.*$", "", render(ROLE, template, **{**REQUIRED, **(found or host()), **variables}))


def site(found: dict[str, Any] | None = None, **variables: Any) -> str:
    """Return the site file of the host `found`."""
    return text("site.conf.j2", found, **variables)


def value(name: str, found: dict[str, Any] | None = None, **variables: Any) -> Any:
    """Return one of the role's variables on the host `found`."""
    return evaluate(ROLE, name, **{**REQUIRED, **(found or host()), **variables})


def faults(**variables: Any) -> str:
    """Return the validation's messages."""
    return rendering.faults(ROLE, **{**REQUIRED, **variables})


@pytest.mark.parametrize("off", [False, "off", "false", "no", "OFF"])
def test_off_is_off_however_yaml_read_it(off: object) -> None:
    assert faults(nginx_site_tls=off) == ""
    assert "ssl" not in site(nginx_site_tls=off)
    assert "listen 80;" in site(nginx_site_tls=off)
    assert value("nginx_site_exports.address", nginx_site_tls=off, nginx_site_listen=8080) == "http://127.0.0.1:8080"


def test_the_address_has_the_scheme_and_port_of_the_edge() -> None:
    assert (
        value("nginx_site_exports.address", nginx_site_tls="self_signed", nginx_site_listen_tls=8443) == "https://127.0.0.1:8443"
    )


def test_key_and_certificate_are_one_file() -> None:
    conf = site(nginx_site_tls="self_signed")
    assert f"ssl_certificate {FILE};" in conf
    assert f"ssl_certificate_key {FILE};" in conf
    assert "stapling" not in conf


@pytest.mark.parametrize("template", ["site.conf.j2", "catch-all-tls.conf.j2"])
def test_the_default_profile_is_mozillas_intermediate_in_both_servers(template: str) -> None:
    conf = text(template, nginx_site_tls="self_signed")
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in conf
    ciphers = re.search("ssl_ciphers (.*);", conf)[1].split(":")
    assert len(ciphers) == 6
    assert all(cipher.startswith("ECDHE-") and ("GCM" in cipher or "CHACHA20" in cipher) for cipher in ciphers)
    assert "ssl_prefer_server_ciphers on;" in conf
    assert "ssl_conf_command Options PrioritizeChaCha;" in conf, "a client that prefers ChaCha20 gets it"
    assert "ssl_session_tickets off;" in conf
    assert "ssl_session_cache shared:nginx_site:10m;" in conf
    modern = text(template, nginx_site_tls="self_signed", nginx_site_tls_profile="modern")
    assert "ssl_protocols TLSv1.3;" in modern
    assert "ssl_ciphers" not in modern


def test_what_each_debian_has_is_used() -> None:
    old, new = site(host(DEBIAN_12), nginx_site_tls="self_signed"), site(nginx_site_tls="self_signed")
    assert "ssl_ecdh_curve X25519:prime256v1:secp384r1;" in old
    assert "listen 443 ssl http2;" in old
    assert "http2 on" not in old
    assert "ssl_ecdh_curve X25519MLKEM768:X25519:prime256v1:secp384r1;" in new
    assert "listen [::]:443 ssl;" in new
    assert "http2 on;" in new


def test_http_is_sent_to_https_but_for_the_authority() -> None:
    conf = site(host(kind="acme"), nginx_site_tls="acme")
    redirect = conf[conf.index("listen 80;") : conf.index("listen 443")]
    assert "location ^~ /.well-known/acme-challenge/" in redirect
    assert "return 308 https://$host$request_uri;" in redirect
    assert conf.count("listen 80;") == 1
    assert "access_log /var/log/nginx/my-shop/access.json my_shop_json;" in redirect
    assert "acme-challenge" not in site(nginx_site_tls="self_signed")
    other = site(nginx_site_tls="self_signed", nginx_site_listen_tls=8443, nginx_site_tls_public_port=9443)
    assert "return 308 https://$host:9443$request_uri;" in other


def test_http_stays_until_the_authority_has_answered_and_wherever_asked_for() -> None:
    for conf in (
        site(host(), nginx_site_tls="acme"),
        site(host(kind="placeholder"), nginx_site_tls="acme"),
        site(host(kind="acme"), nginx_site_tls="acme", nginx_site_tls_redirect_enabled=False),
    ):
        assert "308" not in conf
        assert conf.count("listen 80;") == 1
        assert conf.count("acme-challenge") == 1
        assert "listen 443 ssl;" in conf


def test_hsts_is_off_and_where_on_it_is_sent_once_and_over_tls_alone() -> None:
    assert "Strict-Transport" not in site(nginx_site_tls="self_signed")
    conf = site(
        nginx_site_tls="self_signed",
        nginx_site_hsts_max_age=60,
        nginx_site_hsts_include_subdomains_enabled=True,
        nginx_site_media_directory="/var/lib/my-shop/media",
    )
    assert re.search(r'map \$https \$my_shop_hsts \{\s+default "";\s+on "max-age=60; includeSubDomains";', conf)
    assert "proxy_hide_header Strict-Transport-Security;" in conf
    media = conf[conf.index("location ^~ /media/") :]
    assert "add_header Strict-Transport-Security $my_shop_hsts always;" in media, "a location inherits no add_header"


def test_http3_is_off_and_where_on_it_is_told_and_takes_reuseport_once() -> None:
    assert "quic" not in site(nginx_site_tls="self_signed")
    variables = {"nginx_site_tls": "self_signed", "nginx_site_http3_enabled": True}
    conf = site(**variables)
    assert "listen 443 quic reuseport;" in conf
    assert "listen [::]:443 quic reuseport;" in conf
    assert "on 'h3=\":443\"; ma=86400';" in conf
    assert "listen 443 quic default_server;" in text("catch-all-tls.conf.j2", **variables)
    other = "# configuration file /etc/nginx/sites-enabled/other.conf:\nserver {\n    listen 443 quic reuseport;\n}\n"
    assert "reuseport" not in site(host(dump=other), **variables)
    own = other.replace("other.conf", "my-shop.conf")
    assert "listen 443 quic reuseport;" in site(host(dump=own), **variables)


def test_unknown_names_are_refused_in_the_handshake() -> None:
    conf = text("catch-all-tls.conf.j2", nginx_site_tls="self_signed")
    assert "listen 443 ssl default_server;" in conf
    assert "ssl_reject_handshake on;" in conf
    assert "ssl_certificate" not in conf


def test_who_asks_for_an_address_that_is_served_names_nobody_and_is_let_in() -> None:
    conf = text("catch-all-tls.conf.j2", nginx_site_tls="self_signed", nginx_site_server_names=["a.test", "192.0.2.1"])
    default, unknown = conf.split("\nserver {")[1:]
    assert f"ssl_certificate {FILE};" in default
    assert "return 444;" in default
    assert "server_name ~.;" in unknown
    assert "ssl_reject_handshake on;" in unknown
    for line in ("server_tokens off;", "ssl_ciphers ECDHE-"):
        assert line in default and line in unknown


def test_the_catch_all_for_https_comes_and_goes_with_tls() -> None:
    link = "/etc/nginx/sites-enabled/nginx_site-catch-all-443.conf"
    found = host(dump=f"# configuration file {link}:\n# Kept by site: my-shop\nserver {{ listen 443 ssl default_server; }}\n")
    assert value("__nginx_site_plan.catch_alls_unwanted", found, nginx_site_tls="self_signed") == []
    assert value("__nginx_site_plan.catch_alls_unwanted", found) == [link]
    foreign = host(dump="# configuration file /etc/nginx/conf.d/own.conf:\nserver { listen 443 ssl default_server; }\n")
    assert value("__nginx_site_plan.tls_catch_all.addresses", foreign, nginx_site_tls="self_signed") == ["[::]:443"]


def test_the_catch_all_for_https_goes_with_the_site_that_wrote_it_whatever_its_port() -> None:
    link = "/etc/nginx/sites-enabled/nginx_site-catch-all-8443.conf"
    files = {link: text("catch-all-tls.conf.j2", nginx_site_tls="self_signed"), link.replace("8443", "80"): "listen 80;"}
    dump = "".join(f"# configuration file {path}:\n# Kept by site: my-shop\n{content}\n" for path, content in files.items())
    assert value("__nginx_site_plan.tls_catch_alls_kept", host(dump=dump)) == [link]
    assert value("__nginx_site_plan.tls_catch_alls_kept", host(dump=dump), nginx_site_name="shop") == []


def test_the_proxy_protocol_is_spoken_on_every_address_but_the_hosts_own() -> None:
    variables = {"nginx_site_proxy_protocol_enabled": True, "nginx_site_trusted_proxies": ["192.0.2.0/24"]}
    assert "listen 80 proxy_protocol;" in site(**variables)
    assert "listen 127.0.0.1:80;" in site(**variables)
    conf = site(**variables, nginx_site_tls="self_signed")
    assert "listen [::]:443 ssl proxy_protocol;" in conf
    assert "listen 127.0.0.1:443 ssl;" in conf


NAMES = REQUIRED["nginx_site_server_names"]
GOOD = {"kind": "self_signed", "names": NAMES, "days": 300, "authority": ""}


@pytest.mark.parametrize(
    ("tls", "has", "signs"),
    [
        ("self_signed", {}, "self_signed"),
        ("self_signed", GOOD, ""),
        ("self_signed", GOOD | {"days": 59}, "self_signed"),
        ("self_signed", GOOD | {"names": NAMES[:1]}, "self_signed"),
        ("self_signed", GOOD | {"kind": "acme"}, "self_signed"),
        ("acme", {}, "placeholder"),
        ("acme", GOOD, ""),
        ("files", {}, ""),
    ],
)
def test_when_the_host_signs_a_certificate(tls: str, has: dict[str, Any], signs: str) -> None:
    assert value("__nginx_site_tls_kind_to_sign", host(**has), nginx_site_tls=tls) == signs


ISSUED = {"kind": "acme", "names": NAMES, "days": 60, "authority": "https://ca.test/dir"}


@pytest.mark.parametrize(
    ("has", "due", "unmet"),
    [
        (ISSUED, False, False),
        (ISSUED | {"days": 20}, True, False),
        (ISSUED | {"days": -1}, True, True),
        (ISSUED | {"names": NAMES[:1]}, True, True),
        (ISSUED | {"names": [*NAMES, "old.example.org"]}, True, False),
        (ISSUED | {"authority": "https://other.test/dir"}, True, False),
        (ISSUED | {"kind": "placeholder"}, True, True),
    ],
)
def test_when_the_authority_is_asked_and_when_its_silence_is_a_failure(has: dict, due: bool, unmet: bool) -> None:
    variables = {"nginx_site_tls": "acme", "nginx_site_acme_directory_url": "https://ca.test/dir"}
    assert value("__nginx_site_acme_is_due", host(**has), **variables) is due
    assert value("__nginx_site_certificate_missing", host(**has), **variables) is unmet


def test_certbot_is_asked_for_host_names_alone() -> None:
    variables = {"nginx_site_tls": "acme", "nginx_site_server_names": ["a.test", "192.0.2.1", "[::1]", "b.test"]}
    command = value("__nginx_site_acme_command", host(**ISSUED), **variables)
    assert command[-4:] == ["-d", "a.test", "-d", "b.test"]
    assert "--register-unsafely-without-email" in command
    assert "--force-renewal" in command, "the authority differs from the previous one"
    assert "--email" in value("__nginx_site_acme_command", host(), **variables, nginx_site_acme_email="me@a.test")


def test_the_reason_is_the_authoritys_own_words() -> None:
    told = "Certbot failed to authenticate some domains.\n  Domain: a.test\n  Detail: no A record\nAsk for help\n"
    answer = {"rc": 1, "stderr": told, "stderr_lines": told.splitlines()}
    sentence = value(
        "__nginx_site_acme_sentence", host(kind="placeholder"), __nginx_site_acme_answer=answer, nginx_site_tls="acme"
    )
    assert "issued no certificate for shop.example.org, www.example.org: no A record (full log: " in sentence
    assert "The site is up over HTTP" in sentence
    sentence = value("__nginx_site_acme_sentence", host(**ISSUED), __nginx_site_acme_answer=answer, nginx_site_tls="acme")
    assert "valid for 60 more days" in sentence


def certificate(key: ec.EllipticCurvePrivateKey, hosts: list[str], days: int = -1) -> bytes:
    """Return a certificate in PEM for `hosts` that is valid for ten days, starting `days` days from now."""
    begin = datetime.now(UTC) + timedelta(days=days)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www.example.org")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=10))
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with certificates and their keys, and a key with a passphrase."""
    folder = tmp_path_factory.mktemp("pairs")
    one, two = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files = {
        "one.key": one.private_bytes(*pem, serialization.NoEncryption()),
        "two.key": two.private_bytes(*pem, serialization.NoEncryption()),
        "locked.key": one.private_bytes(*pem, serialization.BestAvailableEncryption(b"x")),
        "one.crt": certificate(one, ["Shop.example.org", "www.example.org"]),
        "star.crt": certificate(one, ["*.example.org"]),
        "few.crt": certificate(one, ["shop.example.org", "*.www.example.org"]),
        "nameless.crt": certificate(one, []),
        "past.crt": certificate(one, ["*.example.org"], days=-20),
        "future.crt": certificate(one, ["*.example.org"], days=2),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "expected"),
    [
        ("one.crt", "one.key", ""),
        ("star.crt", "one.key", ""),
        ("one.crt", "two.key", "two.key, which is not the key of the certificate in"),
        (
            "few.crt",
            "one.key",
            "few.crt, whose certificate is not for www.example.org; expected one for all of nginx_site_server_names and",
        ),
        ("nameless.crt", "one.key", "nameless.crt, whose certificate is not for www.example.org"),
        ("past.crt", "one.key", "past.crt, whose certificate has expired"),
        ("future.crt", "one.key", "future.crt, whose certificate is not valid yet"),
        ("one.key", "one.key", "holds no certificate in PEM"),
        ("one.crt", "one.crt", "holds no key in PEM"),
        ("one.crt", "locked.key", "has a passphrase"),
        ("one.crt", "none.key", "nginx_site_tls_key_file is none.key; expected a file on the controller"),
        ("none.crt", "one.key", "nginx_site_tls_certificate_file is none.crt; expected a file on the controller"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_before_any_host_is_touched(
    pairs: Path, certificate: str, key: str, expected: str
) -> None:
    told = faults(
        directory=str(pairs),
        nginx_site_tls="files",
        nginx_site_tls_certificate_file=certificate,
        nginx_site_tls_key_file=key,
    )
    assert expected in told if expected else told == ""
    secret = (pairs / "one.key").read_text().splitlines()[1]
    assert secret not in told


@pytest.mark.parametrize(("build", "able"), [(UBUNTU_22, False), (DEBIAN_12, True), (UBUNTU_24, True), (DEBIAN_13, True)])
def test_tls_needs_an_nginx_with_the_directives_of_the_templates(build: str, able: bool) -> None:
    assert evaluate(ROLE, "__nginx_site_abilities.tls", **REQUIRED, **host(build)) is able
