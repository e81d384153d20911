"""The role postgresql_server without a host: the text of its files, and what it exports to the app."""

from __future__ import annotations

import base64
from typing import Any

from rendering import argument_specs, defaults, evaluate, render

ROLE = "postgresql_server"
PASSWORD = "pass word/'+%@:?#"
REQUIRED: dict[str, Any] = {
    "postgresql_server_owner": "shop",
    "postgresql_server_databases": [{"name": "shop", "extensions": ["pg_trgm"]}, {"name": "my-shop", "owner": "clerk"}],
    "postgresql_server_roles": [{"name": "shop", "password": PASSWORD}],
}
NETWORK: dict[str, Any] = {
    "postgresql_server_listen_addresses": ["localhost", "10.0.0.5"],
    "postgresql_server_allowed_addresses": ["10.0.0.11", "10.1.0.0/16", "fd00::1"],
}
HOST: dict[str, Any] = {
    "__postgresql_server_clusters": {
        "stdout": "15 main 5432 down postgres /x /y\n17 main 5433 online postgres /x /y\n17 other 5 online x"
    },
    # No inventory has a record yet.
    "__postgresql_server_record_texts": {"results": []},
    "__postgresql_server_meminfo": {"content": base64.b64encode(b"MemTotal:        8388608 kB\nMemFree: 1 kB\n").decode()},
    "inventory_hostname": "db1",
}


def hba(**variables: Any) -> list[str]:
    """Return the access rules, without comments."""
    lines = render(ROLE, "pg_hba.conf.j2", **{**REQUIRED, **HOST, **variables}).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def settings(**variables: Any) -> list[str]:
    """Return the lines of the settings file."""
    return render(ROLE, "settings.conf.j2", **{**REQUIRED, **HOST, **variables}).splitlines()


def test_specs_and_defaults_name_the_same_variables_with_the_same_values() -> None:
    specs, values = argument_specs(ROLE), defaults(ROLE)
    assert {name: spec["default"] for name, spec in specs.items() if "default" in spec} == values
    assert {name for name, spec in specs.items() if not spec.get("required")} == set(values)
    assert all(spec["description"] for spec in specs.values())
    assert argument_specs(ROLE, "validate") == argument_specs(ROLE, "export") == specs


def test_only_the_listed_get_in() -> None:
    assert hba() == ["local all postgres peer", 'local "my-shop" "clerk" peer', 'local "shop" "shop" scram-sha-256']
    network = [line for line in hba(**NETWORK) if not line.startswith("local")]
    assert network == [
        'host "shop" "shop" 127.0.0.1/32 scram-sha-256',
        'host "shop" "shop" ::1/128 scram-sha-256',
        'hostssl "shop" "shop" 10.0.0.11/32 scram-sha-256',
        'hostssl "shop" "shop" 10.1.0.0/16 scram-sha-256',
        'hostssl "shop" "shop" fd00::1/128 scram-sha-256',
    ]
    assert not any("hostssl" in line for line in hba(**NETWORK, postgresql_server_tls_enabled="no"))


def test_a_role_may_have_more_databases_and_its_own_addresses() -> None:
    role = {"name": "report", "password": PASSWORD, "databases": ["shop", "my-shop"], "addresses": ["10.9.9.9"]}
    lines = hba(**{**NETWORK, "postgresql_server_roles": [role]})
    assert 'hostssl "shop","my-shop" "report" 10.9.9.9/32 scram-sha-256' in lines
    assert not any("10.0.0.11" in line for line in lines)


def test_settings_are_sized_from_memory_and_can_be_overridden() -> None:
    assert {"shared_buffers = '2048MB'", "effective_cache_size = '6144MB'", "max_connections = 100", "ssl = on"} <= set(
        settings()
    )
    assert "work_mem = '15MB'" in settings()
    small = settings(postgresql_server_memory_mb="256", postgresql_server_max_connections="200")
    assert {"shared_buffers = '64MB'", "work_mem = '2MB'", "max_connections = 200"} <= set(small)
    own = settings(postgresql_server_settings={"shared_buffers": "1GB", "jit": False, "log_line_prefix": "it's \\ "})
    assert {"shared_buffers = '1GB'", "jit = off", "log_line_prefix = 'it''s \\\\ '"} <= set(own)
    assert "ssl = off" in settings(postgresql_server_tls_enabled=False)


def test_the_newest_cluster_called_main_is_taken_unless_a_version_is_asked_for() -> None:
    assert str(evaluate(ROLE, "__postgresql_server_found_version", **REQUIRED, **HOST)) == "17"
    assert str(evaluate(ROLE, "__postgresql_server_found_version", **REQUIRED, **HOST, postgresql_server_version="15")) == "15"
    assert evaluate(ROLE, "__postgresql_server_present", **REQUIRED, __postgresql_server_clusters={"rc": 2}) is False


def test_urls_name_the_owner_and_its_password_encoded() -> None:
    encoded = "pass%20word%2F%27%2B%25%40%3A%3F%23"
    assert evaluate(ROLE, "__postgresql_server_urls", **REQUIRED) == {
        "shop": f"postgresql://shop:{encoded}@/shop?host=/var/run/postgresql",
        "my-shop": "postgresql://clerk@/my-shop?host=/var/run/postgresql",
    }
    other_port = evaluate(ROLE, "__postgresql_server_urls", **REQUIRED, postgresql_server_port=5433)
    assert other_port["my-shop"] == "postgresql://clerk@/my-shop?host=/var/run/postgresql&port=5433"
    over_tcp = evaluate(ROLE, "__postgresql_server_urls", **REQUIRED, **NETWORK, postgresql_server_address="fd00::5")
    assert over_tcp["shop"] == f"postgresql://shop:{encoded}@[fd00::5]:5432/shop?sslmode=require"


def test_the_certificate_names_every_address() -> None:
    names = evaluate(
        ROLE, "__postgresql_server_certificate_names", **REQUIRED, **HOST, **NETWORK, postgresql_server_address="db.example.org"
    )
    assert names == "DNS:db1,DNS:db.example.org,DNS:localhost,IP:10.0.0.5"
