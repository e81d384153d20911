"""The runtime with a hanging worker, an app that keeps dying, and large temporary files."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
from outside import PATIENCE, wait_until

testinfra_hosts = ["ansible://trixie"]

UPLOAD = """
import socket, time
connection = socket.socket(socket.AF_UNIX)
connection.connect("/opt/sample/live/socket")
connection.sendall(b"POST /healthz HTTP/1.1\\r\\nHost: sample.test\\r\\nContent-Length: 9000000\\r\\n\\r\\n" + bytes(8000000))
time.sleep(3600)
"""


def status(host) -> dict:
    """Return asgictl's status of the live release."""
    return json.loads(host.check_output("asgictl --app sample --json status --quick"))["live"]


def worker_pids(host) -> set[int]:
    """Return the process ids of the live release's workers."""
    return {worker["pid"] for worker in status(host)["workers"]}


def service(host, name: str) -> str:
    """Return a property of the live release's unit."""
    return host.check_output("systemctl show --value --property=%s sample@%s.service", name, status(host)["release"])


def test_a_worker_whose_loop_hangs_is_replaced_while_the_other_one_serves(host, site):
    # nginx could send a request over an idle connection to the hung worker.
    wait_until(lambda: status(host)["connections"] == 0)
    main = service(host, "MainPID")
    hung, other = worker_pids(host)
    host.check_output("kill -STOP %s", str(hung))
    answers = []

    def replaced() -> bool:
        """The hung worker is gone."""
        if hung not in worker_pids(host):
            return True
        answers.append(site.get("/api/whoami/").json()["pid"])
        return False

    wait_until(replaced)
    # The last answer may come from the replacement.
    assert set(answers[:-1]) == {other}, "only the other worker answered during the hang"
    wait_until(lambda: len(worker_pids(host)) == 2)
    assert other in worker_pids(host)
    assert service(host, "MainPID") == main
    assert re.search(rf"WORKER TIMEOUT \(pid:{hung}\)", host.check_output("journalctl --no-pager --unit='sample@*'"))


def test_an_app_that_dies_at_its_start_is_tried_until_it_lives(host, site):
    settings = "/opt/sample/live/gunicorn.conf.py"
    assert service(host, "StartLimitIntervalUSec") == "0"
    host.check_output(f"mv {settings} {settings}.away")
    try:
        host.check_output("systemctl kill --signal=KILL sample@%s.service", status(host)["release"])
        with ThreadPoolExecutor() as pool:
            # systemd's default limit is five starts in ten seconds.
            wait_until(lambda: int(service(host, "NRestarts")) >= 7)
            waiting = pool.submit(httpx.get, site.address + "/healthz", headers={"Host": site.name}, timeout=PATIENCE)
            host.check_output(f"mv {settings}.away {settings}")
            assert waiting.result().status_code == 200, "a request that waited was answered after the restart"
    finally:
        host.run(f"mv {settings}.away {settings}")
    wait_until(lambda: len(worker_pids(host)) == 2)


def test_a_large_body_is_spooled_to_disk_where_the_worker_and_manage_py_do(host):
    where = "import tempfile; print(tempfile.gettempdir())"
    assert host.check_output("asgictl --app sample manage shell --no-imports --command %s", where).splitlines()[-1] == "/var/tmp"
    host.check_output("systemd-run --quiet --unit=slow-upload python3 -c %s", UPLOAD)
    try:
        spool = f"find -L {' '.join(f'/proc/{pid}/fd' for pid in worker_pids(host))} -type f -size +7000k"
        wait_until(lambda: host.run(spool).stdout)
        kinds = host.check_output(f"{spool} -exec stat --dereference --file-system --format=%T {{}} +")
    finally:
        host.check_output("systemctl stop slow-upload")
    assert kinds.split() != []
    assert "tmpfs" not in kinds
