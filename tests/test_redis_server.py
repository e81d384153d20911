"""The role redis_server without a host: the text of its file, and what it exports to the app."""

from __future__ import annotations

from typing import Any

from rendering import argument_specs, defaults, evaluate, render

ROLE = "redis_server"
PASSWORD = 'pass word/"\\+%@:?#'
CACHE: dict[str, Any] = {"name": "cache", "port": 6379, "password": PASSWORD, "policy": "allkeys-lru", "persistence": "none"}


def config(entry: dict[str, Any], **variables: Any) -> list[str]:
    """Return the lines of an instance's file."""
    return render(ROLE, "redis.conf.j2", item=entry["name"], redis_server_instances=[entry], **variables).splitlines()


def test_specs_and_defaults_name_the_same_variables_with_the_same_values() -> None:
    specs, values = argument_specs(ROLE), defaults(ROLE)
    assert {name: spec["default"] for name, spec in specs.items() if "default" in spec} == values
    assert {name for name, spec in specs.items() if not spec.get("required")} == set(values)
    assert all(spec["description"] for spec in specs.values())
    assert argument_specs(ROLE, "validate") == argument_specs(ROLE, "export") == specs


def test_the_file_holds_a_digest_and_not_the_password() -> None:
    lines = config(CACHE)
    assert PASSWORD not in "\n".join(lines)
    assert any(line.startswith("user default on sanitize-payload ~* &* +@all #") for line in lines)
    assert {"port 6379", "maxmemory-policy allkeys-lru", 'save ""', "appendonly no", "protected-mode yes"} <= set(lines)


def test_persistence_tls_and_settings_reach_the_file() -> None:
    assert {"appendonly yes", "appendfsync everysec", 'save ""'} <= set(config({**CACHE, "persistence": "aof"}))
    secure = config({**CACHE, "tls": True})
    assert {"port 0", "tls-port 6379", "tls-auth-clients no"} <= set(secure)
    own = config(
        {**CACHE, "settings": {"timeout": 5}}, redis_server_settings={"timeout": 3, "client-output-buffer-limit": ["a", "b"]}
    )
    assert {"timeout 5", "client-output-buffer-limit a", "client-output-buffer-limit b"} <= set(own)


def test_urls_hold_the_password_encoded() -> None:
    encoded = "pass%20word%2F%22%5C%2B%25%40%3A%3F%23"
    entries = [CACHE, {"name": "channels", "port": 6380, "password": PASSWORD, "tls": True}, {"name": "queue"}]
    urls = evaluate(ROLE, "__redis_server_urls", redis_server_instances=entries, redis_server_address="fd00::5")
    assert urls == {
        "cache": f"redis://:{encoded}@[fd00::5]:6379/0",
        "channels": f"rediss://:{encoded}@[fd00::5]:6380/0",
        "queue": "unix:///run/redis-queue/redis-server.sock?db=0",
    }


def test_celery_gets_a_socket_in_the_form_that_it_reads() -> None:
    entries = [CACHE, {"name": "queue", "password": "pass word/"}]
    given = {"redis_server_instances": entries, "redis_server_address": "10.0.0.5"}
    urls = evaluate(ROLE, "__redis_server_celery_urls", **given)
    assert urls["queue"] == "redis+socket://:pass%20word%2F@/run/redis-queue/redis-server.sock?virtual_host=0"
    assert urls["cache"] == evaluate(ROLE, "__redis_server_urls", **given)["cache"]
