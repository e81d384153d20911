"""A deployed host as an operator sees it: processes, files, sockets, and their changes."""

import json
from collections.abc import Iterator

import pytest
from outside import wait_until
from sample import all_ready

testinfra_hosts = ["ansible://app"]


def live(host) -> str:
    """Return the id of the live release."""
    return host.check_output("basename $(readlink /opt/sample/live)")


def worker_pids(host) -> set[int]:
    """Return the process ids of the live release's workers."""
    return {worker["pid"] for worker in json.loads(host.check_output("asgictl --json status --quick"))["live"]["workers"]}


@pytest.fixture(scope="module", autouse=True)
def command_lines(host) -> Iterator[str]:
    """A file that collects the command lines of all processes while the module's tests run."""
    gather = "while sleep 0.1; do cat /proc/[0-9]*/cmdline; done > /run/command-lines 2> /dev/null"
    host.check_output("systemd-run --quiet --unit=command-lines sh -c %s", gather)
    yield "/run/command-lines"
    host.run("systemctl stop command-lines")


def test_the_number_of_workers_follows_the_variable(host, playbook, site):
    before = site.release()
    assert len(worker_pids(host)) == 2
    playbook("release", django_asgi_workers=3)
    assert len(worker_pids(host)) == 3
    assert site.release() != before, "different settings make a different release"
    playbook("release")
    assert len(worker_pids(host)) == 2
    assert site.release() == before, "the same inputs give the same release"


def test_check_mode_passes_and_shows_what_would_change(host, playbook):
    before = live(host)
    output = playbook(
        "deploy", "--check", "--diff", "-vvv", django_asgi_env={"ALLOWED_HOSTS": "sample.test", "GREETING": "Hello"}
    )
    assert "+variable GREETING=Hello" in output
    assert live(host) == before


def test_the_app_listens_on_no_tcp_port(host):
    listening = host.check_output("ss --listening --tcp --numeric --processes --no-header")
    assert "nginx" in listening
    assert not [line for line in listening.splitlines() if "python" in line or "gunicorn" in line]


def test_the_app_runs_as_its_own_user_and_can_change_nothing_of_itself(host):
    for pid in worker_pids(host):
        assert host.check_output("stat --format=%%U /proc/%s", str(pid)) == "sample"
    assert host.user("sample").shell == "/usr/sbin/nologin"
    for path in ("/opt/sample", "/opt/sample/live/src", "/opt/sample/live/venv/bin", "/opt/sample/live/static"):
        assert host.run("runuser -u sample -- test -w %s", path).rc == 1, f"the app can write to {path}"
    assert host.run("runuser -u sample -- touch /var/lib/sample/canary").rc == 0


def test_secrets_are_root_only_and_sources_are_the_apps(host):
    secrets = host.file(f"/opt/sample/releases/{live(host)}/secrets")
    assert (secrets.user, secrets.mode) == ("root", 0o600)
    for user in ("www-data", "nobody"):
        assert host.run("runuser -u %s -- cat /opt/sample/live/src/manage.py", user).rc == 1
    socket = host.file(f"/run/sample/{live(host)}.sock")
    assert (socket.user, socket.group, socket.mode) == ("root", "www-data", 0o660)


def test_manage_py_sees_what_the_service_sees(host):
    question = "import os; print(sorted(k for k in os.environ if k in ('SECRET_KEY', 'STATIC_ROOT', 'APP_RELEASE')))"
    answer = host.check_output("asgictl manage shell --no-imports --command %s", question)
    assert answer.splitlines()[-1] == "['APP_RELEASE', 'SECRET_KEY', 'STATIC_ROOT']"
    who = host.check_output("asgictl manage shell --no-imports --command %s", "import os; print(os.getuid())")
    assert int(who.splitlines()[-1]) == host.user("sample").uid


def test_no_secret_is_heard_or_seen_by_anybody_but_root_and_the_app(host, site, command_lines):
    # The pattern does not match its own command line.
    canary = "[c]anary-that-nobody-may-hear"
    for pid in worker_pids(host):
        assert host.run(f"grep --quiet --text {canary} /proc/{pid}/environ").rc == 0, "the app has the secret"
    assert host.run(f"grep --quiet --text bin/asgictl {command_lines}").rc == 0, "the deploys' processes were seen"
    looked_through = "/etc /home /opt /root /run /tmp /usr/local /var"
    files = host.run(f"grep --recursive --devices=skip --files-with-matches {canary} {looked_through}").stdout.split()
    kept = host.check_output("ls -d /opt/sample/releases/*/secrets").split()
    assert f"/opt/sample/releases/{live(host)}/secrets" in files
    assert set(files) <= set(kept)
    for spoken in ("journalctl --no-pager --output=json", "systemctl show --all 'sample@*'", "asgictl --json status"):
        assert host.run(f"{spoken} | grep --text {canary}").stdout == ""
    for path in ("/", "/readyz", "/api/whoami/", "/nothing/"):
        assert "canary" not in str(site.get(path).headers.raw)


def test_uploads_and_the_site_are_back_after_a_reboot(host, playbook, site, variables):
    site.post("/api/notes/", json={"text": "written before the reboot"})
    release = site.release()
    playbook("../molecule/shared/reboot", lab_reboot_host=variables["inventory_hostname"])
    wait_until(lambda: all_ready(site))
    assert site.release() == release
    assert "written before the reboot" in site.get("/api/notes/").text
