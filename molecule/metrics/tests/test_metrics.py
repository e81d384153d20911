"""What Prometheus gets from a host, who can get it, and that the dashboard and the alerts are made of it."""

import json
import re
import shutil
import socket

import pytest
import yaml
from conftest import NGINX, NODE, REQUESTS
from outside import ROOT, wait_until

testinfra_hosts = ["ansible://app"]

FILES = ROOT / "roles/metrics/files"
PORTS = {NODE: "prometheus-node-exporter", NGINX: "prometheus-nginx-exporter", REQUESTS: "mtail"}


@pytest.mark.parametrize("port", PORTS)
def test_each_exporter_answers_on_loopback_and_nowhere_else(host, metrics, variables, port):
    assert metrics.text(port)
    (listening,) = {line.split()[3] for line in host.check_output("ss -Hltn sport = :%s", str(port)).splitlines()}
    assert listening == f"127.0.0.1:{port}"
    with pytest.raises(OSError):
        socket.create_connection((variables["lab_address"], port), timeout=3)


def test_nginx_tells_its_numbers_to_the_host_alone(host, variables):
    (listening,) = {line.split()[3] for line in host.check_output("ss -Hltn sport = :9114").splitlines()}
    assert listening == "127.0.0.1:9114"


def test_the_live_release_and_its_worker(metrics, live):
    release = live()
    assert metrics.value("asgi_collect_success", app="sample") == 1
    assert metrics.value("asgi_live_release_info", app="sample", release=release) == 1
    assert metrics.value("asgi_instance_up", release=release, state="live") == 1
    assert metrics.value("asgi_workers", release=release) == metrics.value("asgi_workers_wanted") == 1
    assert 20 << 20 < metrics.value("asgi_worker_memory_bytes", release=release) < 400 << 20
    assert 0 <= metrics.value("asgi_worker_age_seconds", release=release) < 3600
    assert metrics.value("asgi_last_deploy_success") == 1
    assert metrics.value("asgi_problems") == metrics.value("asgi_retiring_instances") == 0


def test_requests_are_counted_by_status_and_timed(metrics, site):
    def count(status: str) -> float:
        return metrics.value("asgi_edge_requests_total", REQUESTS, app="sample", status=status) or 0

    good, missing, total = count("200"), count("404"), metrics.value("nginx_http_requests_total", NGINX)
    for _ in range(3):
        site.get("/healthz").raise_for_status()
        site.get("/no-such-page")
    wait_until(lambda: count("404") == missing + 3 and count("200") >= good + 3)
    timed = metrics.value("asgi_edge_request_duration_seconds_count", REQUESTS, app="sample")
    assert timed >= 6
    assert metrics.value("asgi_edge_request_duration_seconds_sum", REQUESTS, app="sample") < timed * 10
    assert metrics.value("nginx_http_requests_total", NGINX) >= total + 6


def test_a_deploy_that_failed_is_told_and_the_live_release_goes_on(metrics, playbook, live, tmp_path):
    release, source = live(), tmp_path / "broken"
    shutil.copytree(ROOT / "sample_app", source, ignore=shutil.ignore_patterns("var", "__pycache__", ".*_cache"))
    with (source / "config/asgi.py").open("a") as file:
        file.write("\nraise RuntimeError('broken on purpose')\n")
    playbook("release", fails=True, django_asgi_source=str(source))
    wait_until(lambda: metrics.value("asgi_last_deploy_success") == 0)
    assert metrics.value("asgi_deploys_total", kind="deploy", outcome="failed") == 1
    failed, succeeded = (
        metrics.value("asgi_last_deploy_timestamp_seconds", kind="deploy", outcome=outcome) for outcome in ("failed", "succeeded")
    )
    assert failed > succeeded
    assert metrics.value("asgi_last_deploy_duration_seconds", kind="deploy", outcome="failed") > 0
    assert metrics.labels("asgi_live_release_info", "release") == {release}


def test_a_release_that_retires_is_told_with_its_websocket_and_the_new_one_with_its_workers(metrics, playbook, site, live):
    before = live()
    with site.websocket() as websocket:
        websocket.send("Hi")
        websocket.recv(timeout=10)
        playbook("release", django_asgi_workers=2)
        release = live()
        # The next collection after the deploy tells of the retirement too.
        deadline = "asgi_instance_retire_deadline_timestamp_seconds"
        wait_until(lambda: metrics.value(deadline, release=before) is not None)
        assert metrics.value("asgi_live_release_info", release=release) == 1
        assert metrics.value("asgi_workers", release=release, state="live") == 2
        assert metrics.value("asgi_workers_wanted") == 2
        assert len(metrics.values("asgi_worker_memory_bytes", release=release)) == 2
        assert metrics.value("asgi_retiring_instances") == 1
        assert metrics.value("asgi_instance_connections", release=before, state="retiring") == 1
        now = float(metrics.host.check_output("date +%s"))
        assert now < metrics.value(deadline, release=before) <= now + 30
        check_every_query(metrics)
    wait_until(lambda: metrics.value("asgi_retiring_instances") == 0, 40)
    assert metrics.values("asgi_instance_connections", release=before) == []
    assert metrics.value("asgi_last_deploy_success") == 1
    assert metrics.value("asgi_deploys_total", kind="deploy", outcome="succeeded") == 2


def check_every_query(metrics) -> None:
    """Fail if the dashboard or an alert asks for a metric, or a label, that is not among what is told right now."""
    told: dict[str, set] = {}
    for name, labels in metrics.samples(*PORTS):
        told.setdefault(name, {"instance"}).update(label for label, _ in labels)
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [note["expr"] for note in dashboard["annotations"]["list"]]
    rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    queries += [rule["expr"] for group in rules for rule in group["rules"]]
    asked = set(re.findall(r"\b(?:asgi|nginx|node)_\w+", " ".join(queries)))
    assert asked - set(told) == set()
    for name, matchers in re.findall(r"\b((?:asgi|nginx|node)_\w+)\{([^}]*)\}", " ".join(queries)):
        assert set(re.findall(r"(\w+)[=!]", matchers)) <= told[name], name


def test_promtool_finds_no_fault(host, metrics):
    host.check_output("test -x /usr/bin/promtool")
    for file in FILES.glob("alerts*.yml"):
        host.check_output("printf %%s %s > /tmp/%s", file.read_text(), file.name)
    assert "SUCCESS" in host.check_output("cd /tmp && promtool check rules alerts.yml")
    assert "SUCCESS" in host.check_output("cd /tmp && promtool test rules alerts.test.yml 2>&1")
    assert host.run("asgictl metrics | promtool check metrics").rc == 0
    script = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"
    checked = host.run("python3 -c %s http://127.0.0.1:3903/metrics | grep -E ' asgi_|^asgi_' | promtool check metrics", script)
    assert "asgi_" not in checked.stdout + checked.stderr.replace("no help text", "")


def test_the_service_is_sandboxed_and_quiet(host):
    score = re.search(r"exposure level for \S+: ([\d.]+)", host.check_output("systemd-analyze security asgi-metrics.service"))
    assert float(score[1]) <= 2.5
    assert host.check_output("journalctl --quiet --output=cat --unit=asgi-metrics --lines=5") == ""
    assert host.file("/var/lib/prometheus/node-exporter/asgi.prom").mode == 0o644


def test_an_address_of_the_network_is_for_the_list_alone(playbook, metrics, variables, host):
    own = variables["lab_address"]
    playbook("metrics", metrics_listen_address=own, metrics_allowed_addresses=["192.0.2.1"])
    with pytest.raises(OSError):
        socket.create_connection((own, NODE), timeout=3)
    gateway = re.search(r"default via (\S+)", host.check_output("ip route"))[1]
    playbook("metrics", metrics_listen_address=own, metrics_allowed_addresses=[gateway])
    for port in PORTS:
        socket.create_connection((own, port), timeout=3).close()
    host.check_output("! timeout 2 bash -c '</dev/tcp/127.0.0.1/9100'")


def test_back_to_loopback_and_away(playbook, metrics, host):
    playbook("metrics", metrics_requests_enabled=False)
    assert metrics.value("asgi_collect_success") == 1
    assert not host.service("mtail").is_running
    assert not host.service("mtail").is_enabled
    playbook("../molecule/metrics/remove")
    assert host.check_output("ss -Hltn | grep -E ':(9100|9113|9114|3903) ' || true") == ""
    assert not host.file("/var/lib/prometheus/node-exporter/asgi.prom").exists
    assert not host.file("/etc/systemd/system/asgi-metrics.timer").exists
    host.check_output("nginx -t -q")
