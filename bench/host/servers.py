"""The servers that are compared, one worker each: those that the role runs, and others on the same project and packages.

The others run as the app's user with the release's own environment variables, as transient units of systemd. So each server has a
control group, whose processor time the kernel counts exactly: with threads that have ended, and with processes that have.
"""

import re
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path("/var/lib/asgi-bench")
SOCKETS = Path("/run/asgi-bench")
PROGRAMS = HOME / "venv/bin"
UNIT = "asgi-bench-"
GROUPS = Path("/sys/fs/cgroup")
# Where the block that everyone copies listens.
USUAL_PORT = 8099
BOOT_SECONDS = 60

GUNICORN = ["gunicorn", "--workers", "1"]
# Without access logs, as each of them but daphne starts anyway. gunicorn's threads are as many as one_hop has.
OTHERS = {
    "usual": [*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", "measured.asgi:application", "--bind", "unix:{socket}"],
    "gunicorn_asgi": [*GUNICORN, "--worker-class", "asgi", "measured.asgi:application", "--bind", "unix:{socket}"],
    "granian": [
        "granian", "--interface", "asginl", "--workers", "1", "--uds", "{socket}",
        "--static-path-route", "/static", "--static-path-mount", "{static}", "measured.asgi:application",
    ],
    "daphne": ["daphne", "--verbosity", "0", "--unix-socket", "{socket}", "measured.asgi:application"],
    "gthread": [
        *GUNICORN, "--worker-class", "gthread", "--threads", "8", "measured.wsgi:application", "--bind", "unix:{socket}",
    ],
}  # fmt: skip

# nginx as Debian configures it, with the block that most instructions for Django and ASGI have in common.
NGINX = """
user www-data;
worker_processes auto;
pid {sockets}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log {home}/access.log;
    gzip on;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
    server {{
        listen 127.0.0.1:{port};
        server_name _;
        location /static/ {{
            alias {static}/;
        }}
        location / {{
            proxy_pass http://unix:{sockets}/usual.sock;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_redirect off;
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass
class Server:
    """Where a server listens, the Host header that it accepts, the units that work for it, and the requests that it can't answer."""

    address: str | tuple[str, int]
    host: str
    units: list[str]
    cannot: set[str] = field(default_factory=set)


def systemctl(*arguments: str) -> str:
    """Return the output of systemctl."""
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def group(unit: str) -> Path:
    """Return the directory of a running unit's control group."""
    return GROUPS / systemctl("show", "--property=ControlGroup", "--value", unit).lstrip("/")


def spent(server: Server) -> float:
    """Return the processor time of the server so far, in seconds, of all its processes and threads."""
    return (
        sum(
            int(re.search(r"^usage_usec (\d+)", (group(unit) / "cpu.stat").read_text(), re.MULTILINE)[1]) for unit in server.units
        )
        / 1e6
    )


def memory(server: Server) -> float:
    """Return the memory of the processes that run the project, in MiB, shared pages by their share; nginx does not count.

    Without mapped files: those of one environment are shared by all servers that run from it, which would make them seem small.
    """
    pids = (group(server.units[0]) / "cgroup.procs").read_text().split()
    return (
        sum(int(re.search(r"^Pss_Anon: *(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1]) for pid in pids)
        / 1024
    )


def deployed(app: str, host: str) -> tuple[Server, Server]:
    """Return the app's live instance, and the same behind the edge."""
    release = Path(f"/opt/{app}/live").resolve()
    unit = f"{app}@{release.name}.service"
    direct = Server(str((release / "socket").resolve()), host, [unit], {"static"})
    return direct, Server(("127.0.0.1", 80), host, [unit, "nginx.service"])


def run_unit(name: str, command: list[str], *properties: str) -> str:
    """Start a transient unit; return its name."""
    unit = f"{UNIT}{name}.service"
    options = [f"--property={one}" for one in properties]
    subprocess.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *options, "--", *command], check=True)
    return unit


def start(app: str, host: str) -> dict[str, Server]:
    """Start the other servers on the app's live release, and nginx with the usual block; return them by name."""
    release = Path(f"/opt/{app}/live").resolve()
    static = release / "static"
    properties = [
        f"User={app}", f"Group={app}", f"WorkingDirectory={release}/src",
        f"EnvironmentFile={release}/environment", f"EnvironmentFile={release}/secrets",
        # What the role adds for its own worker.
        "UnsetEnvironment=PYTHONPATH WEB_CONCURRENCY",
        f"Environment=STATE_DIRECTORY=/var/lib/{app}",
    ]  # fmt: skip
    servers = {}
    for name, command in OTHERS.items():
        path = SOCKETS / f"{name}.sock"
        program, *arguments = (part.format(socket=path, static=static) for part in command)
        unit = run_unit(name, [str(PROGRAMS / program), *arguments], *properties)
        servers[name] = Server(str(path), host, [unit], {"static"} - ({"static"} if name == "granian" else set()))
    servers["gthread"].cannot.add("websocket")
    settings = HOME / "nginx.conf"
    settings.write_text(NGINX.format(home=HOME, sockets=SOCKETS, port=USUAL_PORT, static=static))
    nginx = run_unit("nginx", ["/usr/sbin/nginx", "-c", str(settings), "-g", "daemon off;"])
    servers["usual_nginx"] = Server(("127.0.0.1", USUAL_PORT), host, [*servers["usual"].units, nginx])
    for name, server in servers.items():
        wait(name, server)
    return servers


def wait(name: str, server: Server) -> None:
    """Wait until a server accepts connections; raises TimeoutError with the last lines of its log."""
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX if isinstance(server.address, str) else socket.AF_INET) as one:
                one.connect(server.address)
            return
        except OSError:
            if time.monotonic() > deadline:
                log = ["journalctl", "--no-pager", "--lines=15", "--output=cat", f"--unit={server.units[-1]}"]
                text = subprocess.run(log, capture_output=True, text=True, check=False).stdout
                raise TimeoutError(f"{name} does not accept connections after {BOOT_SECONDS} s:\n{text}") from None
            time.sleep(0.1)


def stop() -> None:
    """Stop what `start` has started."""
    subprocess.run(["systemctl", "stop", f"{UNIT}*"], check=False)
