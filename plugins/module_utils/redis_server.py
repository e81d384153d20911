"""The instances of the role redis_server: which values are valid, and what follows from them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.django_asgi.site.plugins.module_utils.addresses import bracketed, userinfo
from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault

# Settings that have a variable or must not change.
RESERVED = (
    "port", "tls-port", "bind", "unixsocket", "unixsocketperm", "dir", "requirepass", "user", "aclfile", "daemonize", "supervised",
)  # fmt: skip
SAVES = {
    "none": {"save": '""', "appendonly": False},
    "rdb": {"save": "3600 1 300 100 60 10000", "appendonly": False},
    "aof": {"save": '""', "appendonly": True, "appendfsync": "everysec"},
}
TRUE = ("true", "yes", "on", "1")
LOOPBACK = re.compile(r"-?(127[.][0-9.]+|::1)")


def faults(values: dict, inventory: dict) -> Iterator[Fault]:
    """Yield the faults of values that are each valid."""
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


def instances(entries: list[dict], common: dict) -> list[dict]:
    """Return each entry with its port, tls, socket, url, celery_url, login (a client's first line) and lines (its settings).

    `common` holds the role's variables without their prefix, and `data`, `certificate` and `key`, the paths on the host.
    """
    return [_instance(entry, common) for entry in entries]


def _instance(entry: dict, common: dict) -> dict:
    port, password = int(entry.get("port") or 0), entry.get("password")
    tls = str(entry.get("tls", common["tls_enabled"])).lower() in TRUE
    socket = f"/run/{common['flavour']}-{entry['name']}/{common['flavour']}-server.sock"
    bind = entry.get("bind", common["bind"])
    lines = {
        "port": 0 if tls else port,
        "bind": " ".join(bind) if isinstance(bind, list) else bind,
        "protected-mode": True,
        "unixsocket": socket,
        "unixsocketperm": common["socket_mode"],
        "dir": f"{common['data']}/{entry['name']}",
        "databases": int(entry.get("databases", common["databases"])),
        "maxmemory": entry.get("maxmemory", common["maxmemory"]),
        "maxmemory-policy": entry.get("policy", common["policy"]),
        **SAVES[entry.get("persistence", common["persistence"])],
    }
    if tls and port:
        lines |= {"tls-port": port, "tls-auth-clients": False, "tls-protocols": '"TLSv1.2 TLSv1.3"'}
        lines |= {"tls-cert-file": common["certificate"], "tls-key-file": common["key"]}
    login, place = userinfo("", password), f"{bracketed(common['address'])}:{port}/0"
    quoted = (password or "").replace("\\", "\\\\").replace('"', '\\"')
    over_tcp = f"{'rediss' if tls else 'redis'}://{login}{place}"
    return entry | {
        "port": port,
        "tls": tls,
        "socket": socket,
        "url": over_tcp if port else f"unix://{login}{socket}?db=0",
        # Celery has its own scheme for a socket.
        "celery_url": over_tcp if port else f"redis+socket://{login}{socket}?virtual_host=0",
        "login": f'AUTH "{quoted}"\n' if password is not None else "",
        "lines": lines | common["settings"] | entry.get("settings", {}),
    }


def described(found: list[dict], common: dict) -> list[str]:
    """Return a line for each instance: where it listens, how much it may hold, and how its data persists."""
    lines = []
    for one in found:
        where = f"{'TLS' if one['tls'] else 'TCP'} {one['lines']['bind']} port {one['port']}" if one["port"] else one["socket"]
        kept = one.get("persistence", common["persistence"])
        memory = f"{one['lines']['maxmemory']} {one['lines']['maxmemory-policy']}"
        lines.append(f"{one['name']}: {where}, maxmemory {memory}, persistence {kept}")
    return lines
