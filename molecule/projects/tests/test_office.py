"""A monorepo with a uv.lock at its root, class-based settings, two databases and static files that the app serves itself."""

import json

import pytest
from outside import Site, wait_until

testinfra_hosts = ["ansible://bookworm", "ansible://trixie"]
TOKEN = "a-token-of-the-office"


@pytest.fixture(scope="session")
def deployed(copied, author) -> str:
    """The output of the deploy to both hosts."""
    office = author(
        django_asgi_name="office",
        django_asgi_source=str(copied("office")),
        django_asgi_project_dir="backend",
        django_asgi_module="office.asgi:application",
        django_asgi_settings_module="office.settings",
        django_asgi_requirements_extras=["assets"],
        django_asgi_secrets={"DJANGO_SECRET_KEY": "only for this test, and long enough" * 2, "TICKER_TOKEN": TOKEN},
        django_asgi_env={"DJANGO_ALLOWED_HOSTS": "office.test"},
        django_asgi_static_url="/assets/",
        django_asgi_health_path="/status/",
        django_asgi_health_status=401,
        django_asgi_websocket_path="/ticker/",
        django_asgi_websocket_subprotocol="ticker.v2",
        django_asgi_websocket_headers={"X-Token": "$TICKER_TOKEN"},
        django_asgi_migrate="each",
        django_asgi_processes=[
            {"name": "ticker", "command": "manage.py tick many", "number": 2},
            {"name": "single", "command": "python manage.py tick 'only one'", "hosts": "one"},
        ],
        django_asgi_timers=[{"name": "tally", "command": "manage.py tally 'two words' 100% $HOME", "calendar": "*:*:0/5"}],
        django_asgi_workers=1,
        nginx_site_server_names=["office.test"],
    )
    return office("deploy", "-v")


@pytest.fixture(scope="module")
def site(variables, deployed) -> Site:
    """The site of the project on the host at hand."""
    return Site(variables["lab_http_port"], "office.test")


def test_it_uses_a_package_of_its_own_repository_and_the_database_that_its_router_names(site):
    entries = site.get("/entries/").json()
    assert entries["total"].endswith("50 EUR")
    assert entries["database"] == "books"


def test_its_styles_are_found_under_their_hashed_names(site):
    name = site.get("/entries/").json()["style"]
    assert name.startswith("/assets/ledger/style.")
    assert name != "/assets/ledger/style.css"
    assert site.get(name).headers["Content-Type"].startswith("text/css")


def test_each_database_has_the_tables_that_the_router_allows(host, site):
    report = json.loads(host.check_output("asgictl --app office --json inspect"))
    assert {name: found["migrated"] for name, found in report["facts"]["databases"].items()} == {"default": True, "books": True}
    tables = {}
    for name in ("office", "books"):
        query = f"import sqlite3; print([row[0] for row in sqlite3.connect('/var/lib/office/data/{name}.sqlite3').execute('select name from sqlite_master')])"
        tables[name] = host.check_output(f'python3 -c "{query}"')
    assert "ledger_entry" in tables["books"]
    assert "auth_user" not in tables["books"]
    assert "auth_user" in tables["office"]
    assert "ledger_entry" not in tables["office"]


def test_a_websocket_needs_the_token_that_the_gate_has_shown(site, deployed):
    with site.websocket("/ticker/", ("ticker.v2",), **{"X-Token": TOKEN}) as socket:
        assert json.loads(socket.recv(timeout=30)) == {"tick": 1}
    assert TOKEN not in deployed, "the deploy printed a secret"
    assert "bookworm: installing packages" in deployed, "a deploy says what it is doing"


def test_its_tools_are_not_installed_but_its_extra_is(host, site):
    names = host.check_output("ls /opt/office/live/venv/lib/python3*/site-packages")
    assert "whitenoise" in names
    assert "money" in names
    assert "pytest" not in names


def active(host, units: str) -> list[str]:
    """The units that run, without their releases."""
    listed = host.check_output(f"systemctl list-units --plain --no-legend --state=active '{units}'").splitlines()
    return sorted(line.partition("@")[0] for line in listed)


def test_its_processes_run_on_every_host_or_on_one(host, deployed):
    assert active(host, "office.ticker*") == ["office.ticker-1", "office.ticker-2"]
    leads = host.backend.get_pytest_id() == "ansible://bookworm"
    assert active(host, "office.single*") == (["office.single"] if leads else [])
    assert ("only one" in host.check_output("ls /var/lib/office")) == leads


def test_its_timer_runs_on_one_host_and_its_last_run_is_known(host, deployed):
    if host.backend.get_pytest_id() != "ansible://bookworm":
        assert host.run("systemctl list-unit-files --no-legend 'office.*.timer'").stdout == ""
        return

    def last() -> dict:
        return json.loads(host.check_output("asgictl --app office --json status --quick"))["timers"]["tally"]["last"]

    wait_until(last)
    assert last()["result"] == "success", host.check_output("asgictl --app office logs --lines=30")
    tally = host.file("/var/lib/office/tally.txt").content_string
    assert "['two words', '100%', '$HOME']" in tally
    assert "timer      tally" in host.check_output("asgictl --app office status --quick")


def test_a_program_of_its_environment_can_be_run(host, deployed):
    assert host.check_output("asgictl --app office run python -c 'import money; print(money.euros(5))'") == "0.05 EUR"
