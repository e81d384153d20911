"""Health checks that have a host's address as Host, without a host."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_nginx_tls import host, site, value

CHECKS: dict[str, Any] = {"nginx_site_health_path": "/readyz", "nginx_site_health_allowed": ["10.0.0.0/8", "fd00::/8"]}


def server(**variables: Any) -> str:
    """Return the server block of the checks."""
    (block,) = [block for block in re.split(r"(?m)^server ", site(**CHECKS, **variables)) if 'server_name "" "~' in block]
    return block[: block.index("\n}")]


def test_the_listed_get_the_applications_answer_under_its_name_and_others_nothing() -> None:
    block = server()
    location, rest = block.split("location = /readyz {")[1].split("\n    }", 1)
    rules = re.findall(r"(?:allow|deny) [^;]+;", location)
    assert rules == ["allow 10.0.0.0/8;", "allow fd00::/8;", "deny all;"]
    assert "proxy_set_header Host shop.example.org;" in location
    assert "proxy_pass http://my_shop_application/readyz;" in location
    assert "error_page 403 = @my_shop_refused;" in location
    assert rest.count("return 444;") == 2
    assert "health checks" not in site(nginx_site_health_path="/readyz")


@pytest.mark.parametrize(
    ("name", "is_address"),
    [("10.0.0.5", True), ("[fd00::5]", True), ("shop.example.org", False), ("10.example.org", False), ("", True)],
)
def test_only_addresses_are_answered(name: str, is_address: bool) -> None:
    names = re.search("server_name (.*);", server())[1].split()
    assert any(bool(re.search(one[2:-1], name)) if one.startswith('"~') else one == f'"{name}"' for one in names) is is_address


def test_no_header_of_a_proxy_makes_a_client_one_of_the_listed() -> None:
    block = server(nginx_site_trusted_proxies=["10.0.0.0/8"])
    assert "real_ip" not in block


@pytest.mark.parametrize(
    ("variables", "scheme"),
    [({}, "http"), ({"nginx_site_tls": "self_signed"}, "https"), ({"nginx_site_trusted_proxies": ["10.0.0.0/8"]}, "https")],
)
def test_the_check_has_the_scheme_of_visitors(variables: dict[str, Any], scheme: str) -> None:
    block = server(**variables)
    assert f"proxy_set_header X-Forwarded-Proto {scheme};" in block
    assert "listen 80;" in block
    assert "443" not in block


def test_one_site_of_a_host_and_port_answers_them() -> None:
    mark = "# nginx_site: blog\n# answers: health checks by address on port 80\n"
    other = host(dump=f"# configuration file /etc/nginx/sites-enabled/blog.conf:\n{mark}server {{}}\n")
    assert value("__nginx_site_plan.health_rival", other, **CHECKS) == "blog"
    assert value("__nginx_site_plan.health_rival", other, **CHECKS, nginx_site_listen=8080) == ""
    own = host(dump=f"# configuration file /etc/nginx/sites-enabled/my-shop.conf:\n{mark.replace('blog', 'my-shop')}")
    assert value("__nginx_site_plan.health_rival", own, **CHECKS) == ""
    asked = "__nginx_site_asked | django_asgi.site.nginx_site_wishes"
    assert value(asked, **CHECKS) == ["# answers: health checks by address on port 80"]
    assert value(asked) == []
