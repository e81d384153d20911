"""Clients of the data hosts: each runs on one host and connects to another."""

import base64
import json
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import pytest
import testinfra
from testinfra.host import Host


@pytest.fixture(scope="session")
def hosts(request) -> dict[str, Host]:
    """Both hosts by name."""
    inventory = request.config.getoption("--ansible-inventory")
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in ("data12", "data13")}


@pytest.fixture(scope="session")
def urls(hosts) -> dict[str, dict]:
    """What the roles export, by host."""
    return {name: json.loads(host.file("/srv/urls.json").content_string) for name, host in hosts.items()}


@pytest.fixture(scope="session")
def psql(hosts) -> Callable[..., object]:
    """A function that runs SQL on `client` against a URL and returns the result."""

    def run(client: str, url: str, sql: str) -> object:
        return hosts[client].run("psql -XAtq -v ON_ERROR_STOP=1 -d %s -c %s", url, sql)

    return run


@pytest.fixture(scope="session")
def ask(hosts) -> Callable[..., str]:
    """A function that sends a command from `client` to the Redis instance of a URL and returns its output or error."""

    def run(client: str, url: str, *command: str, certificate: str = "", password: str | None = None) -> str:
        parts = urlsplit(url)
        program = "valkey-cli" if client == "data13" else "redis-cli"
        where = f"-s {parts.path}" if parts.scheme == "unix" else f"-h {parts.hostname} -p {parts.port}"
        if parts.scheme == "rediss":
            where += f" --tls --cacert {certificate}" if certificate else " --tls"
        secret = unquote(parts.password) if password is None else password
        encoded = base64.b64encode(secret.encode()).decode()
        shown = hosts[client].run(
            f"REDISCLI_AUTH=$(echo {encoded} | base64 -d) {program} --no-auth-warning {where} " + " ".join(command)
        )
        return (shown.stdout + shown.stderr).strip()

    return run


@pytest.fixture
def sql(host) -> Callable[..., str]:
    """A function that runs SQL as the system user postgres on the current host and returns the output."""
    port = 5433 if host.backend.get_pytest_id().endswith("data13") else 5432

    def run(text: str, database: str = "shop") -> str:
        return host.check_output("cd / && runuser -u postgres -- psql -XAtq -p %s -d %s -c %s", str(port), database, text)

    return run


@pytest.fixture
def orders(sql) -> tuple[str, str]:
    """A table of the app with 20,000 rows: the SQL that computes its digest, and the digest."""
    digest = "select count(*) || ' ' || md5(string_agg(id || note, ',' order by id)) from orders"
    sql("drop table if exists orders; set role shop; create table orders (id int, note text)")
    sql("insert into orders select g, md5(g::text) from generate_series(1, 20000) g")
    return digest, sql(digest)
