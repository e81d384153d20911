"""A complete restore, on each version of PostgreSQL."""

testinfra_hosts = ["ansible://db"]


def test_a_destroyed_database_comes_back_with_every_row(host, sql, orders, playbook):
    host.check_output("systemctl start postgresql-backup@shop.service")
    sql("drop database shop with (force)", "postgres")
    playbook("restore", postgresql_server_restore_database="shop", postgresql_server_restore_confirm="shop")
    assert sql(orders[0]) == orders[1]
    assert sql("select tableowner from pg_tables where tablename = 'orders'") == "shop"
    assert sql("select count(*) from pg_extension where extname = 'pg_trgm'") == "1"
