"""The client's address, the request's id, and their entries in the logs."""

import json
import re

import pytest
from outside import wait_until

testinfra_hosts = ["ansible://app"]

FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Port": "444",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;proto=https;host=evil.test",
    "X-Request-ID": "forged",
    "X-Accel-Redirect": "/protected/report",
}


def test_what_a_visitor_claims_is_ignored(site, host):
    gateway = host.check_output("ip -4 route show default").split()[2]
    answer = site.get("/api/whoami/", **FORGED)
    seen = answer.json()
    assert (seen["client"], seen["scheme"], seen["host"]) == (gateway, "http", "sample.test")
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize(
    ("claimed", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7, 127.0.0.1", "198.51.100.7"),
        ("nonsense", "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_names_the_client(claimed, client, inside):
    _, headers, body = inside(
        "/api/whoami/", **{"X-Forwarded-For": claimed, "X-Forwarded-Proto": "https", "X-Request-ID": "lb-1"}
    )
    assert (json.loads(body)["client"], json.loads(body)["scheme"]) == (client, "https")
    assert headers["X-Request-ID"] == "lb-1"


def test_a_trusted_proxy_passes_no_nonsense_on(inside):
    _, headers, body = inside("/api/whoami/", **{"X-Forwarded-Proto": "gopher", "X-Request-ID": 'a"b c'})
    assert json.loads(body)["scheme"] == "http"
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])


def test_both_logs_have_the_requests_name(site, host, log):
    answer = site.post("/api/receive/?token=hunter2", content=b"x" * 1000)
    name = answer.headers["X-Request-ID"]
    entry = log(name)
    assert (entry["method"], entry["path"], entry["status"], entry["host"]) == ("POST", "/api/receive/", "200", "sample.test")
    assert entry["release"] == site.release()
    assert entry["request_bytes"] > 1000
    assert float(entry["upstream_seconds"]) <= entry["seconds"] + 0.01
    assert "hunter2" not in json.dumps(entry)
    assert "hunter2" not in host.check_output("cat /var/log/nginx/sample/access.json")

    def in_journal() -> bool:
        """the app's line in the journal"""
        return f"[{name}]: received 1000 bytes" in host.check_output("journalctl --unit='sample@*' --lines=50 --output=cat")

    wait_until(in_journal)


def test_odd_requests_are_one_line_of_json_each(site, host):
    site.get('/nowhere/"%0a\\', **{"User-Agent": 'a"b\\c\té'.encode()})
    for line in host.check_output("tail -n 20 /var/log/nginx/sample/access.json").splitlines():
        json.loads(line)


def test_the_log_is_for_who_reads_debians_logs(host):
    log = host.file("/var/log/nginx/sample/access.json")
    assert (log.user, log.group, log.mode) == ("www-data", "adm", 0o640)
    assert "sample.test" in host.check_output("runuser -u nobody -G adm -- tail -n 1 /var/log/nginx/sample/access.json")


def test_the_log_is_rotated_by_size_and_goes_on(site, host):
    host.check_output("head -c 100000 /dev/zero | tr '\\0' '\\n' >> /var/log/nginx/sample/access.json")
    host.check_output("systemctl start logrotate.service")
    assert host.file("/var/log/nginx/sample/access.json.1").size > 100000
    site.get("/healthz")
    wait_until(lambda: '"path":"/healthz"' in host.check_output("tail -n 1 /var/log/nginx/sample/access.json"))
    log = host.file("/var/log/nginx/sample/access.json")
    assert (log.user, log.group, log.mode) == ("www-data", "adm", 0o640)
    assert "hourly" in host.check_output("systemctl cat logrotate.timer")
    assert "*-*-* *:00:00" in host.check_output("systemctl show --property=TimersCalendar logrotate.timer")
    assert "duplicate log entry" not in host.run("logrotate --debug /etc/logrotate.conf").stderr
