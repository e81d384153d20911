"""Compare servers on one project, side by side: processor time, requests a second, latency, memory; and a release's plays with a ping.

`make bench` runs this on the lab host that `make demo` has booted: it deploys a project of its own there, measures in rounds, and
removes everything. The tables go to .lab/bench/figures.md, with the single measurements in measured.json beside it. docs/figures.md
gets the tables too if the run is one to quote: with enough rounds, on a machine that did nothing else before.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import plays
import report
from lab_apps import ROOT, WORK, BenchError, lab_apps

FIGURES = ROOT / "docs/figures.md"
# A run with less is for trying the benchmark, not for quoting it.
QUOTED_ROUNDS, QUOTED_REQUESTS = 15, 300
# A play takes seconds, and varies less.
PLAY_ROUNDS = 5
# Of the last minute, in processes that ran or were ready to.
IDLE_LOAD = 0.5
CONNECTIONS = 8


def machine(versions: dict[str, str]) -> str:
    """Return a description of this machine, which is the lab host's too: processor, cores, memory, kernel, versions."""
    model = re.search(r"^model name\s*: *(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.search(r"^MemTotal: *(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[1]) / 1024**2
    kernel = re.match(r"[0-9.]*[0-9]", platform.release())[0]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    processor = model[1] if model else platform.machine()
    return (
        f"{os.cpu_count()} cores of {processor}, {memory:.0f} GiB, Linux {kernel}, with the client on the same cores ({listed})"
    )


def quotable(rounds: int, requests: int, load: float) -> str:
    """Return why a run's tables are not ones to quote, or nothing if they are."""
    if rounds < QUOTED_ROUNDS or requests < QUOTED_REQUESTS:
        return f"a run to quote has at least {QUOTED_ROUNDS} rounds of {QUOTED_REQUESTS} requests"
    if load > IDLE_LOAD:
        return f"the machine was not idle: its load average was {load:.2f} before the run, and may be {IDLE_LOAD}"
    return ""


def progress(text: str) -> None:
    """Print a line at once."""
    print(f"bench: {text}", flush=True)


def run(rounds: int, requests: int) -> str:
    """Measure everything; return the tables."""
    found, sizes, versions = [], {}, {}
    progress("deploying the benchmark's project twice, and installing the other servers")
    with lab_apps() as apps:
        progress(f"measuring {rounds} rounds of {requests} requests")
        for one in apps.measure(rounds, requests, CONNECTIONS):
            if "versions" in one:
                versions = one["versions"]
            elif "memory_mib" in one:
                sizes[one["server"]] = one["memory_mib"]
            else:
                if not found or found[-1]["round"] != one["round"] or found[-1]["request"] != one["request"]:
                    progress(f"round {one['round'] + 1}: {report.REQUESTS[one['request']]}")
                found.append(one)
        progress("measuring the plays")
        times = plays.measure(apps, min(rounds, PLAY_ROUNDS), progress)
    (WORK / "measured.json").write_text(json.dumps({"requests": found, "memory": sizes, "plays": times}))
    how = f"{rounds} rounds of {requests} requests of each kind (ten times as many for a static file, five times for an echo) over {CONNECTIONS} connections"
    return report.document(found, sizes, report.plays_table(times, plays.PLAYS), machine(versions), how)


def main() -> int:
    """Measure, print and write; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=QUOTED_ROUNDS, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--requests", type=int, default=QUOTED_REQUESTS, help="requests of each kind in a round (default: %(default)s)"
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.requests < CONNECTIONS:
        parser.error(f"at least 1 round and {CONNECTIONS} requests are required")
    load = os.getloadavg()[0]
    try:
        tables = run(options.rounds, options.requests)
    except (BenchError, KeyError, subprocess.CalledProcessError) as error:
        print(f"bench: {error if isinstance(error, BenchError) else f'run `make demo` first ({error!r})'}", file=sys.stderr)
        return 1
    print(f"\n{tables}\n")
    (WORK / "figures.md").write_text(f"{tables}\n")
    reason = quotable(options.rounds, options.requests, load)
    if reason:
        progress(f"docs/figures.md stays as it is, because {reason}; the tables are in .lab/bench/figures.md")
    else:
        FIGURES.write_text(report.placed(FIGURES.read_text(), tables))
        progress("docs/figures.md has the tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
