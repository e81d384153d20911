"""Passwords of a site without a host: who needs one, what is written, and that it goes again."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from rendering import ROLES, evaluate
from test_nginx_tls import host, site
from test_nginx_traffic import ALL, locations

SECRET = "hunter2-the-secret"
USERS: dict[str, Any] = {"nginx_site_basic_auth_users": {"otto": "another password", "anna": SECRET}}
FILE = "/etc/nginx/nginx_site-my-shop.htpasswd"


def table(text: str, name: str) -> dict[str, str]:
    """Return the entries of one of nginx's maps: pattern to value."""
    content = re.search(rf"(?m)^(?:map|geo) .* \$my_shop_{name} \{{\n((?:.*\n)*?)\}}", text)[1]
    return dict(re.findall(r'(?m)^    (".*?"|\S+) (.*);$', content))


def test_every_location_needs_a_password_and_none_without_users() -> None:
    text = site(**USERS, **ALL)
    server = text[text.index("server_name") :]
    assert server.count("auth_basic $my_shop_realm;") == server.count(f"auth_basic_user_file {FILE};") == 1
    assert all("auth_basic" not in content and "satisfy" not in content for content in locations(text).values())
    assert "auth_basic" not in site(**ALL)
    assert "realm" not in site(**ALL)
    assert SECRET not in text


def test_only_a_connection_from_this_host_for_this_host_needs_none() -> None:
    text = site(**USERS, nginx_site_trusted_proxies=["10.0.0.0/8"])
    assert 'map "$my_shop_origin $my_shop_peer $http_x_forwarded_for" $my_shop_realm {' in text
    assert "geo $realip_remote_addr $my_shop_origin {" in text, "a trusted proxy names any address as the client's"
    assert "geo $remote_addr $my_shop_peer {" in text, "a proxy on this host connects from here for everyone"
    assert table(text, "origin") == {"default": "remote", "127.0.0.0/8": "local", "::1": "local"}
    open_to = {key for key, realm in table(text, "realm").items() if realm == "off"}
    assert open_to == {'"local local "', '"local local 127.0.0.1"'}


@pytest.mark.parametrize(
    ("sent", "is_open"),
    [
        ("/ready.z", True),
        ("/ready.z?full=1", True),
        ("/READY.Z", False),
        ("/readyxz", False),
        ("/ready.z/", False),
        ("/admin/../ready.z", False),
        ("//ready.z", False),
    ],
)
def test_the_health_path_is_open_if_it_is_sent_literally(sent: str, is_open: bool) -> None:
    text = site(**USERS, nginx_site_health_path="/ready.z")
    assert "map $request_uri $my_shop_realm_of_path {" in text
    (pattern,) = (key for key, realm in table(text, "realm_of_path").items() if realm == "off")
    assert bool(re.search(pattern.strip('"').removeprefix("~"), sent)) is is_open


@pytest.mark.parametrize("path", ["", "/"])
def test_the_front_page_stays_closed_though_it_is_the_health_path(path: str) -> None:
    assert table(site(**USERS, nginx_site_health_path=path), "realm_of_path") == {"default": '"my-shop"'}


def test_the_authoritys_challenges_stay_open() -> None:
    text = site(host(kind="placeholder"), **USERS, nginx_site_tls="acme")
    assert "auth_basic off;" in locations(text)["^~ /.well-known/acme-challenge/"]


def test_the_application_never_gets_the_password() -> None:
    text = site(**USERS)
    assert "    proxy_set_header Authorization $my_shop_authorization;" in text
    assert table(text, "authorization") == {"default": '""', "off": "$http_authorization"}
    assert "Authorization" not in site()


def test_the_file_has_salted_hashes_and_is_the_same_at_every_run() -> None:
    expression = "nginx_site_basic_auth_users | django_asgi.site.nginx_site_htpasswd('my-shop')"
    text = evaluate("nginx_site", expression, **USERS)
    assert text == evaluate("nginx_site", expression, **USERS)
    anna, otto = text.splitlines()
    assert re.fullmatch(r"anna:\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}", anna)
    assert otto.startswith("otto:$6$")
    assert SECRET not in text
    same = {"nginx_site_basic_auth_users": {"anna": SECRET, "otto": SECRET}}
    hashes = {line.split(":")[1] for line in evaluate("nginx_site", expression, **same).splitlines()}
    assert len(hashes) == 2, "equal passwords do not look equal"


def test_the_file_is_for_nginx_alone_and_nothing_of_it_is_shown() -> None:
    (task,) = yaml.safe_load((ROLES / "nginx_site/tasks/passwords.yml").read_text())
    assert task["no_log"] is True
    assert task["diff"] is False
    copy = task["ansible.builtin.copy"]
    assert (copy["owner"], copy["group"], copy["mode"]) == ("root", "www-data", "0640")


@pytest.mark.parametrize("entry", ["main", "remove"])
def test_the_file_goes_after_the_reload_of_the_site_without_it(entry: str) -> None:
    names = [task["name"] for task in yaml.safe_load((ROLES / f"nginx_site/tasks/{entry}.yml").read_text())]
    reload, delete = {
        "main": ("Run nginx", "Remove the passwords of a site that is open"),
        "remove": ("remove | Reload nginx now", "remove | Delete the passwords"),
    }[entry]
    assert names.index(reload) < names.index(delete)


def test_no_variable_is_defined_twice() -> None:
    names = re.findall(r"(?m)^(?:map|geo) .* (\$\w+) \{", site(**USERS, **ALL))
    assert len(names) == len(set(names))
