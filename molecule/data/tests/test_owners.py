"""Two independent inventories on one host: neither costs the other anything."""

import json
import re

import pytest
from outside import Playbooks

# The other tests change the data of the other host.
testinfra_hosts = ["ansible://data13"]

# Prints everything that an owner has on the host: its files, timers, processes and rows.
STATE = r"""
cd /
find /etc/postgresql /etc/valkey /etc/postgresql_server/data.json /etc/redis_server/data.json /etc/systemd/system/postgresql-backup@shop.* \
    -type f -not -name '*blog*' -not -name '*wiki*' -not -name pg_hba.conf -not -name postgresql_server.conf -exec sha256sum {} + | sort
sed -n '/^# owner: data$/,/^$/p' /etc/postgresql/*/main/pg_hba.conf
systemctl show --property=MainPID,ActiveState,UnitFileState valkey-server@cache valkey-server@channels valkey-server@queue
systemctl show --property=MainPID postgresql@17-main
systemctl is-enabled postgresql-backup@shop.timer
ls /var/backups/postgresql/shop
runuser -u postgres -- psql -XAtq -p 5433 -d shop -c 'select count(*), md5(string_agg(note, chr(44) order by id)) from orders'
"""


def second(variables, directory, **changes) -> Playbooks:
    """Return a runner of playbooks for another app's inventory, with its own database, instance and backup on the same host."""
    name = variables["inventory_hostname"]
    reached = {key: value for key, value in variables.items() if key.startswith("ansible_")}
    app = {
        "inventory_owner": "blog",
        "postgresql_server_databases": [{"name": "blog"}],
        "postgresql_server_roles": [{"name": "blog", "password": "canary-postgresql-blog"}],
        "postgresql_server_port": 5433,
        "postgresql_server_listen_addresses": ["localhost"],
        "postgresql_server_memory_mb": 256,
        "postgresql_server_backup_schedule": "hourly",
        "postgresql_server_backup_directory": "/var/backups/blog",
        "postgresql_server_backup_keep": 2,
        "redis_server_flavour": "valkey",
        "redis_server_instances": [{"name": "blog", "port": 6400, "password": "canary-redis-blog"}],
        **changes,
    }
    directory.mkdir(exist_ok=True)
    hosts = {name: reached}
    (directory / "hosts.yml").write_text(
        json.dumps({"all": {"vars": app, "children": {"db": {"hosts": hosts}, "redis": {"hosts": hosts}}}})
    )
    return Playbooks(str(directory / "hosts.yml"), name)


@pytest.fixture(scope="module")
def blog(variables, tmp_path_factory) -> Playbooks:
    """The second inventory."""
    return second(variables, tmp_path_factory.mktemp("owners") / "blog")


def test_neither_inventory_costs_the_other_anything(host, playbook, blog, orders, sql):
    host.check_output("systemctl start postgresql-backup@shop.service")
    before = host.check_output(STATE)
    output = blog("data")
    assert "settings wait for a restart" in output, "another owner's connections are not cut without permission"
    assert "max_connections" in output
    assert host.check_output(STATE) == before
    own = host.check_output(
        "cat /etc/postgresql_server/blog.json /etc/postgresql_server/backup/blog /etc/valkey/valkey-blog.conf"
    )
    assert "changed=0" in playbook("data")
    assert "changed=0" in blog("data")
    assert host.check_output(STATE) == before
    assert (
        host.check_output("cat /etc/postgresql_server/blog.json /etc/postgresql_server/backup/blog /etc/valkey/valkey-blog.conf")
        == own
    )
    assert sql("select 1", "blog") == "1"
    timers = host.check_output("systemctl list-timers --all --no-legend 'postgresql-backup@*'")
    assert sorted(re.findall(r"postgresql-backup@(\S+)[.]timer", timers)) == ["blog", "shop"]
    assert "hourly" in host.check_output("systemctl cat postgresql-backup@blog.timer")
    assert "hourly" not in host.check_output("systemctl cat postgresql-backup@shop.timer")
    host.check_output("systemctl start postgresql-backup@blog.service")
    assert host.check_output("postgresql-backup list blog").startswith("/var/backups/blog/blog/")
    shown = host.run("PGPASSWORD=canary-postgresql-blog psql -XAtq -h 127.0.0.1 -p 5433 -U blog -d shop -c 'select 1'")
    assert "no pg_hba.conf entry" in shown.stderr


def test_a_clash_is_refused_before_anything_is_written(host, variables, tmp_path):
    clashing = {
        "postgresql_server_databases": [{"name": "shop"}],
        "postgresql_server_port": 5432,
        "redis_server_instances": [{"name": "cache"}, {"name": "other", "port": 6380, "password": "canary-redis-blog"}],
    }
    reasons = {
        "postgresql_server": ['database "shop" belongs to the inventory of "data"', 'postgresql_server_port: "5432" is not what'],
        "redis_server": ['the name belongs to instance "cache"', 'port 6380 belongs to instance "channels"'],
    }
    host.check_output("touch /srv/mark")
    for role, expected in reasons.items():
        third = {"inventory_owner": "third", "postgresql_server_databases": [{"name": "third"}], "postgresql_server_roles": []}
        changes = third | {name: value for name, value in clashing.items() if name.startswith(role)}
        output = re.sub(r"\s+", " ", second(variables, tmp_path / "third", **changes)("data", fails=True))
        assert all(reason in output for reason in [*expected, "Nothing was changed"]), output
    assert host.check_output("find /etc /usr/local /var/lib/valkey -xdev -newer /srv/mark -type f") == ""


def test_what_is_no_longer_listed_stays_and_its_removal_is_a_command(host, variables, blog, tmp_path, sql):
    changes = {
        "postgresql_server_databases": [{"name": "wiki", "owner": "blog"}],
        "redis_server_instances": [{"name": "wiki"}],
    }
    shorter = second(variables, tmp_path / "blog", **changes)
    output = re.sub(r"\s+", " ", shorter("data"))
    assert 'Database "blog" is no longer in this inventory' in output
    assert 'Instance "blog" is no longer in this inventory' in output
    command = re.search(r"ansible-playbook -i (\S+) playbooks/remove_data.yml -e postgresql_server_remove_database=blog", output)
    assert command, output
    assert sql("select 1", "blog") == "1"
    assert host.service("valkey-server@blog").is_running
    assert host.check_output("systemctl is-enabled postgresql-backup@blog.timer") == "enabled"

    assert "can't be removed" in shorter("remove_data", fails=True, postgresql_server_remove_database="shop")
    assert "still lists it" in blog("remove_data", fails=True, postgresql_server_remove_database="blog")
    assert "Nothing was changed" in shorter("remove_data", fails=True, postgresql_server_remove_database="blog")
    assert sql("select 1", "blog") == "1"
    shorter("remove_data", postgresql_server_remove_database="blog", postgresql_server_remove_confirm="blog")
    assert sql("select count(*) from pg_database where datname = 'blog'") == "0"
    assert host.run("systemctl is-enabled postgresql-backup@blog.timer").stdout.strip() != "enabled"
    assert host.check_output("ls /var/backups/blog/blog") != "", "backups stay"
    shorter("remove_data", redis_server_remove_instance="blog")
    assert not host.service("valkey-server@blog").is_running
    assert host.file("/var/lib/valkey/blog").is_directory, "data stays unless its deletion is confirmed"
    assert "no longer in this inventory" not in shorter("data")


def test_an_inventory_leaves_and_the_other_one_notices_nothing(host, variables, tmp_path, sql, playbook):
    leaving = second(
        variables, tmp_path / "blog", postgresql_server_databases=[{"name": "wiki"}], redis_server_instances=[{"name": "wiki"}]
    )
    leaving("data")
    before = host.check_output(STATE)
    assert "Name what to remove" in leaving("remove_data", fails=True)
    leaving(
        "remove_data",
        remove_data_all=True,
        postgresql_server_remove_data=True,
        redis_server_remove_data=True,
        postgresql_server_remove_confirm="blog",
        redis_server_remove_confirm="blog",
    )
    assert host.check_output(STATE) == before
    assert sql("select count(*) from pg_database where datname in ('blog', 'wiki')") == "0"
    assert sql("select count(*) from pg_roles where rolname in ('blog', 'wiki')") == "0"
    found = host.run(
        "grep -rlE 'blog|wiki' /etc/postgresql /etc/postgresql_server /etc/redis_server /etc/valkey /etc/systemd/system"
    ).stdout
    assert found == ""
    assert "changed=0" in playbook("data")
