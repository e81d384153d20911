"""PostgreSQL: accepted and refused connections, the settings, and data that survives a restart."""

import pytest

testinfra_hosts = ["ansible://db"]


def test_the_settings_are_those_chosen_and_those_overridden(sql):
    wanted = {"shared_buffers": "128MB", "effective_cache_size": "384MB", "max_connections": "60", "jit": "off"}
    assert {name: sql(f"show {name}") for name in wanted} == wanted
    assert sql("show ssl") == "on"
    assert sql("show search_path") == '"$user", public'
    assert sql("select count(*) from pg_settings where pending_restart") == "0"
    assert sql("select count(*) from pg_authid where rolname in ('shop', 'report') and rolpassword like 'SCRAM-SHA-256$%'") == "2"
    assert sql("select count(*) from pg_extension where extname = 'pg_trgm'") == "1"
    assert sql("select pg_encoding_to_char(encoding) from pg_database where datname = 'my-shop'") == "UTF8"


def test_the_other_host_gets_in_over_tls(psql, urls, hosts):
    url = urls["data13"]["postgresql"]["shop"]
    shown = psql("data12", url, "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()")
    assert shown.stdout.strip().startswith("t|TLSv1."), shown.stderr
    certificate = hosts["data13"].file("/etc/postgresql/17/main/postgresql_server.crt").content_string
    hosts["data12"].run_expect([0], "printf %%s %s > /srv/data13.crt", certificate)
    strict = url.replace("sslmode=require", "sslmode=verify-full&sslrootcert=/srv/data13.crt")
    assert psql("data12", strict, "select 1").stdout.strip() == "1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("canary-postgresql", "wrong"), "password authentication failed"),
        (("sslmode=require", "sslmode=disable"), "no pg_hba.conf entry"),
        (("/shop?", "/my-shop?"), "no pg_hba.conf entry"),
        (("/shop?", "/postgres?"), "no pg_hba.conf entry"),
    ],
)
def test_the_other_host_is_refused(change, reason, psql, urls):
    shown = psql("data12", urls["data13"]["postgresql"]["shop"].replace(*change), "select 1")
    assert shown.rc != 0
    assert reason in shown.stderr


def test_a_host_that_is_not_allowed_is_refused_with_the_right_password(psql, urls):
    shown = psql("data13", urls["data12"]["postgresql"]["shop"], "select 1")
    assert shown.rc != 0
    assert "no pg_hba.conf entry" in shown.stderr


def test_a_role_without_a_password_comes_over_the_socket_as_its_own_user(host, variables):
    host.run("useradd --system clerk")
    port = variables.get("postgresql_server_port", 5432)
    assert (
        host.check_output("cd / && runuser -u clerk -- psql -XAtq -p %s -d my-shop -c 'select current_user'", str(port))
        == "clerk"
    )
    shown = host.run("cd / && runuser -u clerk -- psql -XAtq -p %s -d shop -U shop -w -c 'select 1'", str(port))
    assert shown.rc != 0


def test_owners_are_no_superusers(sql):
    assert (
        sql("select count(*) from pg_roles where rolname !~ '^pg_|^postgres$' and (rolsuper or rolcreatedb or rolcreaterole)")
        == "0"
    )


def test_rows_are_there_after_a_restart(host, sql):
    sql("create table if not exists kept (id int); insert into kept values (1), (2)")
    before = sql("select count(*) from kept")
    host.check_output("systemctl restart postgresql")
    assert sql("select count(*) from kept") == before
