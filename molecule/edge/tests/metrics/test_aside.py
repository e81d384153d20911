"""Two independent inventories read one host's exporters: neither takes anything from the other."""

import json

import pytest
from outside import Playbooks

testinfra_hosts = ["ansible://bookworm"]

STATE = r"""
find /etc/systemd/system /etc/mtail /etc/nginx /etc/asgi-metrics/sample.json -type f -exec sha256sum {} + | grep -v blog | sort
systemctl show --property=MainPID,UnitFileState prometheus-node-exporter prometheus-nginx-exporter mtail
systemctl is-active asgi-metrics.timer
"""


@pytest.fixture
def blog(variables, tmp_path):
    """A function that writes the second inventory, with `settings`, and returns a runner of its playbooks."""

    def inventory(**settings: object) -> Playbooks:
        reached = {name: value for name, value in variables.items() if name.startswith("ansible_")}
        hosts = {variables["inventory_hostname"]: reached}
        file = tmp_path / "hosts.yml"
        file.write_text(json.dumps({"app": {"hosts": hosts, "vars": {"django_asgi_name": "blog", **settings}}}))
        return Playbooks(str(file), "app")

    return inventory


def test_neither_inventory_takes_anything_from_the_other(host, playbook, blog):
    before = host.check_output(STATE)
    second = blog(metrics_nginx_exporter_enabled=False, metrics_requests_enabled=False, metrics_interval_seconds=30)
    second("metrics")
    assert host.check_output(STATE) == before
    assert "changed=0" in playbook("metrics")
    assert "changed=0" in playbook("metrics", "--check")
    assert host.check_output(STATE) == before
    other_values = blog(metrics_node_exporter_port=9200)
    output = other_values("metrics", fails=True)
    assert "metrics_node_exporter_port" in output
    assert "Nothing was changed" in output
    other_values("../molecule/edge/remove_metrics")
    assert host.check_output(STATE) == before
    assert not host.file("/etc/asgi-metrics/blog.json").exists
