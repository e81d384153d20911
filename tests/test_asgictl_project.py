"""What follows from a project's settings: where its paths have to lead, what ends a deploy, what an operator should know."""

from pathlib import Path

import pytest
from asgictl.project import Layout, Place, findings, place_of_failure, places

SOURCE, STATE = Path("/opt/shop/releases/.a/src"), Path("/var/lib/shop")
STATIC = Path("/opt/shop/releases/.a/static")
LAYOUT = Layout(SOURCE, SOURCE / "backend", STATIC, STATE, (Path("/srv/shop"),))
LOCAL, REMOTE = {"local": True}, {"local": False}
FACTS = {
    "debug": False,
    "static_url": "/static/",
    "static_root": str(STATIC),
    "static_storage": LOCAL,
    "media_url": "/media/",
    "media_root": str(STATE / "media"),
    "default_storage": LOCAL,
    "databases": {"default": {"file": "", "persistent": False}},
    "channel_layers": {},
    "caches": {},
    "log_files": [],
    "allowed_hosts": ["shop.example.org"],
    "ssl_redirect": False,
    "proxy_ssl_header": False,
}
MANIFEST = {"worker_count": 2, "health_host": "shop.example.org", "health_scheme": "http"}
ORDER = {"static_url": "/static/", "media_url": "/media/", "collectstatic": True, "edge_names": []}


def led(shared: tuple[str, ...] = (), **changes: object) -> dict[str, str]:
    """Where the places lead, by their path in the source; the project could work."""
    found, faults = places(FACTS | changes, LAYOUT, list(shared))
    assert faults == []
    return {str(place.path.relative_to(SOURCE)): str(place.target) for place in found}


def refused(**changes: object) -> str:
    """The one sentence with which the project is refused."""
    (fault,) = [one for one in places(FACTS | changes, LAYOUT, [])[1] if one.fatal]
    return fault.text


def reported(manifest: dict | None = None, order: dict | None = None, **changes: object) -> str:
    """All that is found, a line each; what ends the deploy begins with FATAL."""
    found = findings(FACTS | changes, MANIFEST | (manifest or {}), ORDER | (order or {}))
    return "\n".join(f"{'FATAL: ' * one.fatal}{one.text}" for one in found)


def test_a_project_that_reads_the_roles_variables_needs_nothing() -> None:
    assert led() == {}
    assert reported() == ""


def test_paths_in_the_source_lead_to_where_they_belong() -> None:
    database = {"file": str(SOURCE / "backend/db.sqlite3"), "persistent": False}
    assert led(
        static_root=str(SOURCE / "backend/staticfiles"),
        media_root=str(SOURCE / "uploads"),
        databases={"default": database},
        log_files=[str(SOURCE / "backend/logs/debug.log")],
        shared=("backend/private",),
    ) == {
        "backend/staticfiles": str(STATIC),
        "uploads": "/var/lib/shop/media",
        "backend/db.sqlite3": "/var/lib/shop/db.sqlite3",
        "backend/logs/debug.log": "/var/lib/shop/logs/debug.log",
        "backend/private": "/var/lib/shop/private",
    }


def test_a_path_in_another_one_goes_with_it() -> None:
    assert led(media_root=str(SOURCE / "data"), log_files=[str(SOURCE / "data/app.log")]) == {"data": "/var/lib/shop/media"}


def test_what_the_app_may_write_to_stays_where_it_is() -> None:
    assert led(media_root="/srv/shop/media", log_files=["/var/lib/shop/app.log"]) == {}


@pytest.mark.parametrize("name", ["static", "media"])
def test_remote_storage_needs_no_place(name: str) -> None:
    storage = {"static": "static_storage", "media": "default_storage"}[name]
    assert led(**{f"{name}_root": "/elsewhere", storage: REMOTE}) == {}


def test_a_place_that_is_neither_served_nor_writable_is_refused_with_the_line_to_write() -> None:
    assert refused(static_root="/var/www/static") == (
        "STATIC_ROOT of the project is /var/www/static, where the edge does not look. Write into the settings: "
        'STATIC_ROOT = os.environ.get("STATIC_ROOT", BASE_DIR / "static_root").'
    )
    assert "add /var/www/media to django_asgi_writable_paths" in refused(media_root="/var/www/media")
    database = {"main": {"file": "/data/shop.db", "persistent": False}}
    assert "NAME of the database main of the project is /data/shop.db" in refused(databases=database)
    assert "add /var/log to django_asgi_writable_paths" in refused(log_files=["/var/log/shop.log"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("backend/logs", Place(SOURCE / "backend/logs", STATE / "logs")),
        ("backend/debug.log", Place(SOURCE / "backend/debug.log", STATE / "debug.log", is_file=True)),
    ],
)
def test_what_settings_could_not_make_leads_to_the_apps_own_directory(path: str, expected: Place, tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path / "backend", STATIC, STATE)
    (tmp_path / "backend").mkdir()
    assert place_of_failure(tmp_path / path, layout) == Place(
        tmp_path / expected.path.relative_to(SOURCE), expected.target, expected.is_file
    )


def test_a_log_in_a_directory_that_is_missing_takes_the_directory_along(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path, STATIC, STATE)
    assert place_of_failure(tmp_path / "logs/web/debug.log", layout) == Place(tmp_path / "logs", STATE / "logs")


def test_a_failure_elsewhere_is_the_projects_own() -> None:
    assert place_of_failure(Path("/etc/shop.ini"), LAYOUT) is None


@pytest.mark.parametrize(
    ("changes", "order", "expected"),
    [
        (
            {"static_url": "/assets/"},
            {},
            "FATAL: STATIC_URL of the project is /assets/, but the edge serves these files at /static/",
        ),
        ({"media_url": "/up/"}, {}, "FATAL: MEDIA_URL of the project is /up/"),
        ({"static_url": "https://cdn.example.org/"}, {}, ""),
        ({"static_url": "/assets/"}, {"collectstatic": False}, ""),
        ({"static_url": "/assets/", "static_storage": REMOTE}, {}, ""),
        ({"media_url": "/up/"}, {"media_url": ""}, "MEDIA_URL of the project is /up/, but the edge serves no uploads"),
        ({"media_url": "/"}, {"media_url": ""}, ""),
    ],
)
def test_files_have_to_be_at_the_url_that_the_edge_serves(changes: dict, order: dict, expected: str) -> None:
    found = reported(order=order, **changes)
    assert found.startswith(expected) if expected else found == ""


def test_below_a_prefix_the_inventory_has_addresses_without_it() -> None:
    below = {"path_prefix": "/shop"}
    assert reported(below, static_url="/shop/static/", media_url="/shop/media/") == ""
    found = reported(below, static_url="/shop/assets/", media_url="/shop/media/")
    assert found.startswith("FATAL: STATIC_URL of the project is /assets/, but the edge serves these files at /static/")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"debug": True}, "DEBUG is on"),
        ({"databases": {"default": {"file": "", "persistent": True}}}, "CONN_MAX_AGE of the database default is not 0"),
        ({"channel_layers": {"default": "channels.layers.InMemoryChannelLayer"}}, "The channel layer default is in memory"),
        ({"caches": {"default": "django.core.cache.backends.locmem.LocMemCache"}}, "The cache default is in memory"),
        ({"allowed_hosts": ["www.example.org"]}, "ALLOWED_HOSTS has no shop.example.org"),
        ({"ssl_redirect": True}, "SECURE_SSL_REDIRECT is on without SECURE_PROXY_SSL_HEADER"),
    ],
)
def test_what_will_not_work_well_is_told(changes: dict, expected: str) -> None:
    assert reported(**changes).startswith(expected)


@pytest.mark.parametrize(
    ("changes", "manifest"),
    [
        ({"channel_layers": {"default": "channels_redis.core.RedisChannelLayer"}}, {}),
        ({"channel_layers": {"default": "channels.layers.InMemoryChannelLayer"}}, {"worker_count": 1}),
        ({"allowed_hosts": ["*"]}, {}),
        ({"allowed_hosts": [".example.org"]}, {}),
        ({"ssl_redirect": True, "proxy_ssl_header": True}, {}),
        ({"ssl_redirect": True}, {"health_scheme": "https"}),
    ],
)
def test_what_works_is_not_mentioned(changes: dict, manifest: dict) -> None:
    assert reported(manifest=manifest, **changes) == ""


@pytest.mark.parametrize(
    ("allowed", "name", "missing"),
    [
        (["shop.example.org"], "shop.example.org", False),
        (["shop.example.org"], "www.example.org", True),
        (["shop.example.org", ".example.org"], "*.example.org", False),
        (["shop.example.org", "[::1]"], "[::1]", False),
        (["*"], "anything.test", False),
        (["shop.example.org", ".example.org"], "example.org", False),
        (["shop.example.org", ".example.org"], "badexample.org", True),
    ],
)
def test_every_name_of_the_site_should_be_allowed(allowed: list[str], name: str, missing: bool) -> None:
    found = reported(order={"edge_names": [name]}, allowed_hosts=allowed)
    assert (f"ALLOWED_HOSTS has no {name}, which nginx_site_server_names has" in found) == missing
