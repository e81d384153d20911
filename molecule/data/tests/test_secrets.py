"""No password in the output, an argument list, a log, or a file that others can read."""

import pytest

testinfra_hosts = ["ansible://data12"]

SECRET = "canary-(postgresql|redis)"


@pytest.fixture
def processes(host):
    """The argument lists of all processes, sampled while the test runs; call it to stop and get the log's path."""
    host.check_output("rm -f /srv/ps.log")
    host.check_output("systemd-run --unit=sampler sh -c 'while :; do ps axwwo args >> /srv/ps.log; sleep 0.02; done'")

    def end() -> str:
        host.check_output("systemctl stop sampler")
        return "/srv/ps.log"

    return end


def test_new_passwords_are_seen_nowhere(playbook, host, processes):
    roles = [
        {"name": "shop", "password": "canary-postgresql-new"},
        {"name": "report", "password": "canary-postgresql-newer", "databases": ["shop"]},
    ]
    instances = [{"name": name, "password": f"canary-redis-new-{name}"} for name in ("cache", "channels", "queue")]
    output = playbook("data", "-vvv", "--diff", postgresql_server_roles=roles, redis_server_instances=instances)
    log = processes()
    assert "canary" not in output
    assert host.check_output("grep -c postgres %s", log) != "0"
    assert host.run("grep -E %s %s", SECRET, log).stdout == ""
    assert "changed=0" not in output


def test_no_file_and_no_log_holds_one(host):
    journal = host.run("journalctl --no-pager | grep -E %s", SECRET)
    assert journal.stdout == ""
    files = host.run("grep -rlE %s /etc /home /opt /run /tmp /usr/local /var --exclude-dir=lists", SECRET).stdout
    # The AOF holds what the tests' clients sent, which includes no password.
    assert files == ""
    assert host.run("grep -rlE %s /var/log/postgresql", "statement:|execute").stdout != "", "statements are logged"


def test_no_settings_file_of_redis_is_open_to_all(host):
    assert host.run("find /etc/redis /etc/valkey -name '*-*.conf' -perm /o+rwx").stdout == ""
