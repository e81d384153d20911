"""The fleet from outside: both sites, and the hosts by name."""

import subprocess
from collections.abc import Callable

import pytest
import testinfra
from outside import ROOT, Playbooks, Site
from testinfra.host import Host

WEB = ("web1", "web2")


@pytest.fixture(scope="session")
def inventory(request) -> str:
    """The scenario's inventory."""
    return request.config.getoption("--ansible-inventory")


@pytest.fixture(scope="session")
def hosts(inventory) -> dict[str, Host]:
    """Every host by name."""
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in (*WEB, "data1")}


@pytest.fixture(scope="session")
def sites(hosts) -> list[Site]:
    """The site of each web host."""
    return [Site(hosts[name].ansible.get_variables()["lab_http_port"]) for name in WEB]


@pytest.fixture(scope="session")
def playbook(inventory) -> Playbooks:
    """Runs playbooks on the whole fleet."""
    return Playbooks(inventory, "all")


@pytest.fixture(scope="session")
def sql(hosts) -> Callable[[str], list[str]]:
    """Queries the database on its own host; returns the lines of the result."""

    def ask(text: str) -> list[str]:
        return hosts["data1"].check_output("cd / && runuser -u postgres -- psql -XAtq sample -c %s", text).splitlines()

    return ask


@pytest.fixture(scope="session")
def beats(hosts) -> Callable[[], list[str]]:
    """Lists the web host of each running beat."""

    def running() -> list[str]:
        ask = "systemctl list-units --plain --no-legend --state=active 'sample.beat@*'"
        return [name for name in WEB for _ in hosts[name].check_output(ask).splitlines()]

    return running


@pytest.fixture(scope="session")
def power(hosts) -> Callable[..., None]:
    """Stops, starts or restarts one or more machines: power("restart", "web1", "web2")."""
    containers = {name: host.ansible.get_variables()["lab_container"] for name, host in hosts.items()}

    def switch(how: str, *names: str) -> None:
        command = [ROOT / "roles/lab/files/podman", how, *(containers[name] for name in names)]
        subprocess.run(command, check=True, capture_output=True)

    return switch
