"""Measure all servers in rounds, and print one line of JSON for each measurement; the order comes as JSON on standard input.

The order: `rounds`, `requests` and `connections` are numbers, `apps` maps per_call and one_hop to the names of apps on this host.
"""

import json
import platform
import subprocess
import sys
from statistics import quantiles

import load
import servers

# A part of each body that shows that the right view has answered.
EXPECTED = {
    "sync": ("/sync/", b'"Hello"'),
    "async": ("/async/", b'"Hello"'),
    "drf": ("/api/", b'"Hello"'),
    "page": ("/page/", b"ARTICLE 29"),
    "stream": ("/stream/", b"." * 99 + b"\n"),
    "static": ("/static/measured/site.css", b".column-319"),
}

# These take so little that a round of them would be over before the machine has done anything else.
TIMES_AS_MANY = {"websocket": 5, "static": 10}


def exchange(kind: str, host: str) -> load.Http | load.WebSocket:
    """Return what is exchanged for that kind of request."""
    if kind == "websocket":
        return load.WebSocket(host, "/ws/echo/")
    return load.Http(host, *EXPECTED[kind])


def measure(server: servers.Server, kind: str, requests: int, connections: int) -> dict:
    """Warm the server up, then return what `requests` requests took: microseconds, requests a second, milliseconds."""
    requests *= TIMES_AS_MANY.get(kind, 1)
    load.run(server.address, exchange(kind, server.host), max(connections, requests // 10), connections)
    before = servers.spent(server)
    times = load.run(server.address, exchange(kind, server.host), requests, connections)
    spent = servers.spent(server) - before
    parts = quantiles(times.each, n=100)
    return {
        "processor_us": spent / requests * 1e6,
        "per_second": requests / times.elapsed,
        "p50_ms": parts[49] * 1000,
        "p99_ms": parts[98] * 1000,
        "client_share": times.client / times.elapsed,
    }


def report(**values: object) -> None:
    """Print a line at once."""
    print(json.dumps(values), flush=True)


def versions() -> dict[str, str]:
    """Return the versions of what is compared, by name."""
    listed = subprocess.run([servers.PROGRAMS / "python", "-c", (
        "import importlib.metadata as m, json;"
        "print(json.dumps({n: m.version(n) for n in "
        "('Django', 'channels', 'djangorestframework', 'gunicorn', 'uvicorn', 'uvloop', 'granian', 'daphne')}))"
    )], capture_output=True, text=True, check=True).stdout  # fmt: skip
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip().rpartition("/")[2]
    return {"Python": platform.python_version(), **json.loads(listed), "nginx": nginx}


def main() -> int:
    """Measure; return the exit code."""
    order = json.load(sys.stdin)
    all_servers: dict[str, servers.Server] = {}
    try:
        for name, app in order["apps"].items():
            all_servers[name], all_servers[f"{name}_edge"] = servers.deployed(app, f"{app}.localhost")
        app = order["apps"]["per_call"]
        all_servers |= servers.start(app, f"{app}.localhost")
        report(versions=versions())
        names = list(all_servers)
        for round_ in range(order["rounds"]):
            # Each round begins with another server, so that no one has always the same neighbour's heat.
            turn = round_ * 3 % len(names)
            for kind in [*EXPECTED, "websocket"]:
                for name in names[turn:] + names[:turn]:
                    if kind in all_servers[name].cannot:
                        continue
                    try:
                        found = measure(all_servers[name], kind, order["requests"], order["connections"])
                    except (load.Failed, OSError) as error:
                        report(failed=f"{name}, {kind}: {error}")
                        return 1
                    report(round=round_, server=name, request=kind, **found)
        for name, server in all_servers.items():
            if len(server.units) == 1:
                report(server=name, memory_mib=servers.memory(server))
    finally:
        servers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
