"""What an inventory's variables of the role redis_server have to do with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault

# Set by variables, or needed as they are.
RESERVED = (
    "port", "tls-port", "bind", "unixsocket", "unixsocketperm", "dir", "requirepass", "user", "aclfile", "daemonize", "supervised",
)  # fmt: skip
LOOPBACK = re.compile(r"-?(127[.][0-9.]+|::1)")


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield what is wrong with values that are sound by themselves."""
    if bool(values["redis_server_tls_certificate"]) != bool(values["redis_server_tls_key"]):
        yield Fault("redis_server_tls_key", "goes with redis_server_tls_certificate; expected both, or none")
    yield from _of_settings("redis_server_settings", values["redis_server_settings"])
    for entry in values["redis_server_instances"]:
        where = f"redis_server_instances: {entry['name']}"
        yield from _of_settings(f"{where}: settings", entry.get("settings", {}))
        bind = entry.get("bind", values["redis_server_bind"])
        addresses = [str(one) for one in (bind if isinstance(bind, list) else [bind])]
        if int(entry.get("port") or 0) and "password" not in entry and not all(map(LOOPBACK.fullmatch, addresses)):
            yield Fault(where, f"has no password; expected one, because other hosts can connect ({' '.join(addresses)})")


def _of_settings(where: str, settings: dict) -> Iterator[Fault]:
    for name in settings.keys() & set(RESERVED):
        yield Fault(f"{where}: {name}", "is set by redis_server_instances; expected another setting")
