"""Clones of the project with one lab each, in a separate state directory, and what a user can see of them."""

import contextlib
import hashlib
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable
MASKED = ["systemd-sysctl.service", "systemd-modules-load.service", "systemd-udevd.service", "systemd-udev-trigger.service"]
IMAGE = "localhost/asgilab:healing"


def as_root(*command: str | Path, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run a command as root and return the result; the error of a failed command holds its output."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n", "--"]
    done = subprocess.run([*prefix, *map(str, command)], capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def greeting(port: int) -> str:
    """Return the name of the host that answers on this port of the machine; empty if none does."""
    with contextlib.suppress(OSError, IndexError), socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        return connection.recv(100).decode().split()[-1]
    return ""


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until the condition holds, for at most this many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {inspect.getsource(condition)}"
        time.sleep(0.1)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Clone:
    """A clone of the project in this directory, with one lab, whose first host is published on this port."""

    def __init__(self, directory: Path, state: Path, port: int) -> None:
        """Copy what a lab needs; other hosts than the first are published on any free port."""
        for part in ("ansible.cfg", "galaxy.yml", "tools", "playbooks", "plugins", "roles/lab"):
            target = directory / part
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, target, symlinks=True, ignore=ignored) if (ROOT / part).is_dir() else shutil.copy(
                ROOT / part, target
            )
        inventory = directory / "inventory/lab"
        inventory.mkdir(parents=True)
        host = {"lab_publish_http": port, "lab_base": "debian12"}
        (inventory / "hosts.yml").write_text(json.dumps({"all": {"children": {"lab": {"hosts": {"one": host}}}}}))
        self.hosts = ["one"]
        self.directory = directory
        self.state = state
        self.port = port
        self.program = [PYTHON, "-B", directory / "roles/lab/files/asgilab"]
        # The tests of the lab itself bring their image along.
        plain = {**os.environ, "LAB_IMAGE": ""}
        self.environment = {**plain, "ASGI_LAB_STATE": str(state), "ANSIBLE_CONFIG": str(directory / "ansible.cfg")}
        self.ident = hashlib.sha256(str(inventory.resolve()).encode()).hexdigest()[:8]
        self.name = f"asgilab-{self.ident}"
        self.lab = state / "labs" / self.ident

    def call(self, *arguments: str, wanted: dict | None = None) -> dict:
        """Run the lab's program, as the role does, and return what it prints."""
        done = subprocess.run(
            [*self.program, *arguments],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout)

    def boot(self) -> list[str]:
        """Boot the lab as make demo and make test do, and check that its host answers; return what was done."""
        (self.directory / ".lab" / self.ident).mkdir(parents=True, exist_ok=True)
        recipe = {"command": ["sh", "-c", 'cp "$1" "$0"'], "sources": [str(self.state.parent / "base.tar")], "advice": ""}
        told = self.call("images", self.ident, wanted={IMAGE: recipe})["told"]
        host = {"image": IMAGE, "http": self.port, "https": 0, "nofile": 1024, "nproc": 4096, "masked": MASKED}
        answer = self.call(
            "hosts", self.ident, wanted={name: host | {"http": self.port * (name == "one")} for name in self.hosts}
        )
        for name in self.hosts:
            if f"started {self.name}-{name}" in answer["told"]:
                self.serve(name)
            for port in ("22", "80"):
                self.answers(answer["hosts"][name]["ports"][port], f"{self.name}-{name}")
        return told + answer["told"]

    def answers(self, port: int, expected: str, seconds: float = 60) -> None:
        """Wait until the expected host answers on this port of the machine; a daemon that just started takes a moment."""
        deadline = time.monotonic() + seconds
        while (answer := greeting(port)) != expected:
            assert time.monotonic() < deadline, f"on port {port} answers {answer or 'nobody'}, not {expected}\n{self.report()}"
            time.sleep(0.1)

    def serve(self, name: str) -> None:
        """Wait until a host has booted, and start a daemon on it that greets every client with the host's name."""
        wait_until(lambda: self.execute("systemctl is-system-running --wait", name).stdout.strip() in ("running", "degraded"))
        daemon = f"/usr/sbin/sshd -p 22 -p 80 -o VersionAddendum={self.name}-{name}"
        self.execute(f"systemctl stop ssh.service; ssh-keygen -A && mkdir -p /run/sshd && {daemon}", name, check=True)

    def execute(self, script: str, name: str = "one", check: bool = False) -> subprocess.CompletedProcess:
        """Run a shell script on a host."""
        return self.podman("exec", f"{self.name}-{name}", "sh", "-c", script, check=check)

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run the lab's podman by the role's wrapper."""
        wrapper = self.directory / "roles/lab/files/podman"
        done = subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=False, env=self.environment)
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
        return done

    def clean(self, *prefix: str) -> subprocess.CompletedProcess:
        """Run make clean's program."""
        command = [*prefix, PYTHON, self.directory / "tools/clean.py"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)

    def container(self, name: str = "one") -> dict:
        """Return podman's description of a host's container."""
        return json.loads(self.podman("container", "inspect", f"{self.name}-{name}").stdout)[0]

    def first(self) -> str:
        """Return the number of the lab's first process."""
        return as_root("cat", self.lab / "first").stdout

    def rules(self) -> list[str]:
        """Return the lab's iptables rules, as iptables-save prints them."""
        chain = hashlib.sha512(self.name.encode()).hexdigest()[:13].upper()
        lines = as_root("iptables-save").stdout.splitlines()
        subnets = {line.split()[3] for line in lines if line.startswith("-A POSTROUTING -s") and chain in line}
        words = (chain, self.name, f"asgilab{self.ident}", *subnets)
        return [line for line in lines if line.startswith(("-A", ":")) and any(word in line for word in words)]

    def traces(self) -> list[str]:
        """Return every trace of the lab on this machine, found without the lab's own program."""
        inside = [
            line for line in as_root("ps", "-eo", "pid,args").stdout.splitlines() if self.name in line or str(self.lab) in line
        ]
        found = [f"process {line}" for line in inside if "ps -eo" not in line]
        found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if self.ident in line]
        found += [f"address {line}" for line in as_root("ip", "-oneline", "address").stdout.splitlines() if self.ident in line]
        found += [f"rule {line}" for line in self.rules()]
        listening = as_root("ss", "-Hltn", f"sport = :{self.port}").stdout
        found += [f"port {listening}"] if listening else []
        cgroups = as_root("find", "/sys/fs/cgroup", "-type", "d", "-name", self.ident).stdout.splitlines()
        found += [f"cgroup {path}" for path in cgroups]
        return found + [f"directory {self.lab}" for _ in range(self.lab.exists())]

    def report(self) -> str:
        """Return what helps to find out why the lab is not as it should be."""
        return "\n".join([*self.traces(), self.podman("ps", "--all", check=False).stdout])
