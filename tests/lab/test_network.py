"""Which firewall rules of the machine belong to a lab: other networks' rules are not touched."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/lab/files/asgilab"))

import network

OWN, OTHER = "nv_{}_10_200_1_0_nm24", "nv_89abcdef_10_200_2_0_nm24"


def rule(chain: str, handle: int, *expressions: dict) -> dict:
    return {"rule": {"family": "inet", "table": "netavark", "chain": chain, "handle": handle, "expr": list(expressions)}}


def equals(field: str, right: object) -> dict:
    return {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": field}}, "right": right}}


@pytest.fixture
def lab(tmp_path, monkeypatch) -> network.Network:
    """The network of a lab on a machine where netavark uses nftables and another network exists."""
    lab = network.Network("asgilab-01234567", "asgilab01234567", tmp_path)
    own = OWN.format(lab.id[:8])
    items = [{"chain": {"name": name}} for name in ("INPUT", own, f"{own}_dnat", OTHER, f"{OTHER}_dnat")]
    for number, (chain, addresses) in enumerate([(own, "10.200.1"), (OTHER, "10.200.2")]):
        items += [
            rule("FORWARD", 10 + number, equals("saddr", {"prefix": {"addr": f"{addresses}.0", "len": 24}}), {"accept": None}),
            rule("HOSTPORT", 20 + number, equals("dport", 8080 + number), {"jump": {"target": f"{chain}_dnat"}}),
            rule(
                f"{chain}_dnat",
                30 + number,
                equals("dport", 8080 + number),
                {"dnat": {"family": "ip", "addr": f"{addresses}.10", "port": 80}},
            ),
        ]
    monkeypatch.setattr(network, "run", lambda *command, **_: json.dumps({"nftables": items}) if command[0] == "nft" else "")
    return lab


def test_rules_of_nftables_are_known_by_chain_and_addresses(lab):
    own = OWN.format(lab.id[:8])
    assert lab.nft_deletions() == [
        "delete rule inet netavark FORWARD handle 10",
        "delete rule inet netavark HOSTPORT handle 20",
        f"delete rule inet netavark {own}_dnat handle 30",
        f"delete chain inet netavark {own}",
        f"delete chain inet netavark {own}_dnat",
    ]


def test_ports_lead_where_the_rules_say(lab):
    assert lab.leads() == {(8080, "10.200.1.10:80")}


def test_a_lab_gets_addresses_that_nobody_else_has(tmp_path, monkeypatch):
    first, second = (network.Network(f"asgilab-{ident}", f"asgilab{ident}", tmp_path) for ident in ("00000001", "00000801"))
    routes = [{"dst": "default"}, {"dst": "10.0.0.0/8"}, {"dst": "10.200.1.0/24"}, {"dst": "10.200.2.7"}]
    monkeypatch.setattr(network, "run", lambda *command, **_: json.dumps(routes) if command[0] == "ip" else "")
    assert str(first.configure("00000001")) == "10.200.3.0/24"
    assert str(second.configure("00000801")) == "10.200.4.0/24", "the first lab has no bridge yet, only its configuration"
    assert str(first.configure("00000001")) == "10.200.3.0/24"
