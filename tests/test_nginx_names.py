"""The names of a site without a host: wildcards, and names that are redirected to the first one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import rendering
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rendering import evaluate
from test_nginx_tls import certificate, host, site, value

NAMES = ["shop.example.org", "*.example.org"]
OTHERS = ["example.org", "shop.example.net"]
WILDCARDS = [".example.org", "*.example.net"]


def redirect(found: dict[str, Any] | None = None, **variables: Any) -> str:
    """Return the server block of the redirected names."""
    text = site(found, nginx_site_redirect_names=OTHERS, **variables)
    (block,) = [block for block in re.split(r"(?m)^server ", text) if "server_name example.org shop.example.net;" in block]
    return block[: block.index("\n}")]


def test_other_names_are_redirected_to_the_first_one_with_the_port_of_the_visitor() -> None:
    block = redirect()
    assert "listen 80;" in block and "listen [::]:80;" in block and "443" not in block
    assert 'if ($http_host ~ "(:[0-9]+)$") {\n        set $my_shop_port $1;' in block
    assert "return 301 $scheme://shop.example.org$my_shop_port$request_uri;" in block
    assert "301" not in site()


def test_behind_a_load_balancer_the_scheme_is_the_visitors() -> None:
    block = redirect(nginx_site_trusted_proxies=["10.0.0.0/8"])
    assert "return 301 $my_shop_scheme://shop.example.org$my_shop_port$request_uri;" in block
    assert "set_real_ip_from 10.0.0.0/8;" in block


def test_with_tls_one_redirect_leads_to_https() -> None:
    block = redirect(nginx_site_tls="self_signed", nginx_site_tls_public_port=9443, nginx_site_hsts_max_age=60)
    for line in ("listen 80;", "listen 443 ssl;", "ssl_certificate /etc/nginx/tls/my-shop.pem;", "ssl_ciphers ECDHE-"):
        assert line in block
    assert "return 301 https://shop.example.org:9443$request_uri;" in block
    assert "add_header Strict-Transport-Security $my_shop_hsts always;" in block


def test_the_authority_reaches_the_redirected_names_before_there_is_a_certificate() -> None:
    block = redirect(host(kind="placeholder"), nginx_site_tls="acme")
    assert "location ^~ /.well-known/acme-challenge/" in block
    assert "return 301 $scheme://" in block
    assert "return 301 https://" in redirect(host(kind="acme"), nginx_site_tls="acme")


def test_an_address_gets_reuseport_once() -> None:
    block = redirect(nginx_site_tls="self_signed", nginx_site_http3_enabled=True)
    assert "listen 443 quic;" in block
    assert "reuseport" not in block


def test_redirected_names_are_in_every_certificate() -> None:
    names = {"nginx_site_server_names": NAMES, "nginx_site_redirect_names": OTHERS}
    present = host(kind="self_signed", names=NAMES, days=300, authority="")
    assert value("__nginx_site_tls_kind_to_sign", present, nginx_site_tls="self_signed", **names) == "self_signed"
    present = host(kind="self_signed", names=NAMES + OTHERS, days=300, authority="")
    assert value("__nginx_site_tls_kind_to_sign", present, nginx_site_tls="self_signed", **names) == ""
    command = value("__nginx_site_acme_command", nginx_site_redirect_names=OTHERS)
    assert command[-4:] == ["-d", "example.org", "-d", "shop.example.net"]


@pytest.mark.parametrize(
    ("signed", "missing"),
    [
        (["shop.example.org", "*.example.org", "example.org", "*.example.net"], ""),
        (["*.example.org", "*.example.net"], "is not for example.org; expected one for all of nginx_site_server_names and"),
        (["shop.example.org", "example.org", "*.example.net"], "is not for *.example.org; expected"),
        (["*.example.org", "example.org"], "is not for shop.example.net; expected"),
    ],
)
def test_a_given_certificate_has_to_have_wildcards_and_redirected_names(signed: list[str], missing: str, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(key.private_bytes(*pem))
    (tmp_path / "crt").write_bytes(certificate(key, signed))
    found = rendering.faults(
        "nginx_site",
        str(tmp_path),
        nginx_site_name="shop",
        nginx_site_upstream_socket="/run/shop.sock",
        nginx_site_server_names=NAMES,
        nginx_site_redirect_names=OTHERS,
        nginx_site_tls="files",
        nginx_site_tls_certificate_file="crt",
        nginx_site_tls_key_file="key",
    )
    assert missing in found if missing else found == ""


def test_a_leading_dot_is_two_names_of_a_certificate_and_one_of_nginx() -> None:
    signed = value("__nginx_site_tls_names", nginx_site_server_names=WILDCARDS)
    assert signed == ["example.org", "*.example.org", "*.example.net"]
    assert "server_name .example.org *.example.net;" in site(nginx_site_server_names=WILDCARDS)


@pytest.mark.parametrize(
    ("name", "asked"), [(".example.org", "example.org"), ("*.example.org", "www.example.org"), ("a.test", "a.test")]
)
def test_the_gate_names_a_host_that_the_wildcard_covers(name: str, asked: str) -> None:
    names = {"django_asgi_name": "shop", "django_asgi_edge_names": [name, "b.test"]}
    assert evaluate("django_asgi", "__django_asgi_health_host", **names) == asked


@pytest.mark.parametrize("name", WILDCARDS)
def test_the_example_allows_wildcards_as_django_writes_them(name: str) -> None:
    path = rendering.ROLES.parent / "inventory/example/group_vars/app/main.yml"
    allowed = rendering._load(path)["django_asgi_env"]["ALLOWED_HOSTS"]
    found = evaluate("django_asgi", "allowed", allowed=allowed, nginx_site_server_names=["a.test", name])
    assert found == f"a.test,{name.removeprefix('*')}"
