"""The role metrics without a host: the text of its files, and whether dashboard and alerts match the exported metrics."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any

import pytest
import yaml
from asgictl.metrics import FAMILIES
from rendering import ROLES, argument_specs, defaults, evaluate, render

ROLE = "metrics"
FILES = ROLES / ROLE / "files"
ALONE = {"metrics_owner": "shop", "__metrics_record_texts": {"results": []}}


def on_host(expression: str, *, edge: bool = True, dropins: tuple[str, ...] = (), **variables: Any) -> Any:
    """Evaluate ``expression`` for a host with or without nginx, and with ``dropins`` of an earlier run."""
    names = ["prometheus-node-exporter", "prometheus-nginx-exporter", "mtail"]
    found = {
        "ansible_check_mode": False,
        **ALONE,
        "__metrics_nginx": {"results": [{"stat": {"exists": edge}}] * 2},
        "__metrics_packages": {"stdout_lines": ["mtail not-installed", "prometheus-node-exporter installed"]},
        "__metrics_dropins": {"results": [{"item": name, "stat": {"exists": name in dropins}} for name in names]},
    }
    return evaluate(ROLE, expression, **found | variables)


def dropin(name: str, **variables: Any) -> str:
    """Return the drop-in of the exporter called ``name``."""
    item = on_host(f"__metrics_exporters | selectattr('name', 'equalto', '{name}') | first", **variables)
    return render(ROLE, "metrics.conf.j2", item=item, **ALONE, **variables)


def test_specs_and_defaults_name_the_same_variables_with_the_same_values() -> None:
    specs = argument_specs(ROLE)
    assert {name: spec["default"] for name, spec in specs.items()} == defaults(ROLE)
    assert all(spec["description"] for spec in specs.values())
    assert argument_specs(ROLE, "validate") == specs


@pytest.mark.parametrize("name", ["prometheus-node-exporter", "prometheus-nginx-exporter", "mtail"])
def test_loopback_is_the_default_and_needs_no_filter(name: str) -> None:
    text = dropin(name)
    (start,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    assert re.search(r"--web\.listen-address=127\.0\.0\.1:\d+|--address=127\.0\.0\.1 ", start)
    assert "IPAddress" not in text


@pytest.mark.parametrize("name", ["prometheus-node-exporter", "prometheus-nginx-exporter", "mtail"])
def test_another_address_is_for_the_list_alone(name: str) -> None:
    text = dropin(name, metrics_listen_address="fd00::5", metrics_allowed_addresses=["fd00::2", "10.0.0.0/8"])
    assert re.search(r"--web\.listen-address=\[fd00::5\]:\d+|--address=fd00::5 ", text)
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost fd00::5 fd00::2 10.0.0.0/8\n" in text


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_all_addresses_are_not_for_everybody(address: str) -> None:
    text = dropin("mtail", metrics_listen_address=address, metrics_allowed_addresses=["10.0.0.2"])
    assert "\nIPAddressAllow=localhost 10.0.0.2\n" in text


@pytest.mark.parametrize(
    ("address", "own"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.5", "10.0.0.5")]
)
def test_the_host_itself_asks_where_it_listens(address: str, own: str) -> None:
    assert on_host("__metrics_own_host", metrics_listen_address=address) == own


def test_without_nginx_there_is_the_hosts_exporter_alone() -> None:
    assert on_host("__metrics_wanted | map(attribute='name') | list", edge=False) == ["prometheus-node-exporter"]


def test_an_inventory_that_leaves_with_other_values_moves_no_exporter() -> None:
    stays = on_host("__metrics_mine | combine({'owner': 'blog'})")
    record = b64encode(json.dumps(stays).encode()).decode()
    leaving = {"__metrics_record_texts": {"results": [{"content": record}]}, "__metrics_mine": {}}
    changed = {"metrics_node_exporter_port": 9200, "metrics_nginx_status_port": 9201, "metrics_listen_address": "10.0.0.5"}
    command = "(__metrics_exporters | first).command"
    assert on_host(command, **leaving, **changed) == on_host(command)
    assert render(ROLE, "metrics_status.conf.j2", **ALONE | leaving, **changed) == render(ROLE, "metrics_status.conf.j2", **ALONE)


def test_an_exporter_that_is_switched_off_is_stopped_if_the_role_has_set_it_up() -> None:
    dropins = ("prometheus-node-exporter", "mtail")
    assert on_host("__metrics_unwanted", dropins=dropins) == []
    assert on_host("__metrics_unwanted", dropins=dropins, metrics_requests_enabled=False) == ["mtail"]
    assert on_host("__metrics_unwanted", metrics_requests_enabled=False) == []


def test_the_status_page_is_for_this_host_alone() -> None:
    text = render(ROLE, "metrics_status.conf.j2", **ALONE)
    assert re.findall(r"listen (.*);", text) == ["127.0.0.1:9114"]


# --- Dashboard and alerts -------------------------------------------------------------------------------------------
def queries() -> list[str]:
    """Return every expression in the dashboard and in the alerts."""
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    shown += [note["expr"] for note in dashboard["annotations"]["list"] if "expr" in note]
    return shown + [rule["expr"] for group in rules for rule in group["rules"]]


def test_dashboard_and_alerts_ask_only_for_metrics_of_asgictl_that_exist() -> None:
    told = set(FAMILIES) | {"asgi_edge_requests_total", "asgi_edge_request_duration_seconds_bucket"}
    asked = set(re.findall(r"\basgi_\w+", " ".join(queries())))
    assert asked - told == set()
    assert set(FAMILIES) - asked == set(), "each is worth a panel or an alert"


def test_every_alert_says_how_bad_it_is_and_what_to_do_and_is_tested() -> None:
    rules = [rule for group in yaml.safe_load((FILES / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load((FILES / "alerts.test.yml").read_text())["tests"]
    tested = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert tested == {rule["alert"] for rule in rules}
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_panel_has_a_title_a_unit_and_the_chosen_data_source() -> None:
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"]
