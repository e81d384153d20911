"""2,000 WebSockets that echo and 200 requests a second at once: errors, latency, and memory per WebSocket.

`make scale` runs this against the lab host that `make demo` has booted, and ends with exit code 1 after any error. For more
WebSockets than the site admits it deploys the app with room for them, and again without at the end. Times
count from the moment when something was due, so they include waiting in the client or in a queue. The client shares the
machine's cores with the host, so its own part is printed too.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tools"), str(ROOT / "molecule/shared")]

from demo import lab_host
from traffic.wire import Connection, Failed

# Seconds after which a wait counts as a hang.
PATIENCE = 60
OPENED_AT_ONCE = 50
# The demo's workers, and its django_asgi_worker_connections, which is also their number of long connections.
WORKERS, LONG_CONNECTIONS = 2, 1150
HELLO = {"message": "Hello from DRF with Uvicorn!"}

# Runs on the host with its own Python: memory (PSS) and processor time of the app's web workers and of nginx.
PROBE = """
import json, re, subprocess, time

def look(*which):
    memory = spent = 0
    for pid in subprocess.run(["pgrep", *which], capture_output=True, text=True).stdout.split():
        memory += int(re.search("^Pss: *([0-9]+)", open(f"/proc/{pid}/smaps_rollup").read(), re.M)[1])
        # The clock of a process (clock_getcpuclockid(3)); /proc/<pid>/schedstat counts its first thread only.
        spent += time.clock_gettime(~int(pid) << 3 | 2)
    return {"kib": memory, "seconds": spent}

print(json.dumps({"workers": look("--uid", "sample", "--full", "gunicorn"), "nginx": look("--uid", "www-data", "nginx")}))
"""


class Measured:
    """Times and errors of one kind of exchange."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()

    def row(self, name: str) -> str:
        """One line of the table."""
        ordered = sorted(self.seconds) or [float("nan")]
        times = (ordered[int(part * (len(ordered) - 1))] * 1000 for part in (0.5, 0.9, 0.99, 1))
        return f"  {name:<12}{len(self.seconds):>8}{self.errors.total():>8}" + "".join(f"{one:>8.0f} ms" for one in times)


class Load:
    """A client of one site that begins everything when it is due, even if earlier answers are slow."""

    def __init__(self, place: str, options: argparse.Namespace) -> None:
        self.place = place
        self.options = options
        self.opened, self.requests, self.echoes = Measured(), Measured(), Measured()
        self.websockets: list[ClientConnection] = []
        self.kept: deque[Connection] = deque()

    async def open(self) -> None:
        """Open the WebSockets, so many a second if options.open_rate is set, else some at a time."""
        turn = asyncio.Semaphore(OPENED_AT_ONCE) if not self.options.open_rate else contextlib.nullcontext()
        start = time.monotonic()

        async def one(number: int) -> None:
            if self.options.open_rate:
                await asyncio.sleep(start + number / self.options.open_rate - time.monotonic())
            async with turn:
                began = time.monotonic()
                try:
                    self.websockets.append(
                        await connect(
                            f"ws://{self.place}/ws/chat/", origin=f"http://{self.place}", compression=None,
                            ping_interval=None, open_timeout=PATIENCE, close_timeout=PATIENCE, proxy=None,
                        )
                    )  # fmt: skip
                except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
                    self.opened.errors[f"{type(error).__name__}: {error}"] += 1
                else:
                    self.opened.seconds.append(time.monotonic() - began)

        async with asyncio.TaskGroup() as group:
            for number in range(self.options.websockets):
                group.create_task(one(number))

    async def run(self, seconds: float) -> None:
        """Send requests and texts for that many seconds, and wait for the last answers."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, websocket in enumerate(self.websockets):
                first = began + self.options.echo_every * number / len(self.websockets)
                group.create_task(self._converse(websocket, first, began + seconds))
            for number in range(int(seconds * self.options.rate)):
                due = began + number / self.options.rate
                await asyncio.sleep(due - time.monotonic())
                group.create_task(self._request(due))

    async def close(self) -> None:
        """Close all that is open."""
        await asyncio.gather(*(websocket.close() for websocket in self.websockets), return_exceptions=True)
        for connection in self.kept:
            connection.close()

    async def _converse(self, websocket: ClientConnection, due: float, end: float) -> None:
        """Send a text whenever it is due, and require that it comes back."""
        while due < end:
            await asyncio.sleep(due - time.monotonic())
            text = f"due {due}"
            try:
                async with asyncio.timeout(PATIENCE):
                    await websocket.send(text)
                    answer = json.loads(await websocket.recv())
            except (OSError, WebSocketException, ValueError) as error:
                self.echoes.errors[f"{type(error).__name__}: {error}"] += 1
                return
            if answer == {"message": f"Echo: {text}"}:
                self.echoes.seconds.append(time.monotonic() - due)
            else:
                self.echoes.errors["wrong answer"] += 1
            due += self.options.echo_every

    async def _request(self, due: float) -> None:
        """Request the greeting, on a kept connection if one is free."""
        connection = self.kept.pop() if self.kept else Connection(("127.0.0.1", int(self.place.partition(":")[2])))
        try:
            async with asyncio.timeout(PATIENCE):
                if not connection.exchanges:
                    await connection.open()
                body, reusable = await connection.exchange("GET", "/api/hello/", self.place, b"", lambda _: None)
            if json.loads(body) != HELLO:
                raise Failed("wrong_body", repr(body[:200]))
        except (Failed, TimeoutError) as error:
            self.requests.errors[repr(error)] += 1
            reusable = False
        else:
            self.requests.seconds.append(time.monotonic() - due)
        if reusable:
            self.kept.append(connection)
        else:
            connection.close()


def run(host: tuple[str, Path], *command: str, text: str = "") -> str:
    """Run a command on the host with `text` as its input; return its output."""
    name, ssh_config = host
    ssh = ["ssh", "-F", ROOT / ssh_config, name, *command]
    return subprocess.run(ssh, input=text, capture_output=True, text=True, check=True).stdout


def probe(host: tuple[str, Path]) -> dict:
    """Return memory and processor time of the host's processes, and processor time of this one and the machine."""
    on_host = json.loads(run(host, "python3", "-", text=PROBE))
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:8]]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return on_host | {"client": {"seconds": time.process_time()}, "machine": {"seconds": busy}}


def playbook(name: str, **variables: object) -> list[str]:
    """Return the command that runs a playbook on the demo's inventory with further variables."""
    program = Path(sys.executable).parent / "ansible-playbook"
    return [str(part) for part in (program, ROOT / f"playbooks/{name}.yml", "--extra-vars", json.dumps(variables))]


async def deploy_meanwhile(options: argparse.Namespace) -> None:
    """Deploy a release that differs in a setting without effect, a third of the time after the load began; print its end."""
    await asyncio.sleep(options.seconds / 3)
    began = time.monotonic()
    # Without django_asgi_max_requests it has no effect.
    command = playbook("release", **room(options), django_asgi_max_requests_jitter=int(time.time()) % 10_000)
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **pipes)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the deploy during the load failed:\n{output.decode()}")
    print(f"  a deploy during the load took {time.monotonic() - began:.0f} s")


def room(options: argparse.Namespace) -> dict[str, int]:
    """Return the variables of a site that admits the WebSockets; none if the site of the demo does."""
    # The edge admits nine tenths of what the workers hold.
    if options.websockets * 10 <= 9 * WORKERS * LONG_CONNECTIONS:
        return {}
    return {"django_asgi_worker_long_connections": -(-options.websockets * 12 // (10 * WORKERS))}


async def measure(place: str, host: tuple[str, Path], options: argparse.Namespace) -> Load:
    """Run the load and print the results; return it."""
    load = Load(place, options)
    # Memory that an earlier run has left free would hide what a WebSocket takes.
    run(host, "systemctl", "restart", "nginx", "'sample@*.service'")
    # A worker's first request and WebSocket load modules, which the later ones don't.
    warming = Load(place, argparse.Namespace(**vars(options) | {"websockets": 50}))
    await warming.open()
    await warming.run(3)
    await warming.close()
    before = probe(host)
    began = time.monotonic()
    await load.open()
    opening = time.monotonic() - began
    await asyncio.sleep(options.idle)
    idle = probe(host)
    gc.freeze()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(options.seconds))
        if options.deploy:
            group.create_task(deploy_meanwhile(options))
    elapsed, after = time.monotonic() - began, probe(host)
    await load.close()

    spent = {name: (after[name]["seconds"] - idle[name]["seconds"]) / elapsed for name in after}
    spent["everything else"] = spent.pop("machine") - sum(spent.values())
    print(f"  {'':<12}{'done':>8}{'errors':>8}{'median':>11}{'90 %':>11}{'99 %':>11}{'longest':>11}")
    print(load.opened.row("WebSockets"), f"  (opened in {opening:.0f} s)")
    print(load.echoes.row("echoes"))
    print(load.requests.row("requests"))
    each = {name: (idle[name]["kib"] - before[name]["kib"]) / max(1, len(load.websockets)) for name in ("workers", "nginx")}
    print(f"\n  an idle WebSocket takes {each['workers']:.0f} KiB of the workers, {each['nginx']:.0f} KiB of nginx")
    print("  processor, parts of a core: " + ", ".join(f"{name} {part:.0%}" for name, part in spent.items()))
    return load


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--websockets", type=int, default=2000, help="open at once (default: %(default)s)")
    parser.add_argument("--open-rate", type=float, default=0, help="opened in a second (default: as many as the site takes)")
    parser.add_argument("--deploy", action="store_true", help="deploy a release during the load")
    parser.add_argument("--echo-every", type=float, default=5, help="seconds between a WebSocket's texts (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=200, help="requests a second of /api/hello/ (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=10, help="seconds of idling before the load (default: %(default)s)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        place, *host = lab_host()
        print(f"{options.websockets} WebSockets with an echo every {options.echo_every:g} s, and {options.rate:g} requests/s of")
        print(
            f"/api/hello/, for {options.seconds:g} s, on http://{place}/ ({os.cpu_count()} cores for host and client)\n",
            flush=True,
        )
        if room(options):
            print(f"deploying with room for {options.websockets} WebSockets: {room(options)}", flush=True)
            subprocess.run(
                playbook("deploy", **room(options), django_asgi_retire_wait=True),
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
        try:
            load = asyncio.run(measure(place, host, options))
        finally:
            if room(options) or options.deploy:
                subprocess.run(playbook("deploy"), cwd=ROOT, check=True, capture_output=True, text=True)
    except (KeyError, subprocess.CalledProcessError) as error:
        print(f"scale: the lab host can't be measured; run `make demo` first ({error!r})", file=sys.stderr)
        return 1
    errors = load.opened.errors + load.echoes.errors + load.requests.errors
    for error, count in errors.most_common(10):
        print(f"  {count} times: {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
