"""A site below a path prefix, without a host: its locations, what the application gets, and other sites with the same name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_nginx_site import DIRECTORIES, block, on_host
from test_nginx_site import site as file_of_site
from test_nginx_tls import host, site, value

PREFIX: dict[str, Any] = {"nginx_site_path_prefix": "/eu/shop.v2"}
BLOG = """# nginx_site: blog
server {
    listen 443 ssl;
    listen [::]:443 ssl;
    server_name blog.example.org shop.example.org;
}
server {
    listen 127.0.0.1:8081;
    server_name .example.net;
}
"""


def target(path: str) -> str:
    """Return what the application gets of a path that a client sends; empty if it gets nothing."""
    found = re.search(r'map \$request_uri \$my_shop_target \{\s+default "";\s+"~(.*)" \$my_shop_rest;', site(**PREFIX))
    # PCRE and Python write a named group differently.
    match = re.search(found[1].replace("(?<", "(?P<"), path)
    return match["my_shop_rest"] if match else ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/eu/shop.v2/", "/"),
        ("/eu/shop.v2/a%2Fb//c/?x=/eu/shop.v2/", "/a%2Fb//c/?x=/eu/shop.v2/"),
        ("/eu/shop.v2/eu/shop.v2/", "/eu/shop.v2/"),
        ("/eu/shop.v2", ""),
        ("/eu/shop.v2x/", ""),
        ("/eu/shopxv2/", ""),
        ("/x/../eu/shop.v2/", ""),
        ("//eu/shop.v2/", ""),
    ],
)
def test_the_application_gets_what_the_client_sent_without_the_prefix(path: str, expected: str) -> None:
    assert target(path) == expected


def test_every_request_for_the_application_goes_there_without_the_prefix() -> None:
    text = site(**PREFIX, nginx_site_client_max_body_sizes={"/upload/": "1g"}, nginx_site_events_timeout="1h")
    passed = re.findall("proxy_pass (.*);", text)
    assert set(passed) == {"http://my_shop_application$my_shop_target", "http://my_shop_websocket$my_shop_target"}
    assert len(passed) == 4
    for location in ("location /eu/shop.v2/", "location /eu/shop.v2/upload/"):
        assert re.search(r'if \(\$my_shop_target = ""\) \{\s+return 404;', block(text, location))
    assert "client_max_body_size 1g;" in block(text, "location /eu/shop.v2/upload/")


def test_the_name_alone_leads_to_the_prefix_and_nothing_else_is_there() -> None:
    text = site(**PREFIX)
    assert "return 302 /eu/shop.v2/;" in block(text, "location = /")
    assert "return 308 /eu/shop.v2/$is_args$args;" in block(text, "location = /eu/shop.v2")
    assert block(text, "location /").split("{")[1].split() == ["return", "404;"]
    assert "$my_shop_target" not in site()
    assert "302" not in site()


def test_files_health_maintenance_and_passwords_follow_the_prefix() -> None:
    text = site(
        **PREFIX,
        nginx_site_static_directories=DIRECTORIES,
        nginx_site_media_directory="/var/lib/my-shop/media",
        nginx_site_health_path="/readyz",
        nginx_site_health_allowed=["10.0.0.0/8"],
        nginx_site_maintenance_file="/opt/my-shop/maintenance",
        nginx_site_maintenance_paths=["/status"],
        nginx_site_basic_auth_users={"ann": "correct horse"},
        nginx_site_protected_directory="/var/lib/my-shop/protected",
        nginx_site_protected_url="/protected/",
    )
    assert r'location ~ "^/eu/shop\.v2/static(?=/)' in block(text, "location ^~ /eu/shop.v2/static/")
    assert "alias /var/lib/my-shop/media/;" in block(text, "location ^~ /eu/shop.v2/media/")
    assert "proxy_pass http://my_shop_application/readyz;" in block(text, "location = /eu/shop.v2/readyz")
    assert re.findall('    "(.*)" 1;', block(text, "map $uri $my_shop_open_path")) == ["/eu/shop.v2/readyz", "/eu/shop.v2/status"]
    assert r'"~^/eu/shop\.v2/readyz(?:\?|$)" off;' in text
    # The application names it in X-Accel-Redirect, so it is no visitor's path.
    assert "internal;" in block(text, "location ^~ /protected/")


@pytest.mark.parametrize(
    ("variables", "rivals"),
    [
        ({"nginx_site_tls": "self_signed"}, ["blog: shop.example.org on port 443"]),
        ({"nginx_site_tls": "self_signed", "nginx_site_listen_tls": 8443}, []),
        ({}, []),
        ({"nginx_site_listen": 8081}, []),
        ({"nginx_site_listen": 8081, "nginx_site_redirect_names": ["WWW.example.net"]}, []),
        ({"nginx_site_listen": 8081, "nginx_site_redirect_names": ["Example.net"]}, ["blog: example.net on port 8081"]),
    ],
)
def test_another_sites_names_are_refused_on_the_same_port_whatever_the_prefix(
    variables: dict[str, Any], rivals: list[str]
) -> None:
    files = {"/etc/nginx/sites-enabled/blog.conf": BLOG, "/etc/nginx/sites-enabled/own.conf": BLOG.split("\n", 1)[1]}
    assert on_host("__nginx_site_plan.name_rivals", files, **PREFIX, **variables) == rivals


def test_a_site_is_no_rival_of_itself() -> None:
    own = file_of_site(**PREFIX)
    dump = f"# configuration file /etc/nginx/sites-enabled/my-shop.conf:\n{own}\n"
    assert value("__nginx_site_plan.name_rivals", host(dump=dump), **PREFIX) == []
    other = dump.replace("my-shop.conf", "blog.conf").replace("# nginx_site: my-shop", "# nginx_site: blog")
    assert value("__nginx_site_plan.name_rivals", host(dump=other), **PREFIX) != []
