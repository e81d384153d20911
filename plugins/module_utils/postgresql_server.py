"""The databases and roles of the role postgresql_server: which values are valid, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.django_asgi.site.plugins.module_utils.addresses import bracketed, userinfo
from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, wrong

BUILT_IN = ("postgres", "template0", "template1")
# Settings of postgresql.conf that have their own variable.
RESERVED = {
    "port": "postgresql_server_port",
    "listen_addresses": "postgresql_server_listen_addresses",
    "max_connections": "postgresql_server_max_connections",
    "ssl": "postgresql_server_tls_enabled",
    "ssl_cert_file": "postgresql_server_tls_certificate",
    "ssl_key_file": "postgresql_server_tls_key",
    "hba_file": "postgresql_server_roles",
}


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are each valid."""
    databases = [entry["name"] for entry in values["postgresql_server_databases"]]
    for variable in ("postgresql_server_databases", "postgresql_server_roles"):
        for name in {entry["name"] for entry in values[variable]} & set(BUILT_IN):
            yield wrong(variable, name, "another name, because that one belongs to PostgreSQL itself", "has")
    for role in values["postgresql_server_roles"]:
        for name in role.get("databases", []):
            if name not in databases:
                yield wrong(
                    f"postgresql_server_roles: {role['name']}: databases", name, "one of postgresql_server_databases", "has"
                )
    for name in values["postgresql_server_settings"].keys() & RESERVED.keys():
        yield Fault(f"postgresql_server_settings: {name}", f"has a variable of its own; expected {RESERVED[name]}")
    if bool(values["postgresql_server_tls_certificate"]) != bool(values["postgresql_server_tls_key"]):
        yield Fault("postgresql_server_tls_key", "goes with postgresql_server_tls_certificate; expected both, or none")
    if not values["postgresql_server_listen_addresses"]:
        if values["postgresql_server_address"]:
            yield Fault(
                "postgresql_server_address", "can't be reached while postgresql_server_listen_addresses is empty; expected both"
            )
        if values["postgresql_server_allowed_addresses"]:
            expected = "postgresql_server_listen_addresses too, because nobody can connect while that is empty"
            yield wrong("postgresql_server_allowed_addresses", values["postgresql_server_allowed_addresses"], expected)


def owner_of(database: dict) -> str:
    """Return the role that owns a database."""
    return database.get("owner", database["name"])


def all_roles(roles: list[dict], databases: list[dict]) -> list[dict]:
    """Return the roles, including those that are only named as owners."""
    named = [role["name"] for role in roles]
    owners = dict.fromkeys(owner_of(database) for database in databases)
    return roles + [{"name": name} for name in owners if name not in named]


def urls(databases: list[dict], roles: list[dict], address: str, port: int | str, sslmode: str) -> dict[str, str]:
    """Return the URL of each database by its name, for its owner, with the owner's password if there is one.

    Without an `address` it names the socket's directory as a parameter, because not every parser decodes a path as the host.
    """
    passwords = {role["name"]: role.get("password") for role in roles}
    found = {}
    for database in databases:
        name, owner = database["name"], owner_of(database)
        login = userinfo(owner, passwords.get(owner))
        over_socket = f"/{name}?host=/var/run/postgresql" + (f"&port={port}" if int(port) != 5432 else "")
        place = f"{bracketed(address)}:{port}/{name}?sslmode={sslmode}" if address else over_socket
        found[name] = f"postgresql://{login}{place}"
    return found
