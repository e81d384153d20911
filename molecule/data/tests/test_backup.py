"""Backups: created, verified, kept as long as configured, and restored with every row."""

import re

import pytest
from outside import wait_until

testinfra_hosts = ["ansible://data12"]


@pytest.fixture
def backups(host):
    """A function that returns the names of the backups of shop, newest first."""
    return lambda: host.check_output("postgresql-backup list shop").split()


def restore(playbook, **variables) -> str:
    """Run playbooks/restore.yml for shop."""
    return playbook("restore", postgresql_server_restore_database="shop", **variables)


def test_a_restore_ends_sessions_and_takes_a_named_backup(host, sql, orders, backups, playbook):
    host.check_output("systemctl start postgresql-backup@shop.service")
    named = backups()[0].rpartition("/")[2]
    sql("delete from orders where id > 10")
    host.check_output("sleep 1; systemctl start postgresql-backup@shop.service")
    host.check_output(
        "systemd-run --collect --unit=sleeper --uid=postgres psql -p $(cat /etc/postgresql/*/main/conf.d/*.conf | sed -n 's/^port = //p') shop -c 'select pg_sleep(600)'"
    )
    restore(playbook, postgresql_server_restore_confirm="shop", postgresql_server_restore_file=named)
    assert sql(orders[0]) == orders[1]
    assert sql("select count(*) from pg_database where datname like 'shop%'") == "1"
    assert host.run("systemctl is-active sleeper").stdout.strip() != "active"


def test_nothing_is_restored_unasked_or_from_a_broken_backup(host, sql, orders, backups, playbook):
    host.check_output("sleep 1; systemctl start postgresql-backup@shop.service")
    assert "Nothing was changed" in restore(playbook, fails=True)
    assert "is none of" in playbook("restore", fails=True, postgresql_server_restore_database="shoop")
    newest = backups()[0]
    # The list of contents is still readable, but not all of the contents.
    host.check_output("truncate --size=-1000 %s", newest)
    assert host.run("pg_restore --list %s", newest).rc == 0
    assert "is broken" in restore(playbook, fails=True, postgresql_server_restore_confirm="shop")
    assert host.run("postgresql-backup verify shop").rc == 1
    host.check_output("rm %s", newest)
    assert sql(orders[0]) == orders[1]


def test_the_newest_three_are_kept(host, orders, backups):
    for _ in range(4):
        host.check_output("sleep 1; systemctl start postgresql-backup@shop.service")
    kept = backups()
    assert len(kept) == 3
    host.check_output("sleep 1; systemctl start postgresql-backup@shop.service")
    assert backups()[1:] == kept[:2]


def test_a_failed_backup_is_seen_and_costs_no_former_one(host, sql, orders, backups):
    before = backups()
    sql("alter table orders rename to elsewhere; create view orders as select 1; drop view orders")
    # Its file is broken: pg_dump fails in the midst of the rows.
    path = sql("select current_setting('data_directory') || '/' || pg_relation_filepath('elsewhere')")
    sql("checkpoint")
    host.check_output("mv %s /srv/rows && : > %s && chown postgres: %s", path, path, path)
    host.check_output("truncate --size=8192 %s && printf broken | dd of=%s conv=notrunc", path, path)
    host.check_output("systemctl restart postgresql")
    try:
        assert host.run("systemctl start postgresql-backup@shop.service").rc != 0
        assert "postgresql-backup@shop.service" in host.check_output("systemctl --failed --no-legend")
        metrics = host.file("/var/lib/prometheus/node-exporter/postgresql_backup_shop.prom")
        wait_until(lambda: 'postgresql_backup_last_run_success{database="shop"} 0' in metrics.content_string)
        assert backups() == before
        assert host.run("find /var/backups/postgresql -name '*.partial'").stdout == ""
    finally:
        host.check_output("mv /srv/rows %s && chown postgres: %s && systemctl restart postgresql", path, path)
    sql("drop table elsewhere")
    host.check_output("sleep 1; systemctl start postgresql-backup@shop.service")
    wait_until(lambda: 'postgresql_backup_last_run_success{database="shop"} 1' in metrics.content_string)


def test_timers_are_on_where_wanted(host):
    timers = host.check_output("systemctl list-timers --all --no-legend 'postgresql-backup@*'")
    assert re.findall(r"postgresql-backup@(\S+)[.]timer", timers) == ["shop"]
    assert host.check_output("stat --format='%a %U' /var/backups/postgresql") == "700 postgres"
    exposure = host.check_output("systemd-analyze security --no-pager postgresql-backup@shop.service")
    assert float(re.search(r"exposure level for \S+ ([0-9.]+)", exposure)[1]) < 2
