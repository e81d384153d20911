"""Metrics of deploys, and the dashboard and the alerts that use them."""

import re
import shutil
import socket

import pytest
from exporters import FILES, NODE, PORTS, asked_for
from outside import PATIENCE, ROOT, wait_until

testinfra_hosts = ["ansible://trixie"]


def test_the_live_release_and_its_workers(metrics, live):
    release = live()
    assert metrics.value("asgi_collect_success", app="sample") == 1
    assert metrics.value("asgi_live_release_info", app="sample", release=release) == 1
    assert metrics.value("asgi_instance_up", release=release, state="live") == 1
    assert metrics.value("asgi_workers", release=release) == metrics.value("asgi_workers_wanted") == 2
    memory, ages = (metrics.values(f"asgi_worker_{name}", release=release) for name in ("memory_bytes", "age_seconds"))
    assert len(memory) == len(ages) == 2
    assert 20 << 20 < min(memory) <= max(memory) < 400 << 20
    assert 0 <= min(ages) <= max(ages) < 3600
    assert metrics.value("asgi_last_deploy_success") == 1
    assert metrics.value("asgi_problems") == metrics.value("asgi_retiring_instances") == 0


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


def test_a_release_that_retires_is_told_with_its_websocket_and_the_new_one_with_its_workers(
    metrics, playbook, site, live, variables
):
    before = live()
    with site.websocket() as websocket:
        websocket.send("Hi")
        websocket.recv(timeout=PATIENCE)
        playbook("release", django_asgi_keepalive=7)
        release = live()
        # The next collection after the deploy reports the retirement too.
        deadline = "asgi_instance_retire_deadline_timestamp_seconds"
        wait_until(lambda: metrics.value(deadline, release=before) is not None)
        assert metrics.value("asgi_live_release_info", release=release) == 1
        assert metrics.value("asgi_workers", release=release, state="live") == 2
        assert metrics.value("asgi_workers_wanted") == 2
        assert len(metrics.values("asgi_worker_memory_bytes", release=release)) == 2
        assert metrics.value("asgi_retiring_instances") == 1
        assert metrics.value("asgi_instance_connections", release=before, state="retiring") == 1
        now = float(metrics.host.check_output("date +%s"))
        assert now < metrics.value(deadline, release=before) <= now + variables["django_asgi_retire_seconds"]
        told: dict[str, set] = {}
        for name, labels in metrics.samples(*PORTS):
            told.setdefault(name, {"instance"}).update(label for label, _ in labels)
        for name, labels in asked_for().items():
            assert name in told and labels <= told[name], f"{name} is not exported, or lacks one of the labels {labels}"
    wait_until(lambda: metrics.value("asgi_retiring_instances") == 0)
    assert metrics.values("asgi_instance_connections", release=before) == []
    assert metrics.value("asgi_last_deploy_success") == 1
    assert metrics.value("asgi_deploys_total", kind="deploy", outcome="succeeded") == 2


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


def test_an_address_of_the_network_is_for_the_list_alone(playbook, metrics, variables, host):
    own = variables["lab_address"]
    playbook("metrics", metrics_listen_address=own, metrics_allowed_addresses=["192.0.2.1"])
    with pytest.raises(OSError):
        socket.create_connection((own, NODE), timeout=3)
    gateway = re.search(r"default via (\S+)", host.check_output("ip route"))[1]
    playbook("metrics", metrics_listen_address=own, metrics_allowed_addresses=[gateway])
    for port in PORTS:
        socket.create_connection((own, port), timeout=PATIENCE).close()
    host.check_output("! timeout 2 bash -c '</dev/tcp/127.0.0.1/9100'")


def test_back_to_loopback_and_away(playbook, metrics, host):
    playbook("metrics", metrics_requests_enabled=False)
    assert metrics.value("asgi_collect_success") == 1
    assert not host.service("mtail").is_running
    assert not host.service("mtail").is_enabled
    playbook("../molecule/edge/remove_metrics")
    assert host.check_output("ss -Hltn | grep -E ':(9100|9113|9114|3903) ' || true") == ""
    assert not host.file("/var/lib/prometheus/node-exporter/asgi.prom").exists
    assert not host.file("/etc/systemd/system/asgi-metrics.timer").exists
    host.check_output("nginx -t -q")
