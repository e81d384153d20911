"""Processor time of a request: at the app's workers directly, at the workers behind nginx, and at nginx.

`make bench` runs this on the lab host that `make demo` has booted. Processor time is the kernel's own count
(/proc/<pid>/schedstat, nanoseconds), so other load on the machine hardly disturbs it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Runs on the host with its own Python: keep-alive requests, one after the other, from a few threads.
CLIENT = """
import glob, http.client, json, os, socket, subprocess, sys, threading
path, count, threads = sys.argv[1], int(sys.argv[2]), 4

class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.path.realpath("/opt/sample/live/socket"))

def pids(name):
    return subprocess.run(["pgrep", *name], capture_output=True, text=True).stdout.split()

def spent(of):
    return sum(int(open(f"/proc/{pid}/schedstat").read().split()[0]) for pid in of) / 1000

def load(make, number):
    def work():
        connection = make("localhost")
        for _ in range(number // threads):
            connection.request("GET", path, headers={"Host": "localhost", "X-Forwarded-Proto": "http"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
    workers = [threading.Thread(target=work) for _ in range(threads)]
    [one.start() for one in workers]
    [one.join() for one in workers]

app, edge = pids(["--uid", "sample"]), pids(["--uid", "www-data", "nginx"])
result = {}
for name, make in (("direct", Unix), ("edge", http.client.HTTPConnection)):
    load(make, count // 10)
    before = spent(app), spent(edge)
    load(make, count)
    result[name] = [(after - b) / count for after, b in zip((spent(app), spent(edge)), before)]
print(json.dumps(result))
"""


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", default="/api/hello/", help="the path to request")
    parser.add_argument("--requests", type=int, default=8000, help="how many requests each way")
    options = parser.parse_args()
    command = [Path(sys.executable).parent / "ansible", "app", "--module-name", "ansible.builtin.command"]
    arguments = {"argv": ["python3", "-c", CLIENT, options.path, str(options.requests)]}
    environment = os.environ | {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    pipes = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*command, "--args", json.dumps(arguments)], check=False, **pipes)
    if done.returncode:
        print(f"bench: the lab host can't be measured (run `make demo` first):\n{done.stdout}{done.stderr}", file=sys.stderr)
        return 1
    answers = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]
    measured = json.loads(next(iter(answers.values()))["stdout"])
    direct, (behind, nginx) = measured["direct"][0], measured["edge"]
    print(f"processor time a request, GET {options.path}, {options.requests} requests each way")
    print(f"  worker, called directly     {direct:8.0f} µs")
    print(f"  worker, behind nginx        {behind:8.0f} µs   {behind / direct - 1:+.1%}")
    print(f"  nginx                       {nginx:8.0f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
