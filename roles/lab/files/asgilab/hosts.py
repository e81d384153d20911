"""A lab's hosts: find the broken ones and replace them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import time
from pathlib import Path

import images
import network
from lab import STATE, BrokenError, Lab, LabError, arguments_of, is_first, locked, processes, remove, status_of

HOUSEKEEPING_SECONDS = 10  # for a host's SSH server to answer, or for podman to clean up after a container


def provide(ident: str, wanted: dict[str, dict]) -> dict:
    """Make the lab's hosts run as wanted: keep what is sound, replace what is not; return what was done and the hosts."""
    lab = Lab(ident)
    told: list[str] = []
    with locked(lab.name):
        sweep(ident)
        refuse_shared_ports(wanted)
        for last in (False, True):
            try:
                return {"told": told, "hosts": settle(lab, wanted, told)}
            except BrokenError as error:
                if last:
                    raise LabError(f"The lab {lab.name} cannot be started, not even from nothing: {error}") from error
                told.append(f"rebuilt the lab: {error}")
                remove(lab, forget=False)
    raise AssertionError


def sweep(ident: str) -> None:
    """Remove the rules and addresses of labs that no longer exist: they could take precedence over this lab's."""
    for other in map(Lab, network.known(STATE / "networks") - {ident}):
        # The holder of the lock takes care of that lab, and a lab has no rules before its first process.
        with locked(other.name, wait=False) as mine:
            if mine and not any(arguments_of(process)[-1:] == [other.ident] and is_first(process) for process in processes()):
                other.network.clear()


def refuse_shared_ports(wanted: dict[str, dict]) -> None:
    """Raise LabError if two hosts would be published on the same port."""
    ports = [port for host in wanted.values() for port in (host["http"], host["https"]) if port]
    if len(ports) > len(set(ports)):
        raise LabError(
            f"Two lab hosts use the same port of this machine ({', '.join(map(str, ports))}): give each its own"
            " lab_publish_http and lab_publish_https, or 0 for any free one."
        )


def settle(lab: Lab, wanted: dict[str, dict], told: list[str]) -> dict[str, dict]:
    """Make the lab's hosts run as wanted; raise BrokenError if that requires a new lab."""
    if not lab.first():
        if lab.remains(forget=False):
            told.append("removed what was left of an earlier lab")
        remove(lab, forget=False)
        lab.start()
    with locked("machine"):
        subnet = lab.network.configure(lab.ident)
    hosts = {name: plan(lab, name, host, str(subnet[10 + number])) for number, (name, host) in enumerate(wanted.items())}
    found = containers(lab)
    faults = {container["Names"][0]: fault(lab, container, hosts) for container in found}
    if faults and all(faults.values()):
        raise BrokenError("; ".join(f"{name} {reason}" for name, reason in faults.items()))
    for name, reason in faults.items():
        if reason:
            # The first attempt only makes podman 5 notice that a supervisor is gone.
            with contextlib.suppress(BrokenError):
                lab.podman("rm", "--force", "--time", "0", name)
            lab.podman("rm", "--force", "--time", "0", "--ignore", name)
            told.append(f"removed {name}, which {reason}")
    refuse_strangers(lab, [container for container in found if not faults[container["Names"][0]]], hosts)
    for host in hosts.values():
        if host["name"] not in faults or faults[host["name"]]:
            run(lab, host)
            told.append(f"started {host['name']}")
    ports = {container["Names"][0]: published(container) for container in containers(lab)}
    return {name: host | {"ports": ports[host["name"]]} for name, host in hosts.items()}


def plan(lab: Lab, name: str, host: dict, address: str) -> dict:
    """Return what a host's container must be made from; a container made from something else is replaced."""
    # A host keeps its hardware address when it restarts; otherwise its neighbours would not reach it for a while.
    last = address.rsplit(".", 1)[1]
    made = host | {"name": f"{lab.name}-{name}", "address": address, "hardware_address": f"02:00:00:00:00:{int(last):02x}"}
    return made | {"digest": hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest(), "hostname": name}


def containers(lab: Lab) -> list[dict]:
    """Return the lab's containers from podman, in any state."""
    return json.loads(lab.podman("ps", "--all", "--format", "json"))


def published(container: dict) -> dict[str, int]:
    """Return the port of this machine for each published port of the container."""
    return {str(port["container_port"]): port["host_port"] for port in container["Ports"] or []}


def ways(container: dict, host: dict) -> set[tuple[int, str]]:
    """Return each port of this machine that leads to the container, with the address and port there."""
    return {(port, f"{host['address']}:{inner}") for inner, port in published(container).items()}


def fault(lab: Lab, container: dict, hosts: dict[str, dict]) -> str:
    """Return what is wrong with a container, or an empty text; podman's own report is not enough to tell."""
    name = container["Names"][0]
    host = {host["name"]: host for host in hosts.values()}.get(name)
    if not host:
        return "is not in the inventory"
    if container["Labels"].get("asgilab-digest") != host["digest"]:
        return "was made from something else"
    if container["State"] != "running":
        return f"is {container['State']}"
    proc = lab.first() / "root/proc"
    status = status_of(proc / str(container["Pid"]))
    if status.get("State", "Z").startswith("Z") or status["PPid"] != conmons(proc).get(container["Id"]):
        return "has lost its first process or its supervisor"
    if not images.ready(host["image"], container["ImageID"]):
        return "has lost its image"
    if not ways(container, host) <= lab.network.leads():
        return "has lost rules of the machine's firewall"
    if not greets(published(container).get("22", 0)):
        return "does not answer on its port for SSH"
    with contextlib.suppress(BrokenError):
        lab.podman("exec", name, "true")
        return ""
    return "runs no programs"


def conmons(proc: Path) -> dict[str, str]:
    """Return the process number of each container's supervisor."""
    found = {process.name: arguments_of(process) for process in processes(proc)}
    supervisors = {number: words for number, words in found.items() if words and words[0].endswith("conmon") and "-c" in words}
    return {words[words.index("-c") + 1]: number for number, words in supervisors.items()}


def greets(port: int) -> bool:
    """Return whether an SSH server answers on this port within seconds."""
    deadline = time.monotonic() + HOUSEKEEPING_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            if connection.recv(4) == b"SSH-":
                return True
        time.sleep(0.2)
    return False


def refuse_strangers(lab: Lab, sound: list[dict], hosts: dict[str, dict]) -> None:
    """Raise BrokenError if something runs in the lab, or a port leads into it, that podman knows nothing about."""
    proc = lab.first() / "root/proc"
    by_name = {host["name"]: host for host in hosts.values()}
    known = {container["Id"] for container in sound}
    wanted = {way for container in sound for way in ways(container, by_name[container["Names"][0]])}
    # podman takes a while to clean up after a host; if no sound host is left, there is no need to wait.
    deadline = time.monotonic() + (HOUSEKEEPING_SECONDS if sound else 0)
    while True:
        supervisors = {number for container, number in conmons(proc).items() if container in known}
        orphans = {process.name for process in processes(proc) if status_of(process).get("PPid") == "1"} - supervisors
        stray = lab.network.leads() - wanted
        if not orphans and not stray:
            return
        if time.monotonic() > deadline:
            words = [f"the process {' '.join(arguments_of(proc / number))[:80]}" for number in orphans]
            words += [f"the rule from port {port} to {target}" for port, target in stray]
            raise BrokenError(f"podman knows nothing about {', '.join(words)}")
        time.sleep(0.2)


def refuse_taken(port: int) -> None:
    """Raise LabError if somebody else listens on this port."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except OSError as error:
        raise LabError(
            f"Port {port} of this machine is in use ({error.strerror}), but a lab host needs it. Stop what uses it"
            " (see `ss -tlnp`), or choose another port: `make demo DEMO_PORT=8081 DEMO_HTTPS_PORT=8444`, or lab_publish_http"
            " and lab_publish_https in the inventory."
        ) from error


def run(lab: Lab, host: dict) -> None:
    """Start a host that does not exist."""
    for port in filter(None, (host["http"], host["https"])):
        refuse_taken(port)
    lab.podman(
        *("run", "--detach", "--name", host["name"], "--hostname", host["hostname"], "--systemd", "always", "--privileged"),
        *("--network", lab.name, "--ip", host["address"], "--mac-address", host["hardware_address"], "--no-hosts"),
        *("--publish", "127.0.0.1::22", "--publish", f"127.0.0.1:{host['http'] or ''}:80"),
        *("--publish", f"127.0.0.1:{host['https'] or ''}:443", "--cgroup-parent", f"/asgilab/{lab.ident}", "--pids-limit", "0"),
        *("--shm-size", "512m", "--ulimit", f"nofile={min(host['nofile'], 1024)}:{host['nofile']}"),
        *("--ulimit", f"nproc={host['nproc']}:{host['nproc']}", "--restart", "always", "--stop-timeout", "30"),
        *("--label", f"asgilab={lab.ident}", "--label", f"asgilab-digest={host['digest']}"),
        *(host["image"], "/sbin/init", *(f"systemd.mask={unit}" for unit in host["masked"])),
    )
