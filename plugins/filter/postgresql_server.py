"""One PostgreSQL server that several inventories share: their records, clashes, access rules and settings.

Each inventory (an owner) leaves one record on the host, /etc/postgresql_server/<owner>.json. What they share is composed
from all records, so that no owner's run can undo another's. An entry that disappears from an inventory stays in its owner's
record until it is removed by name.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.django_asgi.site.plugins.module_utils.postgresql_server import all_roles, urls

RECORD_FORMAT = 1
# Settings that a server has only once: an owner may leave one empty; all others must set the same.
SHARED = {
    "port": "postgresql_server_port",
    "version": "postgresql_server_version",
    "certificate": "postgresql_server_tls_certificate",
    "key": "postgresql_server_tls_key",
}
ENTRIES = {"databases": "database", "roles": "role"}


def record(values: dict[str, Any], former: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the record of one inventory.

    In: ``values``, the role's variables without prefix, validated; ``former``, the owner's record on the host, if any.
    Out: the record; databases and roles that only ``former`` has stay in it with ``listed: false``.
    """
    databases = {entry["name"]: {"owner": entry.get("owner", entry["name"]), "listed": True} for entry in values["databases"]}
    roles = {
        entry["name"]: {
            "password": entry.get("password") is not None,
            "databases": list(entry.get("databases") or []),
            "addresses": entry.get("addresses", values["allowed_addresses"]) if values["listen_addresses"] else [],
            "loopback": bool(values["listen_addresses"]),
            "encrypted": values["tls_enabled"],
            "listed": True,
        }
        for entry in values["roles"]
    }
    for database in databases.values():
        roles.setdefault(database["owner"], {"password": False, "databases": [], "listed": True})
    wanted = {
        "format": RECORD_FORMAT,
        "owner": values["owner"],
        "port": int(values["port"]),
        "version": str(values["version"]),
        "tls": values["tls_enabled"],
        "certificate": values["tls_certificate"],
        "key": values["tls_key"],
        "listen_addresses": list(values["listen_addresses"]),
        "memory_mb": int(values["memory_mb"]),
        "max_connections": int(values["max_connections"]),
        "settings": dict(values["settings"]),
        "databases": databases,
        "roles": roles,
    }
    for kind in ENTRIES:
        for name, entry in (former or {}).get(kind, {}).items():
            wanted[kind].setdefault(name, {**entry, "listed": False})
    return wanted


def read(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return the records on the host by owner; ``texts`` are the files' contents."""
    return {found["owner"]: found for found in map(json.loads, texts)}


def everyone(records: dict[str, dict[str, Any]], owner: str, mine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records as they will be, by owner and sorted by name; ``mine`` is empty for an owner that leaves."""
    others = {name: found for name, found in records.items() if name != owner}
    return dict(sorted((others | ({owner: mine} if mine else {})).items()))


def clashes(mine: dict[str, Any], records: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for everything in ``mine`` that clashes with what another owner has on the host."""
    faults = []
    for owner, other in records.items():
        if owner == mine["owner"]:
            continue
        for kind, word in ENTRIES.items():
            faults += [
                f'postgresql_server_{kind}: {word} "{name}" belongs to the inventory of "{owner}"; choose another name'
                for name in mine[kind]
                if name in other[kind]
            ]
        faults += [
            f'{variable}: "{mine[key]}" is not what the inventory of "{owner}" has set, "{other[key]}"; set the same here'
            for key, variable in SHARED.items()
            if mine[key] and other[key] and mine[key] != other[key]
        ]
        faults += [
            f'postgresql_server_settings: {name}: "{value}" is not what the inventory of "{owner}" has set,'
            f' "{other["settings"][name]}"; set the same here, or leave it out'
            for name, value in mine["settings"].items()
            if name in other["settings"] and str(other["settings"][name]) != str(value)
        ]
    return faults


def leftovers(mine: dict[str, Any]) -> list[dict[str, str]]:
    """Return the entries of this owner that its inventory no longer lists, each with its kind (database, role) and name."""
    return [
        {"kind": word, "name": name}
        for kind, word in ENTRIES.items()
        for name, entry in mine.get(kind, {}).items()
        if not entry["listed"]
    ]


def without(mine: dict[str, Any], word: str, name: str) -> dict[str, Any]:
    """Return a record without one of its entries; ``word`` is database or role."""
    kind = f"{word}s"
    return {**mine, kind: {other: entry for other, entry in mine[kind].items() if other != name}}


def compose(records: dict[str, dict[str, Any]], host_memory_mb: int) -> dict[str, Any]:
    """Return the settings that the server has only once, from the records of all owners.

    Memory and connections add up, because each owner plans only its own share. If an owner leaves the memory open (0), the
    server gets the host's; it never gets more than that.
    """
    owners = list(records.values())
    memory = [owner["memory_mb"] for owner in owners]

    def first(key: str) -> str:
        return next((owner[key] for owner in owners if owner[key]), "")

    return {
        "port": first("port"),
        "listen_addresses": list(dict.fromkeys(address for owner in owners for address in owner["listen_addresses"])),
        "memory_mb": min(sum(memory), int(host_memory_mb)) if owners and all(memory) else int(host_memory_mb),
        "max_connections": sum(owner["max_connections"] for owner in owners),
        "tls": any(owner["tls"] for owner in owners),
        "certificate": first("certificate"),
        "key": first("key"),
        "settings": {name: value for owner in owners for name, value in owner["settings"].items()},
    }


def access_rules(records: dict[str, dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the lines of pg_hba.conf of each owner, in an order that does not depend on which owner runs."""
    return [
        (owner, [line for name in sorted(found["roles"]) for line in _rules_of(name, found)]) for owner, found in records.items()
    ]


def _rules_of(name: str, found: dict[str, Any]) -> list[str]:
    """Return the lines that give one role access to its databases."""
    role = found["roles"][name]
    owned = sorted(database for database, entry in found["databases"].items() if entry["owner"] == name)
    databases = ",".join(f'"{database}"' for database in dict.fromkeys(owned + role["databases"]))
    if not databases:
        return []
    lines = [f'local {databases} "{name}" {"scram-sha-256" if role["password"] else "peer"}']
    if role["password"] and role["loopback"]:
        network = "hostssl" if role["encrypted"] else "host"
        lines += [f'host {databases} "{name}" {address} scram-sha-256' for address in ("127.0.0.1/32", "::1/128")]
        lines += [f'{network} {databases} "{name}" {_network(address)} scram-sha-256' for address in role["addresses"]]
    return lines


def _network(address: str) -> str:
    """Return an address as the network that pg_hba.conf expects."""
    if "/" in address:
        return address
    return f"{address}/{128 if ':' in address else 32}"


def backup_targets(databases: list[str], directory: str) -> list[dict[str, str]]:
    """Return the files that hold each database's backup settings, with the template of each; ``directory`` holds those of the tool."""
    units = "/etc/systemd/system/postgresql-backup@"
    return [
        target
        for name in databases
        for target in (
            {"database": name, "path": f"{directory}/{name}", "template": "backup.settings.j2"},
            {"database": name, "path": f"{units}{name}.service.d/postgresql_server.conf", "template": "backup.service.j2"},
            {"database": name, "path": f"{units}{name}.timer.d/postgresql_server.conf", "template": "backup.timer.j2"},
        )
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        functions = [record, read, everyone, clashes, leftovers, without, compose, access_rules, backup_targets, all_roles, urls]
        return {f"postgresql_server_{function.__name__}": function for function in functions}
