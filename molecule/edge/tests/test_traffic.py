"""Traffic through the edge: streams, bodies, guarded files, static files, headers."""

import hashlib
import json
import re
import threading
from itertools import islice

import httpx
import pytest
from outside import PATIENCE

testinfra_hosts = ["ansible://app"]

SECURITY = ("X-Content-Type-Options", "Referrer-Policy", "Permissions-Policy")


def first_lines(site, path: str, count: int, **headers: str) -> list[str]:
    """Return the first lines of a response that takes much longer than this waits."""
    with httpx.stream("GET", site.address + path, headers={"Host": site.name, **headers}, timeout=PATIENCE) as response:
        assert response.status_code == 200
        return list(islice(response.iter_lines(), count))


def memory(host, processes: str) -> dict[str, int]:
    """Return the resident memory in KiB of each process whose command line matches `processes`."""
    lines = host.check_output("ps -o pid=,rss= -p $(pgrep -d, -f %s)", processes).splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def test_a_stream_arrives_as_it_is_sent(site):
    # The app takes five minutes for all of it.
    lines = first_lines(site, "/api/stream/?chunks=151&delay=2", 3, **{"Accept-Encoding": "gzip"})
    assert [(json.loads(line)["chunk"], json.loads(line)["of"]) for line in lines] == [(1, 151), (2, 151), (3, 151)]


def test_events_arrive_as_they_are_sent_without_a_header_of_the_app(site):
    # The app takes five minutes for all of them.
    accept = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    lines = first_lines(site, "/api/events/?events=1000", 9, **accept)
    assert lines[1::3] == [f"data: {number} of 1000" for number in (1, 2, 3)]


def test_a_large_upload_stays_out_of_memory(site, host):
    size, block = 256 << 20, bytes(range(256)) * 4096
    digest, peak, done = hashlib.sha256(), {}, threading.Event()

    def body():
        for _ in range(size // len(block)):
            digest.update(block)
            yield block

    def watch():
        while not done.wait(0.3):
            for pid, kib in (memory(host, "[g]unicorn --config") | memory(host, "^nginx: ")).items():
                peak[pid] = max(peak.get(pid, 0), kib)

    before = memory(host, "[g]unicorn --config") | memory(host, "^nginx: ")
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = httpx.post(f"{site.address}/api/receive/", headers={"Host": site.name}, content=body(), timeout=PATIENCE)
    finally:
        done.set()
        watcher.join()
    assert answer.json() == {"size": size, "sha256": digest.hexdigest()}
    grown = {pid: kib - before[pid] for pid, kib in peak.items() if pid in before}
    print(f"grown by at most {max(grown.values())} KiB")
    assert max(grown.values()) < 24 << 10
    assert host.check_output("find /var/lib/nginx/sample-body /var/tmp -type f -size +1M") == ""


def test_other_paths_keep_the_small_limit_and_say_so(site):
    page = site.post("/api/echo/", content=b"x" * (11 << 20))
    assert page.status_code == 413
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>Too large</h1>" in page.text
    answer = httpx.post(
        f"{site.address}/api/echo/", headers={"Host": site.name, "Accept": "application/json"}, content=b"x" * (11 << 20)
    )
    assert answer.status_code == answer.json()["status"] == 413
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_a_guarded_file_is_sent_by_the_edge_and_reached_no_other_way(site, host):
    host.check_output("runuser -u sample -- sh -c %s", "umask 027; seq 100000 > /var/lib/sample/protected/report")
    answer = site.get("/api/download/report")
    assert answer.text.split() == [str(number) for number in range(1, 100001)]
    assert answer.headers["Content-Disposition"] == 'attachment; filename="report"'
    assert answer.headers["X-Release"] == site.release()
    part = site.get("/api/download/report", Range="bytes=0-3")
    assert (part.status_code, part.text) == (206, "1\n2\n")
    assert site.get("/protected/report").status_code == 404
    assert site.get("/api/download/nothing").status_code == 404
    host.check_output("runuser -u sample -- ln -sf /etc/hostname /var/lib/sample/protected/link")
    assert site.get("/api/download/link").status_code == 403


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_static_files_lie_there_compressed(encoding, site, host):
    path = re.search(r'/static/[^"]+\.[0-9a-f]{12}\.css', site.get("/").text)[0]
    file = "/opt/sample/live" + path + {"gzip": ".gz", "br": ".br"}[encoding]
    with httpx.stream("GET", site.address + path, headers={"Host": site.name, "Accept-Encoding": encoding}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["Content-Encoding"] == encoding
    assert hashlib.sha256(raw).hexdigest() == host.file(file).sha256sum
    assert "immutable" in answer.headers["Cache-Control"]
    assert len(raw) < len(site.get(path, **{"Accept-Encoding": "identity"}).content) / 2


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", "/static/nothing", "/api/download/report", "/ws/chat/"])
def test_each_security_header_is_there_once(path, site):
    headers = site.get(path).headers
    for name in SECURITY:
        assert len(headers.get_list(name)) == 1, (name, headers)
    assert len(headers.get_list("X-Request-ID")) == 1
    assert "nginx/" not in headers["Server"]
