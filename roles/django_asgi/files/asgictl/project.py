"""What a project is, as its own settings tell, and what follows from it. Facts in, places and findings out; nothing is done here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOCAL_CHANNEL_LAYER = "InMemoryChannelLayer"
LOCAL_CACHE = "LocMemCache"


@dataclass(frozen=True)
class Layout:
    """Where a release's parts lie while it is staged."""

    source: Path
    project: Path
    static: Path
    state: Path
    writable: tuple[Path, ...] = ()

    def holds(self, path: Path) -> bool:
        """Whether the app may write to a path for longer than this release lives."""
        return any(path.is_relative_to(place) for place in (self.state, *self.writable))


@dataclass(frozen=True)
class Place:
    """A path in the source that has to lead to `target`; `is_file` tells a file from a directory."""

    path: Path
    target: Path
    is_file: bool = False


@dataclass(frozen=True)
class Finding:
    """A sentence about the project; one that is `fatal` ends the deploy."""

    text: str
    fatal: bool = False


def places(facts: dict, layout: Layout, shared: list[str]) -> tuple[list[Place], list[Finding]]:
    """Return where the project's own paths in its source have to lead, and a fatal finding for each that can't lead anywhere.

    `shared` names further paths, relative to the source, that outlive a release.
    """
    found, faults = [], []
    for name, path, is_file in _paths(facts):
        if layout.holds(path) or path.is_relative_to(layout.static):
            continue
        if not path.is_relative_to(layout.source):
            faults.append(Finding(_outside(name, path), fatal=True))
        elif name == "STATIC_ROOT":
            found.append(Place(path, layout.static))
        elif name == "MEDIA_ROOT":
            # The edge serves this directory.
            found.append(Place(path, layout.state / "media"))
        else:
            found.append(_in_state(path, layout, is_file))
    for name in shared:
        found.append(_in_state(layout.source / name, layout, bool(Path(name).suffix)))
    return _outermost(found), faults


def place_of_failure(path: Path, layout: Layout) -> Place | None:
    """Return where a path has to lead that the settings could not make or open; None if it is outside the source.

    A name with a suffix is taken for a file. In a directory that the source lacks, the directory leads away.
    """
    if not path.is_relative_to(layout.source) or path == layout.source:
        return None
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    return _in_state(missing, layout, is_file=missing == path and bool(path.suffix))


def findings(facts: dict, manifest: dict, order: dict) -> Iterator[Finding]:
    """Return what an operator should know of a project, from its facts, the release's manifest and the staging order."""
    yield from _addresses(facts, order, manifest.get("path_prefix", ""))
    yield from _several_workers(facts, manifest)
    if facts["debug"]:
        yield Finding("DEBUG is on: visitors see settings and source code with each error. Set DEBUG to False.")
    for alias, database in facts["databases"].items():
        if database["persistent"]:
            yield Finding(
                f"CONN_MAX_AGE of the database {alias} is not 0: under ASGI Django keeps such a connection for each thread "
                f'and closes none. Set it to 0, or use a pool: OPTIONS = {{"pool": True}}.'
            )
    yield from _requests(facts, manifest, order["edge_names"])


def _paths(facts: dict) -> Iterator[tuple[str, Path, bool]]:
    """The settings that name a place on this host: their name, the place, and whether it is a file."""
    if facts["static_root"] and facts["static_storage"].get("local"):
        yield "STATIC_ROOT", Path(facts["static_root"]), False
    if facts["media_root"] and facts["default_storage"].get("local"):
        yield "MEDIA_ROOT", Path(facts["media_root"]), False
    for alias, database in facts["databases"].items():
        if database["file"]:
            yield f"NAME of the database {alias}", Path(database["file"]), True
    for file in facts["log_files"]:
        yield "filename in LOGGING", Path(file), True


def _outside(name: str, path: Path) -> str:
    if name == "STATIC_ROOT":
        return (
            f"STATIC_ROOT of the project is {path}, where the edge does not look. Write into the settings: "
            f'STATIC_ROOT = os.environ.get("STATIC_ROOT", BASE_DIR / "static_root").'
        )
    return (
        f"{name} of the project is {path}, where the app may not write. Use the directory in the variable STATE_DIRECTORY, or "
        f"add {path if name == 'MEDIA_ROOT' else path.parent} to django_asgi_writable_paths."
    )


def _in_state(path: Path, layout: Layout, is_file: bool) -> Place:
    start = layout.project if path.is_relative_to(layout.project) else layout.source
    return Place(path, layout.state / path.relative_to(start), is_file)


def _outermost(found: list[Place]) -> list[Place]:
    """The places without those that lie in another one."""
    outer = {place.path for place in found if not place.is_file}
    unique = {place.path: place for place in found if not outer & set(place.path.parents)}
    return list(unique.values())


def _addresses(facts: dict, order: dict, prefix: str) -> Iterator[Finding]:
    """Files whose URLs the edge does not serve; the project's own are below the prefix by now, the inventory's are not."""
    remote = {"STATIC_URL": not facts["static_storage"].get("local"), "MEDIA_URL": not facts["default_storage"].get("local")}
    served = {"STATIC_URL": order["static_url"] if order["collectstatic"] else "", "MEDIA_URL": order["media_url"]}
    for name, url in served.items():
        found = facts[name.lower()].removeprefix(prefix)
        # A URL with a host is served elsewhere.
        if url and found.startswith("/") and found != url and not remote[name]:
            yield Finding(
                f"{name} of the project is {found}, but the edge serves these files at {url}: set "
                f"django_asgi_{name.lower()} to {found}, or {name} to {url}.",
                fatal=True,
            )
    if facts["media_root"] and not order["media_url"] and not remote["MEDIA_URL"] and facts["media_url"] not in ("", "/"):
        yield Finding(
            f"MEDIA_URL of the project is {facts['media_url']}, but the edge serves no uploads: set django_asgi_media_url to that, "
            f"unless the project serves them itself."
        )


def _several_workers(facts: dict, manifest: dict) -> Iterator[Finding]:
    """What several workers of one app do not share."""
    count = manifest["worker_count"]
    if count < 2:
        return
    for alias, backend in facts["channel_layers"].items():
        if backend.endswith(LOCAL_CHANNEL_LAYER):
            yield Finding(
                f"The channel layer {alias} is in memory, so a message reaches only the WebSockets of the same worker, and this "
                f"host has {count}. Use channels_redis, or set django_asgi_workers to 1."
            )
    for alias, backend in facts["caches"].items():
        if backend.endswith(LOCAL_CACHE):
            yield Finding(f"The cache {alias} is in memory: each of {count} workers has its own.")


def _requests(facts: dict, manifest: dict, names: list[str]) -> Iterator[Finding]:
    """Settings that refuse or redirect what the edge and the gate ask."""
    host = manifest["health_host"]
    if not _is_allowed(host, facts["allowed_hosts"]):
        yield Finding(f"ALLOWED_HOSTS has no {host}, which the gate sends as Host: add it, or set django_asgi_health_host.")
    for name in names:
        if name != host and not _is_allowed(name, facts["allowed_hosts"]):
            yield Finding(f"ALLOWED_HOSTS has no {name}, which nginx_site_server_names has: its visitors get 400.")
    if facts["ssl_redirect"] and manifest["health_scheme"] == "http" and not facts["proxy_ssl_header"]:
        yield Finding(
            "SECURE_SSL_REDIRECT is on without SECURE_PROXY_SSL_HEADER, so the app redirects for ever behind the edge. Write into "
            'the settings: SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https").'
        )


def _is_allowed(host: str, patterns: list[str]) -> bool:
    """Whether Django accepts a Host header (django.http.request.validate_host), whose port does not count."""
    domain = host.lower() if host.endswith("]") else re.sub(r":\d+$", "", host.lower())
    domain = domain.removeprefix("*")
    return any(
        pattern == "*"
        or domain == pattern.lower()
        or (pattern.startswith(".") and f".{domain.lstrip('.')}".endswith(pattern.lower()))
        for pattern in patterns
    )
