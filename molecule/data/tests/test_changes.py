"""A change reaches what it must and no more; a change that a server refuses reaches nothing."""

import json
import re

import pytest

# molecule's own steps cover the other host, and each run of a playbook takes time.
testinfra_hosts = ["ansible://data13"]

# Includes the record: another inventory's run would compose the refused settings from it.
FILES = "cat /etc/postgresql/*/main/conf.d/postgresql_server.conf /etc/postgresql/*/main/pg_hba.conf /etc/postgresql_server/*.json | sha256sum"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"postgresql_server_settings": {"work_mem": "lots"}}, "invalid value for parameter"),
        ({"postgresql_server_settings": {"shared_preload_libraries": "no_such_library"}}, "goes on with the former"),
    ],
)
def test_what_postgresql_would_not_take_leaves_it_as_it_is(variables, reason, playbook, host, sql):
    before = host.check_output(FILES)
    assert reason in playbook("data", "--tags=postgresql_server", fails=True, **variables)
    assert sql("select 1") == "1"
    after = host.check_output(FILES)
    assert after == before


def test_a_rule_of_access_that_another_record_brings_and_postgresql_would_not_take(playbook, host, sql):
    records = "/etc/postgresql_server"
    record = json.loads(host.file(f"{records}/data.json").content_string)
    role = next(iter(record["roles"].values())) | {"password": True, "loopback": True, "encrypted": True}
    role |= {"databases": ["other"], "addresses": ["10.0.0.0/40"]}
    other = record | {"owner": "other", "databases": {}, "roles": {"other": role}}
    # The settings that both share follow the other one's connections.
    files = "cat /etc/postgresql/*/main/pg_hba.conf /etc/postgresql_server/data.json"
    before = host.check_output(files)
    host.check_output("echo %s >%s/other.json", json.dumps(other), records)
    output = playbook("data", "--tags=postgresql_server", fails=True)
    host.check_output("rm %s/other.json", records)
    assert "pg_hba.conf: line" in output
    assert sql("select 1") == "1"
    assert host.check_output(files) == before


def test_a_setting_that_needs_no_restart_gets_none(playbook, sql):
    started = sql("select pg_postmaster_start_time()")
    settings = {"log_statement": "all", "jit": False, "search_path": '"$user", public', "work_mem": "7MB"}
    output = playbook("data", "--tags=postgresql_server", postgresql_server_settings=settings)
    assert re.search(r"Reload the server\] \*+\nchanged", output)
    assert sql("show work_mem") == "7MB"
    assert sql("select pg_postmaster_start_time()") == started


def test_only_a_changed_instance_is_restarted_and_a_dropped_one_stays_until_it_is_removed(playbook, host, variables):
    flavour = variables["redis_server_flavour"]
    pids = f"systemctl show --value --property=MainPID {flavour}-server@cache {flavour}-server@queue {flavour}-server@channels"
    before = host.check_output(pids).split()
    entries = {"cache": {"password": "canary-redis-other"}, "queue": {"password": "canary-redis-queue", "persistence": "rdb"}}
    listed = {"redis_server_instances": [{"name": name, **entry} for name, entry in entries.items()]}
    output = playbook("data", "--tags=redis_server", **listed)
    after = host.check_output(pids).split()
    assert before[0] != after[0]
    assert before[2] == after[2]
    assert "remove_data.yml -e redis_server_remove_instance=channels" in re.sub(r"\s+", " ", output)
    playbook("remove_data", redis_server_remove_instance="channels", **listed)
    assert host.run(f"systemctl is-active {flavour}-server@channels").stdout.strip() == "inactive"
    assert not host.file(f"/etc/{flavour}/{flavour}-channels.conf").exists
    # Without tags, to undo what the tests above have set.
    playbook("data")
    assert host.run(f"systemctl is-active {flavour}-server@channels").stdout.strip() == "active"


def test_what_redis_would_not_take_leaves_it_as_it_is(playbook, host, variables):
    flavour = variables["redis_server_flavour"]
    pids = f"systemctl show --value --property=MainPID {flavour}-server@cache {flavour}-server@channels {flavour}-server@queue"
    before = host.check_output(pids)
    output = playbook("data", "--tags=redis_server", fails=True, redis_server_settings={"no-such-setting": 1})
    assert "no-such-setting" in output
    assert "canary" not in output
    assert host.check_output(pids) == before
