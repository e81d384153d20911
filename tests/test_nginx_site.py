"""The role nginx_site without a host: its templates and its plan for a host's configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rendering import argument_specs, defaults, evaluate, render

ROLE = "nginx_site"
REQUIRED: dict[str, Any] = {
    "nginx_site_name": "my-shop",
    "nginx_site_server_names": ["shop.example.org", "*.example.org", "[::1]"],
    "nginx_site_upstream_socket": "/opt/my-shop/live/socket",
}
DIRECTORIES = ["/opt/my-shop/live/static/", "/opt/my-shop/static-pool"]
STOCK_DEFAULT = "server {\n\tlisten 80 default_server;\n\tlisten [::]:80 default_server;\n}\n"
OURS = "# nginx_site: Debian's own file\nworker_rlimit_nofile 40000;\nevents {\n    worker_connections 20000;\n}\n"


def site(**variables: Any) -> str:
    """Return the site file for the required variables and ``variables``."""
    return render(ROLE, "site.conf.j2", **REQUIRED, **variables)


def nginx_of(configuration: str = "", **changes: Any) -> dict[str, Any]:
    """Return what nginx_site_info reports of a host with nginx."""
    facts = {"present": True, "broken": "", "configuration": configuration, "build": "", "from_debian": True}
    return {"nginx": {**facts, "changed_files": "", "stock_link": "", **changes}}


def on_host(expression: str, files: dict[str, str], changed: str = "", **variables: Any) -> Any:
    """Evaluate ``expression`` for a host with these configuration ``files``, those in ``changed`` edited on the host."""
    dump = "".join(f"# configuration file {path}:\n{text}\n" for path, text in files.items())
    stock = "/etc/nginx/sites-available/default" if "/etc/nginx/sites-enabled/default" in files else ""
    nginx = nginx_of(dump, changed_files=changed, stock_link=stock, from_debian=variables.pop("from_debian", True))
    return evaluate(ROLE, expression, **{**REQUIRED, "__nginx_site_host": nginx, **variables})


def block(text: str, head: str) -> str:
    """Return the block of ``text`` that starts with ``head`` and ends at a brace of the same depth."""
    start = text.index(head + " {")
    indent = re.search(r"[ ]*$", text[:start]).group()
    return text[start : text.index(f"\n{indent}}}", start)]


def test_specs_and_defaults_name_the_same_variables_with_the_same_values() -> None:
    specs, values = argument_specs(ROLE), defaults(ROLE)
    assert {name for name, spec in specs.items() if not spec.get("required")} == set(values)
    assert {name: spec["default"] for name, spec in specs.items() if "default" in spec} == values
    assert all(spec["description"] for spec in specs.values())
    assert argument_specs(ROLE, "validate") == specs


def test_upstream_follows_the_link_and_its_connections_live_a_second() -> None:
    upstream = block(site(), "upstream my_shop_application")
    assert "server unix:/opt/my-shop/live/socket max_fails=0;" in upstream
    assert "keepalive 32;" in upstream
    assert "keepalive_time 1s;" in upstream
    assert "keepalive_timeout 1s;" in upstream
    assert "proxy_http_version 1.1;" in site()
    assert "non_idempotent" not in site()


def test_upgrade_map_keeps_upstream_connections() -> None:
    text = site()
    assert re.search(r'map \$my_shop_upgrade \$my_shop_connection \{\s+default "";\s+websocket upgrade;', text)
    assert "close" not in re.sub("#.*", "", text)
    assert "return 418;" in block(text, "location /")
    websocket = block(site(nginx_site_websocket_timeout="2h"), "location @my_shop_websocket")
    assert "proxy_read_timeout 2h;" in websocket


@pytest.mark.parametrize(
    "header",
    [
        "Host $my_shop_host",
        "X-Forwarded-Host $my_shop_host",
        "X-Forwarded-For $remote_addr",
        "X-Forwarded-Proto $scheme",
        "X-Real-IP $remote_addr",
        'Forwarded ""',
        'X-Forwarded-Port ""',
        'X-Forwarded-Prefix ""',
    ],
)
def test_forwarded_headers_are_overwritten_once_for_every_location(header: str) -> None:
    text = site(nginx_site_static_directories=DIRECTORIES)
    assert text.count(f"    proxy_set_header {header};") == 1
    # A proxy_set_header inside a location would drop all of the server's.
    assert "        proxy_set_header" not in text
    assert "proxy_add_x_forwarded_for" not in text
    assert "proxy_hide_header X-Worker;" in text


def test_static_directories_are_tried_in_order_and_only_hashed_names_are_immutable() -> None:
    text = site(nginx_site_static_directories=DIRECTORIES)
    first, second = block(text, "location ^~ /static/"), block(text, "location @my_shop_static_1")
    assert "root /opt/my-shop/live/static;" in first
    assert "error_page 404 = @my_shop_static_1;" in first
    assert "root /opt/my-shop/static-pool;" in second
    assert "try_files $my_shop_file =404;" in second
    assert "open_file_cache_valid 1s;" in first
    assert "gzip_static on;" in first
    assert text.count("immutable") == 1


@pytest.mark.parametrize(
    ("path", "immutable"),
    [
        ("/static/css/site.0123456789ab.css", True),
        ("/static/app.js.0123456789ab.map", True),
        ("/static/LICENSE.0123456789ab", True),
        ("/static/assets/index-BxYz12_a.js", True),
        ("/static/site.css", False),
        ("/static/site.0123456789xy.css", False),
        ("/static/assets/jquery-language.js", False),
        ("/static/0123456789ab/site.css", False),
        ("/staticsite.0123456789ab.css", False),
    ],
)
def test_which_names_count_as_hashed(path: str, immutable: bool) -> None:
    text = site(nginx_site_static_directories=DIRECTORIES)
    pattern = re.search(r'location ~ "(.*)" \{\n\s+set \$my_shop_cache "public, max-age=31536000', text).group(1)
    assert bool(re.search(pattern.replace("(?<my", "(?P<my"), path)) is immutable


def test_a_websocket_takes_no_pooled_connection() -> None:
    assert "keepalive" not in block(site(), "upstream my_shop_websocket")
    assert "proxy_pass http://my_shop_websocket;" in block(site(), "location @my_shop_websocket")


def test_without_directories_the_application_is_asked() -> None:
    assert "location ^~" not in site()
    assert "alias" not in site()


def test_uploads_are_downloads_unless_harmless() -> None:
    media = block(site(nginx_site_media_directory="/var/lib/my-shop/media/"), "location ^~ /media/")
    assert "alias /var/lib/my-shop/media/;" in media
    assert "default_type application/octet-stream;" in media
    assert "html" not in media
    assert "svg" not in media
    assert "nosniff" in media
    assert "disable_symlinks if_not_owner" in media


def test_limits_reach_every_proxied_location_and_can_be_off() -> None:
    text = site(nginx_site_max_connections=2000, nginx_site_max_connections_per_address=50)
    assert re.findall("limit_conn .*;", block(text, "location /")) == [
        "limit_conn my_shop_address 50;",
        "limit_conn my_shop_total 2000;",
    ]
    for head in ("location @my_shop_websocket", "location @my_shop_events"):
        assert re.findall("limit_conn .*;", block(text, head)) == [
            "limit_conn my_shop_long_address 50;",
            "limit_conn my_shop_long 1800;",
        ]
    assert "return 429;" in text
    assert "limit_conn" not in site(nginx_site_max_connections=0, nginx_site_max_connections_per_address=0)


def test_event_streams_are_not_compressed_and_compression_can_be_off() -> None:
    assert "event-stream" not in block(site(), "server").split("gzip_types", 1)[1].split(";", 1)[0]
    assert site().count("proxy_buffering off") == block(site(), "location @my_shop_events").count("proxy_buffering off") == 1
    assert "gzip off;" in site(nginx_site_gzip_enabled="no")
    assert "gzip_static" not in site(nginx_site_gzip_enabled=False, nginx_site_static_directories=DIRECTORIES)


@pytest.mark.parametrize("head", ["location /", "location @my_shop_websocket", "location @my_shop_events"])
def test_what_the_application_answers_is_compressed_only_where_asked_for(head: str) -> None:
    assert "gzip off;" in block(site(), head)
    asked = block(site(nginx_site_gzip_pages_enabled=True), head)
    assert ("gzip off;" in asked) == (head == "location @my_shop_events"), "a stream would wait for enough to compress"
    static = block(site(nginx_site_static_directories=DIRECTORIES), "location ^~ /static/")
    assert "gzip off;" not in static


def test_what_is_asked_for_brings_its_packages() -> None:
    wanted = {"nginx_site_tls": "acme", "nginx_site_brotli_enabled": True, "nginx_site_package": "nginx-light"}
    expected = ["nginx-light", "openssl", "certbot", "logrotate", "brotli", "libnginx-mod-http-brotli-static"]
    assert evaluate(ROLE, "__nginx_site_packages", **{**REQUIRED, **wanted}) == expected


def test_two_sites_share_no_name() -> None:
    names = re.compile(r"zone=(\w+)|^upstream (\w+)|^map \$\w+ (\$\w+)|location (@\w+)|set (\$\w+)", re.MULTILINE)
    other = render(ROLE, "site.conf.j2", **{**REQUIRED, "nginx_site_name": "shop"})
    assert not set(names.findall(site())) & set(names.findall(other))


def test_address_family_and_port() -> None:
    assert "listen [::]:8080;" in site(nginx_site_listen=8080)
    assert "[::]:" not in site(nginx_site_ipv6_enabled=False)


def test_catch_all_takes_both_addresses_of_a_fresh_host() -> None:
    files = {"/etc/nginx/nginx.conf": "", "/etc/nginx/sites-enabled/default": STOCK_DEFAULT}
    assert on_host("__nginx_site_plan.stock_unwanted", files) is True
    assert on_host("__nginx_site_plan.catch_all.addresses", files) == ["80", "[::]:80"]


def test_edited_welcome_page_stays_and_keeps_its_default_server() -> None:
    files = {"/etc/nginx/sites-enabled/default": STOCK_DEFAULT}
    changed = "??5?????? c /etc/nginx/sites-available/default\n"
    assert on_host("__nginx_site_plan.stock_unwanted", files, changed) is False
    assert on_host("__nginx_site_plan.catch_all.addresses", files, changed) == []
    assert on_host("__nginx_site_plan.catch_all.wanted", files, changed) is False


@pytest.mark.parametrize(
    ("listen", "left"),
    [
        ("80 default_server", ["[::]:80"]),
        ("*:80 default_server", ["[::]:80"]),
        ("0.0.0.0:80 backlog=5 default", ["[::]:80"]),
        ("[::]:80 ipv6only=on default_server", ["80"]),
        ("127.0.0.1:80 default_server", ["80", "[::]:80"]),
        ("8080 default_server", ["80", "[::]:80"]),
        ("80", ["80", "[::]:80"]),
        ("80; # default_server", ["80", "[::]:80"]),
    ],
)
def test_another_default_server_is_left_alone(listen: str, left: list[str]) -> None:
    files = {"/etc/nginx/conf.d/own.conf": f"server {{ listen {listen}; }}"}
    assert on_host("__nginx_site_plan.catch_all.addresses", files) == left


def test_catch_all_belongs_to_the_site_that_wrote_it_while_that_is_there() -> None:
    catch_all = {"/etc/nginx/sites-enabled/nginx_site-catch-all-80.conf": "# Kept by site: first\n" + STOCK_DEFAULT}
    first = {"/etc/nginx/sites-enabled/first.conf": "# nginx_site: first\n"}
    assert on_host("__nginx_site_plan.catch_all.is_mine", {**catch_all, **first}) is False
    assert on_host("__nginx_site_plan.catch_all.is_mine", catch_all) is True
    assert on_host("__nginx_site_plan.catch_all.addresses", {**catch_all, **first}) == ["80", "[::]:80"]


def test_catch_all_of_a_former_port_goes() -> None:
    link = "/etc/nginx/sites-enabled/nginx_site-catch-all-8080.conf"
    assert on_host("__nginx_site_plan.catch_alls_unwanted", {link: "# Kept by site: my-shop\n"}) == [link]
    others = {link: "# Kept by site: my-shop\n", "/etc/nginx/sites-enabled/b.conf": "# nginx_site: b\n"}
    assert on_host("__nginx_site_plan.catch_alls_unwanted", others) == []


def test_main_config_is_replaced_only_if_untouched_or_ours() -> None:
    path = "/etc/nginx/nginx.conf"
    changed = f"??5?????? c {path}\n"
    wanted = "__nginx_site_plan.main_config_wanted"
    assert on_host(wanted, {path: "events {}"}) is True
    assert on_host(wanted, {path: "events {}"}, changed) is False
    assert on_host(wanted, {path: OURS}, changed) is True
    assert on_host(wanted, {path: OURS}, changed, nginx_site_main_config_enabled="no") is False
    assert on_host(wanted, {path: "events {}"}, from_debian=False) is False


def test_what_another_site_keeps_of_the_host_stays() -> None:
    keeping = site(nginx_site_main_config_enabled=False, nginx_site_stock_site_enabled=True)
    files = {
        "/etc/nginx/nginx.conf": "events {}",
        "/etc/nginx/sites-enabled/default": STOCK_DEFAULT,
        "/etc/nginx/sites-enabled/blog.conf": keeping,
    }
    assert on_host("__nginx_site_plan.main_config_wanted", files) is False
    assert on_host("__nginx_site_plan.stock_unwanted", files) is False
    alone = {**files, "/etc/nginx/sites-enabled/blog.conf": site()}
    assert on_host("__nginx_site_plan.main_config_wanted", alone) is True
    assert on_host("__nginx_site_plan.stock_unwanted", alone) is True


def test_highest_limit_wins_among_sites_and_the_last_one_decides_alone() -> None:
    alone = {"/etc/nginx/nginx.conf": OURS}
    shared = {**alone, "/etc/nginx/sites-enabled/b.conf": "# nginx_site: b\n"}
    assert on_host("__nginx_site_plan.worker_connections | int", alone) == 8192
    for_many = {"nginx_site_max_connections": 12000}
    # Two for each of 12000 requests and 10800 long connections, and 1024.
    assert on_host("__nginx_site_plan.worker_connections | int", alone, **for_many) == 46624
    assert on_host("__nginx_site_plan.worker_open_files | int", alone, **for_many) == 93248
    assert on_host("__nginx_site_plan.worker_connections | int", shared) == 20000
    assert on_host("__nginx_site_plan.worker_open_files | int", shared) == 40000


def test_the_main_config_has_room_for_all_sites_together() -> None:
    blog = site(nginx_site_max_connections=6000).replace("my-shop", "blog")
    files = {"/etc/nginx/nginx.conf": OURS, "/etc/nginx/sites-enabled/blog.conf": blog}
    own = {"nginx_site_max_connections": 4000, "nginx_site_max_long_connections": 100}
    assert on_host("__nginx_site_plan.worker_connections | int", files, **own) == 2 * (6000 + 5400 + 4000 + 100) + 1024
    # The site's own file, from its run before, doesn't count.
    again = {**files, "/etc/nginx/sites-enabled/my-shop.conf": site(**own)}
    assert on_host("__nginx_site_plan.worker_connections | int", again, **own) == 2 * (6000 + 5400 + 4000 + 100) + 1024


def test_a_main_config_that_stays_is_compared_with_what_the_sites_need() -> None:
    files = {"/etc/nginx/nginx.conf": "events {\n    worker_connections 768;\n}\n"}
    changed = {"changed": "/etc/nginx/nginx.conf", "nginx_site_max_connections": 1000}
    assert on_host("__nginx_site_plan.main_config_lacks", files, **changed) == [
        "worker_connections is 768; expected 4824",
        "worker_rlimit_nofile is 1024; expected 4824",
    ]
    files = {"/etc/nginx/nginx.conf": "worker_rlimit_nofile 9000;\nevents {\n    worker_connections 4824;\n}\n"}
    assert on_host("__nginx_site_plan.main_config_lacks", files, **changed) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"upstream_long_connections": 4000}, 3600),
        ({"max_connections": 2000}, 1800),
        ({"max_connections": 2000, "upstream_long_connections": 4000}, 3600),
        ({"max_connections": 2000, "max_long_connections": 7000}, 7000),
        ({"max_long_connections": 7000, "upstream_long_connections": 4000}, 4000),
        ({}, 0),
        ({"max_connections": 1}, 1),
    ],
)
def test_long_connections_fill_nine_tenths_unless_set_and_never_more_than_fit(given: dict[str, int], expected: int) -> None:
    variables = {f"nginx_site_{name}": value for name, value in given.items()}
    assert evaluate(ROLE, "__nginx_site_long_connections", **REQUIRED, **variables) == expected


def test_main_config_and_catch_all_text() -> None:
    found = {"__nginx_site_host": nginx_of()}
    text = render(ROLE, "nginx.conf.j2", **REQUIRED, **found)
    assert "worker_connections 8192;" in text
    assert "worker_rlimit_nofile 16384;" in text
    assert "worker_shutdown_timeout" not in text
    assert "worker_shutdown_timeout 10m;" in render(
        ROLE, "nginx.conf.j2", **REQUIRED, **found, nginx_site_worker_shutdown_timeout="10m"
    )
    assert "include /etc/nginx/sites-enabled/*;" in text
    catch_all = render(ROLE, "catch-all.conf.j2", **REQUIRED, **found)
    assert "listen 80 default_server;" in catch_all
    assert "client_header_timeout 10s;" in catch_all
    assert "return 444;" in catch_all
