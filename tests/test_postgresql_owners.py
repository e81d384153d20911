"""Several inventories on one PostgreSQL server: what each has, what they share, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).resolve().parents[1] / "plugins/filter/postgresql_server.py"
specification = importlib.util.spec_from_file_location("postgresql_server_filters", PLUGIN)
filters = importlib.util.module_from_spec(specification)
specification.loader.exec_module(filters)

VALUES: dict[str, Any] = {
    "owner": "shop",
    "port": "5432",
    "version": "",
    "tls_enabled": True,
    "tls_certificate": "",
    "tls_key": "",
    "listen_addresses": ["localhost", "10.0.0.5"],
    "allowed_addresses": ["10.0.0.11"],
    "memory_mb": 1024,
    "max_connections": "100",
    "settings": {"jit": False},
    "databases": [{"name": "shop"}, {"name": "reports", "owner": "clerk"}],
    "roles": [{"name": "shop", "password": "a secret of the shop's"}],
}
BLOG = {
    **VALUES,
    "owner": "blog",
    "listen_addresses": [],
    "memory_mb": 512,
    "max_connections": 40,
    "settings": {"work_mem": "8MB"},
    "databases": [{"name": "blog"}],
    "roles": [{"name": "blog"}],
}


def both(**changes: Any) -> dict[str, Any]:
    """Return the records of shop and of blog, the latter with `changes`."""
    return filters.everyone({"shop": filters.record(VALUES)}, "blog", filters.record({**BLOG, **changes}))


def test_the_record_holds_no_password() -> None:
    text = json.dumps(filters.record(VALUES))
    assert "secret" not in text
    assert filters.read([text]) == {"shop": filters.record(VALUES)}


def test_each_owners_rules_stay_whoever_runs() -> None:
    rules = dict(filters.access_rules(both()))
    assert list(rules) == ["blog", "shop"]
    assert rules["blog"] == ['local "blog" "blog" peer']
    assert rules["shop"] == dict(filters.access_rules({"shop": filters.record(VALUES)}))["shop"]
    assert 'hostssl "shop" "shop" 10.0.0.11/32 scram-sha-256' in rules["shop"]


def test_what_a_server_has_once_is_composed_of_all_owners() -> None:
    composed = filters.compose(both(), 8192)
    assert composed["port"] == 5432
    assert composed["memory_mb"] == 1536
    assert composed["max_connections"] == 140
    assert composed["listen_addresses"] == ["localhost", "10.0.0.5"]
    assert composed["settings"] == {"jit": False, "work_mem": "8MB"}
    assert composed["tls"] is True


@pytest.mark.parametrize(("memory", "expected"), [(0, 8192), (100_000, 8192), (512, 1536)])
def test_memory_adds_up_to_no_more_than_the_host_has(memory: int, expected: int) -> None:
    assert filters.compose(both(memory_mb=memory), 8192)["memory_mb"] == expected


def test_a_certificate_of_one_owner_is_everybodys() -> None:
    composed = filters.compose(both(tls_certificate="/etc/ssl/db.crt", tls_key="/etc/ssl/db.key"), 8192)
    assert (composed["certificate"], composed["key"]) == ("/etc/ssl/db.crt", "/etc/ssl/db.key")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"databases": [{"name": "shop"}]}, 'postgresql_server_databases: database "shop" belongs to the inventory of "shop"'),
        ({"roles": [{"name": "clerk"}]}, 'postgresql_server_roles: role "clerk" belongs to the inventory of "shop"'),
        ({"databases": [{"name": "more", "owner": "clerk"}]}, 'role "clerk" belongs to the inventory of "shop"'),
        ({"port": 5433}, 'postgresql_server_port: "5433" is not what the inventory of "shop" has set, "5432"'),
        ({"settings": {"jit": True}}, 'postgresql_server_settings: jit: "True" is not what the inventory of "shop" has set'),
    ],
)
def test_a_clash_names_the_variable_and_the_owner(changes: dict[str, Any], expected: str) -> None:
    faults = filters.clashes(filters.record({**BLOG, **changes}), {"shop": filters.record(VALUES)})
    assert any(fault.startswith(expected) or expected in fault for fault in faults), faults


def test_nobody_clashes_with_themselves_or_with_what_is_the_same() -> None:
    records = {"shop": filters.record(VALUES)}
    assert filters.clashes(filters.record(VALUES), records) == []
    assert filters.clashes(filters.record({**BLOG, "settings": {"jit": False}}), records) == []


def test_what_an_inventory_no_longer_lists_stays_and_is_reported() -> None:
    former = filters.record(VALUES)
    shorter = {**VALUES, "databases": [{"name": "shop"}], "roles": []}
    mine = filters.record(shorter, former)
    assert filters.leftovers(mine) == [{"kind": "database", "name": "reports"}, {"kind": "role", "name": "clerk"}]
    assert 'local "reports" "clerk" peer' in dict(filters.access_rules({"shop": mine}))["shop"]
    assert filters.leftovers(filters.record(VALUES, mine)) == []


def test_what_is_removed_by_name_is_gone_from_the_record() -> None:
    mine = filters.record({**VALUES, "databases": [{"name": "shop"}]}, filters.record(VALUES))
    mine = filters.without(filters.without(mine, "database", "reports"), "role", "clerk")
    assert filters.leftovers(mine) == []
    assert "reports" not in json.dumps(mine)


def test_an_owner_who_leaves_takes_its_rules_and_no_others() -> None:
    rest = filters.everyone(both(), "blog", {})
    assert list(rest) == ["shop"]
    assert filters.compose(rest, 8192)["max_connections"] == 100
