"""A lab's network: its addresses, and the rules that netavark writes for it into the machine's firewall."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import shlex
import subprocess
from pathlib import Path

# A lab gets one of these 2,048 networks. A wider route such as a VPN's 10.0.0.0/8 cannot be avoided; ours is narrower and wins.
POOL = list(ipaddress.ip_network("10.200.0.0/13").subnets(new_prefix=24))
NAME = re.compile(r"\basgilab-([0-9a-f]{8})\b")
BRIDGE = re.compile(r"asgilab([0-9a-f]{8})")


class Network:
    """The network of the lab with this name; directory holds the configuration of every lab's network."""

    def __init__(self, name: str, bridge: str, directory: Path) -> None:
        """Set the names that netavark uses for what belongs to the network."""
        self.name = name
        self.bridge = bridge
        self.file = directory / f"{name}.json"
        self.id = hashlib.sha256(name.encode()).hexdigest()
        # As netavark derives them from a network's name for iptables, and from its id for nftables.
        digest = hashlib.sha512(name.encode()).hexdigest()[:13].upper()
        self.chains = [f"NETAVARK-{digest}", f"NETAVARK-DN-{digest}"]
        self.prefix = f"nv_{self.id[:8]}_"

    def subnet(self) -> ipaddress.IPv4Network:
        """Return the network's addresses; raise FileNotFoundError, ValueError or KeyError if it has none."""
        return ipaddress.ip_network(json.loads(self.file.read_text())["subnets"][0]["subnet"])

    def configure(self, ident: str) -> ipaddress.IPv4Network:
        """Give the network unused addresses unless it has some; return them. The caller holds the machine's lock."""
        try:
            return self.subnet()
        except (FileNotFoundError, ValueError, KeyError):
            taken = occupied(self.file.parent)
        start = int(ident, 16) % len(POOL)
        subnet = next(net for net in POOL[start:] + POOL[:start] if not any(net.overlaps(other) for other in taken))
        configuration = {
            "name": self.name,
            "id": self.id,
            "driver": "bridge",
            "network_interface": self.bridge,
            "subnets": [{"subnet": str(subnet), "gateway": str(subnet[1])}],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(configuration))
        return subnet

    def own_rules(self) -> list[tuple[str, str]]:
        """Return the (table, rule) pairs of iptables that are this network's."""
        rules = saved_rules()
        # A rule with nothing but addresses is identified by those that go to the network's own chain.
        own = {rule.split()[3] for _, rule in rules if rule.startswith("-A POSTROUTING -s") and rule.split()[-1] in self.chains}
        own |= {self.bridge, *self.chains}
        return [
            (table, rule)
            for table, rule in rules
            if own & set(words := shlex.split(rule)) or any(f"name: {self.name} " in word for word in words)
        ]

    def nft(self) -> tuple[list[dict], list[str]]:
        """Return this network's rules and the names of its chains in netavark's own table of nftables."""
        listing = run("nft", "--json", "list", "table", "inet", "netavark")
        items = json.loads(listing)["nftables"] if listing else []
        chains = [item["chain"]["name"] for item in items if "chain" in item and item["chain"]["name"].startswith(self.prefix)]
        # A rule with nothing but addresses is identified by those in the name of a chain: nv_0123abcd_10_200_1_0_nm24.
        found = {re.match(r"nv_[0-9a-f]+_([0-9_]+)_nm", chain) for chain in chains}
        words = [f'"{match[1].replace("_", ".")}"' for match in found if match] + [self.bridge, self.prefix]
        rules = [item["rule"] for item in items if "rule" in item]
        return [rule for rule in rules if any(word in json.dumps(rule) for word in words)], chains

    def leads(self) -> set[tuple[int, str]]:
        """Return each port of this machine that a rule forwards to a host of this network, with the address and port there."""
        found = set()
        for _, rule in self.own_rules():
            if match := re.search(r"--dport (\d+) .*-j DNAT --to-destination (\S+)", rule):
                found.add((int(match[1]), match[2]))
        for rule in self.nft()[0]:
            text = json.dumps(rule["expr"])
            port, target = re.search(r'"dport".*?"right": (\d+)', text), re.search(r'"dnat": (\{.*?\})', text)
            if port and target:
                there = json.loads(target[1])
                found.add((int(port[1]), f"{there['addr']}:{there['port']}"))
        return found

    def clear(self) -> None:
        """Remove the network's rules, its bridge and its configuration."""
        # Retry if others change the tables meanwhile: each set of deletions succeeds or fails as a whole.
        for _ in range(10):
            tables: dict[str, list[str]] = {}
            for table, rule in self.own_rules():
                tables.setdefault(table, []).append(f"-D{rule.removeprefix('-A')}")
            for chain in own_chains(self.chains):
                tables.setdefault("nat", []).append(f"-X {chain}")
            for table, lines in tables.items():
                run("iptables-restore", "--noflush", "--wait", "10", text="\n".join([f"*{table}", *lines, "COMMIT", ""]))
            commands = self.nft_deletions()
            if commands:
                run("nft", "--file", "-", text="\n".join(commands))
            if not tables and not commands:
                break
        if Path("/sys/class/net", self.bridge).exists():
            run("ip", "link", "delete", self.bridge)
        self.file.unlink(missing_ok=True)

    def nft_deletions(self) -> list[str]:
        """Return the commands that delete this network's rules and chains from netavark's own table of nftables."""
        rules, chains = self.nft()
        commands = [f"delete rule inet netavark {rule['chain']} handle {rule['handle']}" for rule in rules]
        return commands + [f"delete chain inet netavark {chain}" for chain in chains]

    def remains(self) -> list[str]:
        """Describe everything that exists of the network."""
        left = [f"rule of iptables: {rule}" for _, rule in self.own_rules()]
        left += [f"chain of iptables: {chain}" for chain in own_chains(self.chains)]
        left += [f"rule of nftables, which this removes: nft {command}" for command in self.nft_deletions()]
        left += [f"address and bridge {self.bridge}" for _ in range(Path("/sys/class/net", self.bridge).exists())]
        return left + [f"file {self.file}" for _ in range(self.file.exists())]


def occupied(directory: Path) -> list[ipaddress.IPv4Network]:
    """Return the networks that this machine has routes to, and those of all labs."""
    found = [route["dst"] for route in json.loads(run("ip", "-4", "-json", "route", "show", "table", "all") or "[]")]
    for file in directory.glob("*.json"):
        found += re.findall(r'"subnet": *"([0-9./]+)"', file.read_text())
    networks = [ipaddress.ip_network(text, strict=False) for text in found if text != "default"]
    return [net for net in networks if net.prefixlen > 13]


def known(directory: Path) -> set[str]:
    """Return the ids of all labs that have left a trace in the machine's network."""
    names = {found[1] for _, rule in saved_rules() if (found := NAME.search(rule))}
    names |= {found[1] for path in Path("/sys/class/net").iterdir() if (found := BRIDGE.fullmatch(path.name))}
    return names | {found[1] for path in directory.glob("*.json") if (found := NAME.search(path.name))}


def saved_rules() -> list[tuple[str, str]]:
    """Return all rules of iptables, with their tables."""
    table, rules = "", []
    for line in run("iptables-save").splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            rules.append((table, line))
    return rules


def own_chains(names: list[str]) -> list[str]:
    """Return the names that are chains of iptables' table nat."""
    chains = {line[1:].split()[0] for line in run("iptables-save", "-t", "nat").splitlines() if line.startswith(":")}
    return [name for name in names if name in chains]


def run(*command: str, text: str | None = None) -> str:
    """Run a command and return its output; empty if it fails or is missing, because callers check what is left."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
