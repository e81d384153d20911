"""What the exporters of both Debian releases report, and to which clients."""

import re
import socket
import time

import pytest
from exporters import NGINX, PORTS, REQUESTS, asked_for
from outside import wait_until

testinfra_hosts = ["ansible://app"]


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


def test_requests_are_counted_by_status_and_timed(metrics, site):
    def count(status: str) -> float:
        return metrics.value("asgi_edge_requests_total", REQUESTS, app="sample", status=status) or 0

    def spent() -> float:
        return metrics.value("asgi_edge_request_duration_seconds_sum", REQUESTS, app="sample") or 0

    good, missing, total = count("200"), count("404"), metrics.value("nginx_http_requests_total", NGINX)
    before, began = spent(), time.monotonic()
    for _ in range(3):
        site.get("/healthz").raise_for_status()
        site.get("/no-such-page")
    wait_until(lambda: count("404") == missing + 3 and count("200") >= good + 3)
    assert metrics.value("asgi_edge_request_duration_seconds_count", REQUESTS, app="sample") >= 6
    assert 0 < spent() - before <= time.monotonic() - began, "the requests came one after the other"
    assert metrics.value("nginx_http_requests_total", NGINX) >= total + 6


def test_the_service_is_sandboxed_and_quiet(host):
    score = re.search(r"exposure level for \S+: ([\d.]+)", host.check_output("systemd-analyze security asgi-metrics.service"))
    assert float(score[1]) <= 2.5
    assert host.check_output("journalctl --quiet --output=cat --unit=asgi-metrics --lines=5") == ""
    assert host.file("/var/lib/prometheus/node-exporter/asgi.prom").mode == 0o644


def test_the_dashboard_and_the_alerts_ask_only_for_what_this_debian_tells(metrics, site):
    """Another test, on one host, checks asgictl's metrics of a retiring release."""
    site.get("/healthz").raise_for_status()
    wait_until(lambda: metrics.values("asgi_edge_requests_total", REQUESTS))
    told = {name for name, _ in metrics.samples(*PORTS)}
    assert {name for name in asked_for() if name.startswith(("node_", "nginx_", "asgi_edge_"))} - told == set()
