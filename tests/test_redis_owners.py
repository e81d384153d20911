"""Several inventories on one host's Redis: what each has, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).resolve().parents[1] / "plugins/filter/redis_server.py"
specification = importlib.util.spec_from_file_location("redis_server_filters", PLUGIN)
filters = importlib.util.module_from_spec(specification)
specification.loader.exec_module(filters)

CACHE = {"name": "cache", "port": "6379"}
QUEUE = {"name": "queue", "port": 0}


def record(owner: str, *instances: dict[str, Any], former: dict | None = None, **values: Any) -> dict[str, Any]:
    """Return an owner's record."""
    given = {"owner": owner, "flavour": "redis", "stock_instance_enabled": False, "instances": list(instances), **values}
    return filters.record(given, former)


@pytest.mark.parametrize(
    ("instance", "flavour", "expected"),
    [
        ({"name": "cache", "port": 7000}, "redis", ['cache: the name belongs to instance "cache" of the inventory of "shop"']),
        ({"name": "blog", "port": 6379}, "redis", ['blog: port 6379 belongs to instance "cache" of the inventory of "shop"']),
        ({"name": "cache", "port": 6379}, "valkey", ["cache: port 6379 belongs to instance"]),
        ({"name": "cache", "port": 0}, "valkey", []),
        ({"name": "blog", "port": 0}, "redis", []),
    ],
)
def test_a_name_or_a_port_of_another_inventory_is_refused(instance: dict, flavour: str, expected: list[str]) -> None:
    others = {"shop": record("shop", CACHE, QUEUE)}
    faults = filters.clashes(record("blog", instance, flavour=flavour), others)
    assert len(faults) == len(expected)
    for fault, words in zip(faults, expected, strict=True):
        assert words in fault


def test_an_instance_that_is_no_longer_listed_stays_and_keeps_its_port() -> None:
    former = record("shop", CACHE, QUEUE)
    mine = record("shop", QUEUE, former=former)
    assert filters.leftovers(mine) == ["cache"]
    assert filters.clashes(mine, {"shop": former}) == []
    renamed = record("shop", QUEUE, {"name": "pages", "port": 6379}, former=former)
    assert "which this inventory no longer lists and which still runs" in filters.clashes(renamed, {"shop": former})[0]


def test_an_instance_of_the_other_flavour_is_to_be_stopped_first() -> None:
    former = record("shop", CACHE, QUEUE)
    mine = record("shop", CACHE, former=former, flavour="valkey")
    assert filters.moved(mine, former) == [{"name": "cache", "flavour": "redis"}]
    assert filters.moved(record("shop", CACHE, former=former), former) == []
    assert filters.moved(record("shop", CACHE), {}) == []
