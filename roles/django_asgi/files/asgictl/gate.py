"""The gate: the checks that a new instance must pass before it receives traffic."""

import time
from concurrent.futures import ThreadPoolExecutor
from string import Template
from urllib.parse import quote

from asgictl.errors import Refused
from asgictl.probe import Answer, get, shake_hands
from asgictl.release import Release
from asgictl.systemd import Instance, journal

SAID_CHARACTERS = 300
# The role nginx_site keeps an idle connection to an app for a second.
EDGE_CONNECTION_SECONDS = 3


def request_headers(manifest: dict) -> dict[str, str]:
    """The headers that the edge would send, so that ALLOWED_HOSTS and HTTPS redirects behave as for a visitor."""
    return {
        "Host": manifest["health_host"],
        "X-Forwarded-Proto": manifest["health_scheme"],
        "X-Forwarded-For": "127.0.0.1",
        "User-Agent": "asgictl",
    }


def page_origin(manifest: dict) -> str:
    """The Origin of the site's own pages as a browser writes it: without a default port."""
    usual_port = {"http": ":80", "https": ":443"}[manifest["health_scheme"]]
    return f"{manifest['health_scheme']}://{manifest['health_host'].lower().removesuffix(usual_port)}"


def handshake_headers(release: Release) -> dict[str, str]:
    """What a handshake has besides a request's headers; those of the inventory win, with the app's variables in them."""
    manifest, variables = release.manifest, release.variables() | release.secrets
    # Channels' AllowedHostsOriginValidator refuses a handshake without an Origin.
    own = {"Origin": page_origin(manifest)}
    if subprotocol := manifest.get("websocket_subprotocol"):
        own["Sec-WebSocket-Protocol"] = subprotocol
    wanted = manifest.get("websocket_headers", {})
    return own | {name: Template(value).safe_substitute(variables) for name, value in wanted.items()}


def pass_gate(release: Release) -> dict:
    """Send an HTTP request to every worker of the release's instance, and a WebSocket handshake to one.

    Returns `workers` (how many answered) and `seconds`. Refused, with the journal's last lines, if one answers
    wrongly, or if not all of them answer in time. This also warms each worker: the first request of a Django
    process is several times slower than the next.
    """
    manifest = release.manifest
    began, since = time.monotonic(), time.time() - 5
    deadline = began + manifest["gate_timeout"]
    socket, headers = str(release.socket), request_headers(manifest)
    wanted = manifest["worker_count"]
    seen: set[str] = set()
    with ThreadPoolExecutor(max_workers=4 * wanted) as pool:
        while len(seen) < wanted:
            patience = max(0.1, deadline - time.monotonic())
            wave = [pool.submit(get, socket, manifest["health_path"], headers, patience) for _ in range(4 * wanted)]
            for answer in [request.result() for request in wave]:
                _check(release, answer, manifest["health_path"], "HTTP", manifest.get("health_status", 0), since)
                seen.add(answer.worker)
            if "" in seen:
                break  # A custom worker class, which does not report who answered.
            if time.monotonic() > deadline:
                raise Refused(
                    f"Release {release.id} failed its gate: only {len(seen)} of {wanted} workers answered "
                    f"{manifest['health_path']} within {manifest['gate_timeout']} s.",
                    details=_journal(release, since),
                )
    if manifest["websocket_path"]:
        patience = max(0.1, deadline - time.monotonic())
        answer = shake_hands(socket, manifest["websocket_path"], headers | handshake_headers(release), patience)
        _check(release, answer, manifest["websocket_path"], "WebSocket", manifest.get("websocket_status", 101), since)
    return {"workers": len(seen), "seconds": round(time.monotonic() - began, 2)}


def _check(release: Release, answer: Answer, path: str, kind: str, status: int, since: float) -> None:
    """Refuse an answer with another status, or from another release; 0 stands for each status from 200 to 399."""
    is_expected = answer.status == status if status else 200 <= answer.status <= 399
    if is_expected and not answer.problem and answer.release in ("", release.id):
        return
    found = answer.problem or f"the answer was {answer.status}"
    if answer.said:
        # Shortened last: half a secret would not be recognised as one.
        found += f", {release.redact(answer.said)[:SAID_CHARACTERS]}"
    if answer.status == 400:
        found += f" (does ALLOWED_HOSTS hold {release.manifest['health_host']}, the gate's Host?)"
    if answer.status == 403 and kind == "WebSocket":
        found += (
            f" (the gate's Origin is {page_origin(release.manifest)}, and it is not logged in; if that is why, "
            f"django_asgi_websocket_status: 403 makes this answer the expected one)"
        )
    if answer.release not in ("", release.id):
        found += f" from release {answer.release}"
    raise Refused(
        f"Release {release.id} failed its gate: {kind} {path}: {found}; expected {status or '2xx or 3xx'}.",
        details=_journal(release, since),
    )


def _journal(release: Release, since: float) -> str:
    """The instance's log, redacted, from `since` (Unix time) on."""
    return release.redact(journal(Instance(release.app, release.id).service, since=since))


def edge_path(manifest: dict, path: str) -> str:
    """A path of the project as the edge has it: below the site's prefix, which the edge removes before it asks the app."""
    return manifest.get("path_prefix", "") + path


def require_prefix(target: Release, live: Release) -> None:
    """Refuse a rollback to a release for another path prefix: only a deploy changes the edge."""
    wanted, served = (release.manifest.get("path_prefix", "") for release in (target, live))
    if wanted != served:
        raise Refused(
            f"Release {target.id} is made for {wanted or ''}/, but the edge serves the app at {served or ''}/. "
            f"Set django_asgi_path_prefix as it was for that release, and deploy its version of the source."
        )


def require_edge(release: Release, edge: str) -> None:
    """Refuse a cut-over if the edge does not answer: nothing has been switched yet, so nothing is lost."""
    answer = get(edge, edge_path(release.manifest, release.manifest["health_path"]), request_headers(release.manifest))
    if not answer.status:
        raise Refused(f"The edge at {edge} does not answer ({answer.problem}); see 'systemctl status nginx'.")


def require_static(release: Release, edge: str) -> None:
    """Refuse a release if the edge does not send one of its collected files; without any, there is nothing to check."""
    static, url = release.directory / "static", release.manifest.get("static_url")
    names = (file.relative_to(static) for file in static.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not url or not (name := next(names, None)):
        return
    path = edge_path(release.manifest, url + quote(name.as_posix()))
    answer = get(edge, path, request_headers(release.manifest))
    if answer.problem or answer.status >= 400:
        raise Refused(
            f"The edge at {edge} does not send {path}, a static file of release {release.id}: "
            f"{answer.problem or f'the answer was {answer.status}'}. Check that it serves django_asgi_static_url, {url}."
        )


def wait_for_edge(release: Release, edge: str, alone: float, timeout: float) -> float:
    """Wait until the edge has answered only from `release` for `alone` seconds; return the seconds that it took.

    The edge keeps connections to the old instance for a second or two, and each of its processes has its own.
    """
    began = time.monotonic()
    # A custom worker class does not report its release; the old one's may not either, so time has to do.
    own = get(str(release.socket), release.manifest["health_path"], request_headers(release.manifest))
    name = own.release if own.status else release.id
    alone = alone if name else max(alone, EDGE_CONNECTION_SECONDS)
    alone_since, path = None, edge_path(release.manifest, release.manifest["health_path"])
    while alone_since is None or time.monotonic() - alone_since < alone:
        answer = get(edge, path, request_headers(release.manifest))
        if answer.release != name or not (name or 200 <= answer.status < 400):
            alone_since = None
        elif alone_since is None:
            alone_since = time.monotonic()
        if time.monotonic() - began > timeout:
            raise Refused(
                f"The edge at {edge} still does not answer from release {release.id} after {timeout:g} s: "
                f"{answer.problem or f'status {answer.status}, release {answer.release!r}'}. "
                f"Look at the edge's error log."
            )
        time.sleep(0.02)
    return round(time.monotonic() - began, 2)
