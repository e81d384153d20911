"""The exporters of one host that several inventories share: their records, their clashes, and the composed settings.

Each inventory (an owner) leaves one record on the host, /etc/asgi-metrics/<owner>.json. The exporters are composed from all of
them, so that no owner's run can undo another's.
"""

from __future__ import annotations

import json
from typing import Any

RECORD_FORMAT = 1
# Settings that an exporter has only once, so all owners must set the same.
SAME = (
    "listen_address",
    "node_exporter_port",
    "node_exporter_arguments",
    "nginx_exporter_port",
    "nginx_status_port",
    "requests_port",
    "requests_buckets",
)


def record(values: dict[str, Any]) -> dict[str, Any]:
    """Return the record of one inventory; ``values`` are the role's variables without prefix, validated."""
    return {"format": RECORD_FORMAT, **values}


def read(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return the records on the host by owner; ``texts`` are the files' contents."""
    return {found["owner"]: found for found in map(json.loads, texts)}


def everyone(records: dict[str, dict[str, Any]], owner: str, mine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records as they will be, by owner and sorted by name; ``mine`` is empty for an owner that leaves."""
    others = {name: found for name, found in records.items() if name != owner}
    return dict(sorted((others | ({owner: mine} if mine else {})).items()))


def clashes(mine: dict[str, Any], records: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for every variable of ``mine`` that another owner of the host has set differently."""
    return [
        f'metrics_{name}: "{mine[name]}" is not what the inventory of "{owner}" has set on this host, "{other[name]}"; set the same'
        for owner, other in records.items()
        for name in SAME
        if owner != mine["owner"] and other[name] != mine[name]
    ]


def compose(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the composed settings: those in SAME, the allowed addresses, the enabled exporters, and the shortest interval."""
    owners = list(records.values())
    return {
        **{name: owners[0][name] for name in SAME if owners},
        "allowed_addresses": list(dict.fromkeys(address for owner in owners for address in owner["allowed_addresses"])),
        "nginx_exporter_enabled": any(owner["nginx_exporter_enabled"] for owner in owners),
        "requests_enabled": any(owner["requests_enabled"] for owner in owners),
        "interval_seconds": min((owner["interval_seconds"] for owner in owners), default=0),
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {f"metrics_{function.__name__}": function for function in (record, read, everyone, clashes, compose)}
