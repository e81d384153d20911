"""One host's Redis that several inventories share: their records and clashes.

Each inventory (an owner) leaves one record on the host, /etc/redis_server/<owner>.json. An instance that disappears from an
inventory stays in its owner's record until it is removed by name.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.django_asgi.site.plugins.module_utils.redis_server import described, instances

RECORD_FORMAT = 1


def record(values: dict[str, Any], former: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the record of one inventory.

    In: ``values``, the role's variables without prefix, validated; ``former``, the owner's record on the host, if any.
    Out: the record; instances that only ``former`` has stay in it with ``listed: false``.
    """
    instances = {
        entry["name"]: {"flavour": values["flavour"], "port": int(entry["port"]), "listed": True} for entry in values["instances"]
    }
    for name, entry in (former or {}).get("instances", {}).items():
        instances.setdefault(name, {**entry, "listed": False})
    return {
        "format": RECORD_FORMAT,
        "owner": values["owner"],
        "stock_instance": values["stock_instance_enabled"],
        "instances": instances,
    }


def read(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return the records on the host by owner; ``texts`` are the files' contents."""
    return {found["owner"]: found for found in map(json.loads, texts)}


def leftovers(mine: dict[str, Any]) -> list[str]:
    """Return the names of this owner's instances that its inventory no longer lists."""
    return [name for name, entry in mine.get("instances", {}).items() if not entry["listed"]]


def moved(mine: dict[str, Any], former: dict[str, Any]) -> list[dict[str, str]]:
    """Return the instances whose flavour in the inventory has changed, each with its name and its former flavour."""
    return [
        {"name": name, "flavour": entry["flavour"]}
        for name, entry in former.get("instances", {}).items()
        if entry["flavour"] != mine["instances"][name]["flavour"]
    ]


def clashes(mine: dict[str, Any], records: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for every instance of ``mine`` whose name or port another instance on the host has."""
    faults = []
    listed = {name: entry for name, entry in mine["instances"].items() if entry["listed"]}
    for owner, other in {**records, mine["owner"]: mine}.items():
        for name, entry in listed.items():
            for taken, theirs in other["instances"].items():
                whose = f'instance "{taken}" of the inventory of "{owner}"'
                if owner == mine["owner"]:
                    whose = f'instance "{taken}", which this inventory no longer lists and which still runs'
                    if theirs["listed"]:
                        continue
                elif taken == name and theirs["flavour"] == entry["flavour"]:
                    faults.append(f"redis_server_instances: {name}: the name belongs to {whose}; choose another")
                if entry["port"] and theirs["port"] == entry["port"]:
                    faults.append(f"redis_server_instances: {name}: port {entry['port']} belongs to {whose}; choose another")
    return faults


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        functions = [record, read, leftovers, moved, clashes, instances, described]
        return {f"redis_server_{function.__name__}": function for function in functions}
