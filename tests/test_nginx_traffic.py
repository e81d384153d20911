"""The traffic part of the role nginx_site without a host: its templates with various variables."""

from __future__ import annotations

import re
from typing import Any

from rendering import faults, render

ROLE = "nginx_site"
REQUIRED: dict[str, Any] = {
    "nginx_site_name": "my-shop",
    "nginx_site_server_names": ["shop.example.org"],
    "nginx_site_upstream_socket": "/opt/my-shop/live/socket",
}
ALL: dict[str, Any] = {
    "nginx_site_static_directories": ["/opt/my-shop/live/static", "/opt/my-shop/static-pool"],
    "nginx_site_media_directory": "/var/lib/my-shop/media",
    "nginx_site_protected_url": "/protected/",
    "nginx_site_protected_directory": "/var/lib/my-shop/protected/",
    "nginx_site_maintenance_file": "/opt/my-shop/maintenance",
    "nginx_site_maintenance_addresses": ["203.0.113.0/24", "2001:db8::/32"],
    "nginx_site_maintenance_paths": ["/status"],
    "nginx_site_health_path": "/readyz",
    "nginx_site_trusted_proxies": ["10.0.0.0/8"],
    "nginx_site_max_connections": 100,
    "nginx_site_request_rate": 200,
    "nginx_site_request_rate_per_address": 20,
    "nginx_site_client_max_body_sizes": {"/api/upload/": "1g"},
    "nginx_site_client_body_temp_path": "/srv/bodies",
    "nginx_site_brotli_enabled": True,
}


def site(**variables: Any) -> str:
    """Return the site file for the required variables and ``variables``."""
    return render(ROLE, "site.conf.j2", **REQUIRED, **variables)


def locations(text: str) -> dict[str, str]:
    """Return the server's locations: name to content."""
    return dict(re.findall(r"^    location ([^\n]*) \{\n(.*?)^    \}", text, re.MULTILINE | re.DOTALL))


def test_everything_on_is_accepted() -> None:
    assert faults(ROLE, **REQUIRED, **ALL) == ""


def test_no_name_is_used_that_is_not_defined() -> None:
    for text in (site(), site(**ALL)):
        known = {
            name
            for pair in re.findall(r"^(?:map|geo) .*(\$my_shop_\w+) \{|set (\$my_shop_\w+) ", text, re.MULTILINE)
            for name in pair
        }
        known |= {f"${name}" for name in re.findall(r"\?<(my_shop_\w+)>", text)}
        assert set(re.findall(r"\$my_shop_\w+", text)) <= known
        zones = set(re.findall(r"zone=(\w+):", text))
        assert set(re.findall(r"limit_conn (\w+)|limit_req zone=(\w+) ", text)) <= {(z, "") for z in zones} | {
            ("", z) for z in zones
        }
        named = set(re.findall(r"location @(\w+)", text))
        for page in re.findall(r"error_page \d+ = @(\w+?)(_\$my_shop_as)?;", text):
            assert {page[0]} <= named if not page[1] else {f"{page[0]}_html", f"{page[0]}_json"} <= named


def test_who_is_not_trusted_names_neither_client_nor_scheme_nor_request() -> None:
    text = site()
    assert "real_ip" not in text
    assert "http_x_forwarded" not in text
    assert "http_x_request_id" not in text
    assert "proxy_set_header X-Forwarded-Proto $scheme;" in text
    assert "proxy_set_header X-Request-ID $request_id;" in text


def test_who_is_trusted_is_believed_and_nobody_else() -> None:
    text = site(**ALL)
    assert "set_real_ip_from 10.0.0.0/8;" in text
    assert "real_ip_header X-Forwarded-For;" in text
    assert "real_ip_recursive on;" in text
    assert "proxy_set_header X-Forwarded-Proto $my_shop_scheme;" in text
    assert "geo $realip_remote_addr $my_shop_trusted" in text


def test_a_location_with_a_header_of_its_own_repeats_the_servers() -> None:
    for name, content in locations(site(**ALL)).items():
        if "add_header" in content:
            assert "add_header X-Request-ID" in content, name
            assert "add_header X-Content-Type-Options" in content, name


def test_security_headers_are_left_to_the_app_and_can_be_changed() -> None:
    text = site(nginx_site_security_headers={"X-Content-Type-Options": "nosniff", "Referrer-Policy": "", "X-Own": "a b"})
    assert 'map $upstream_http_x_own $my_shop_x_own {\n    default "";\n    "" "a b";' in text
    assert "Referrer-Policy" not in text


def test_limits_reach_every_proxied_location() -> None:
    proxied = {name: content for name, content in locations(site(**ALL)).items() if "proxy_pass" in content}
    assert set(proxied) == {"/", "/api/upload/", "@my_shop_websocket", "@my_shop_events"}
    for content in proxied.values():
        assert content.index("limit_req zone=my_shop_rate_address burst=100 nodelay;") < content.index("zone=my_shop_rate_total")
    assert {name for name, content in proxied.items() if "limit_conn my_shop_total 100;" in content} == {"/", "/api/upload/"}
    long = {name for name, content in proxied.items() if "limit_conn my_shop_long 90;" in content}
    assert long == {"@my_shop_websocket", "@my_shop_events"}
    assert "limit_req zone" not in site()


def test_bodies_have_sizes_by_path() -> None:
    found = locations(site(**ALL))
    assert "client_max_body_size 1g;" in found["/api/upload/"]
    assert "client_max_body_size" not in found["/"]
    assert "client_body_temp_path /srv/bodies;" in site(**ALL)


def test_guarded_files_are_internal_and_links_out_are_not_followed() -> None:
    guarded = locations(site(**ALL))["^~ /protected/"]
    assert "internal;" in guarded
    assert "alias /var/lib/my-shop/protected/;" in guarded
    assert "disable_symlinks if_not_owner from=$document_root;" in guarded
    assert "internal;" not in site()


def test_maintenance_lets_this_host_the_listed_and_the_health_check_through() -> None:
    text = site(**ALL)
    assert "    if (-f /opt/my-shop/maintenance) {" in text
    assert "if ($my_shop_closed) {" in locations(text)["/"]
    for line in ('"/readyz" 1;', '"/status" 1;', "127.0.0.0/8 1;", "::1 1;", "203.0.113.0/24 1;", "2001:db8::/32 1;"):
        assert f"    {line}\n" in text
    assert "590" not in site()


def test_the_log_has_no_query_string_unless_asked_for() -> None:
    assert "escape=json" in site()
    for name in ("$args", "$request ", "$request_uri,", "$http_referer"):
        assert name not in site()
    assert '"arguments":"$args"' in site(nginx_site_access_log_arguments_enabled="yes")
    assert "access_log" not in site(nginx_site_access_log_enabled=False)


def test_pages_are_small_and_tell_the_request() -> None:
    pages = re.findall(r"return (\d+) '(<!doctype.*)';", site(**ALL))
    assert [code for code, _ in pages] == ["413", "429", "502", "503", "504", "503"]
    assert all("$my_shop_request_id" in page and len(page) < 1024 for _, page in pages)


def test_only_a_clean_handshake_becomes_a_websocket() -> None:
    upgrade = re.search(r"map \"(.*)\" \$my_shop_upgrade \{(.*?)\}", site(), re.DOTALL)
    assert upgrade[1] == "$request_method $server_protocol $content_length$http_transfer_encoding $http_upgrade"
    assert re.findall(r'"(.+)" websocket', upgrade[2]) == ["GET HTTP/1.1  websocket", "GET HTTP/1.1 0 websocket"]


def test_maps_have_no_regular_expressions() -> None:
    for content in re.findall(r"^(?:map|geo) [^{]*\{(.*?)^\}", site(**ALL), re.MULTILINE | re.DOTALL):
        assert "~" not in content
