"""Deploys a project to both hosts, with the inventory that its author would write."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import testinfra
from outside import BIN, ROOT, Playbooks

PROJECTS = ROOT / "molecule/projects"


@pytest.fixture(scope="session")
def copied(tmp_path_factory) -> Callable[[str], Path]:
    """A function that copies a project; the copy has a lock if the project is one of uv's."""

    def copy(name: str) -> Path:
        project = shutil.copytree(
            PROJECTS / name, tmp_path_factory.mktemp("source") / name, ignore=shutil.ignore_patterns("__pycache__")
        )
        if (project / "pyproject.toml").exists():
            subprocess.run([BIN / "uv", "lock", "--quiet", "--project", project], check=True)
        return project

    return copy


@pytest.fixture(scope="session")
def author(request, tmp_path_factory) -> Callable[..., Playbooks]:
    """A function that returns the playbooks of an inventory with both hosts and these variables."""
    scenario = request.config.getoption("--ansible-inventory")

    def inventory(**variables: object) -> Playbooks:
        hosts = {}
        for host in testinfra.get_hosts(["ansible://app"], ansible_inventory=scenario):
            known = host.ansible.get_variables()
            reached = {name: value for name, value in known.items() if name.startswith("ansible_")}
            hosts[known["inventory_hostname"]] = reached
        file = tmp_path_factory.mktemp("inventory") / "hosts.yml"
        file.write_text(json.dumps({"app": {"hosts": hosts, "vars": variables}}))
        return Playbooks(str(file), "app")

    return inventory


@pytest.fixture(scope="session")
def bare(copied, author) -> Playbooks:
    """The project's playbooks, after its first deploy to both hosts."""
    playbooks = author(
        django_asgi_name="bare",
        django_asgi_source=str(copied("bare")),
        django_asgi_module="bare.asgi:application",
        django_asgi_settings_module="bare.settings",
        django_asgi_secrets={"BARE_KEY": "only for this test, and long enough" * 2},
        django_asgi_workers=1,
        nginx_site_server_names=["www.bare.test"],
    )
    playbooks("deploy")
    return playbooks
