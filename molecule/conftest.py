"""What the tests of every scenario share: the site as a visitor sees it, playbooks, and a look at a host that failed."""

import os
import sys
from functools import cache
from pathlib import Path

import pytest
import testinfra
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent / "shared"))

from outside import Playbooks, Site


def pytest_configure(config):
    """Playbooks that tests run are judged by the tests: the record is for those that molecule runs."""
    os.environ.pop("LAB_PLAYS", None)


def pytest_generate_tests(metafunc):
    """Refuse a module for whose hosts testinfra would leave tests out, or test this machine."""
    if "host" in metafunc.fixturenames:
        module, inventory = metafunc.module, metafunc.config.getoption("--ansible-inventory")
        names = getattr(module, "testinfra_hosts", None) or ["(none)"]
        unknown = [name for name in names if not hosts(name, inventory)]
        if unknown:
            raise pytest.Collector.CollectError(
                f"{module.__file__}: no host of {inventory} is {', '.join(unknown)}. Correct testinfra_hosts in this module"
            )


@cache
def hosts(name, inventory):
    """The hosts that a name in testinfra_hosts stands for."""
    return testinfra.get_hosts([name], ansible_inventory=inventory) if name.startswith("ansible://") else []


@pytest.fixture(scope="module")
def variables(host) -> dict:
    """The inventory's variables of the host at hand."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def site(variables) -> Site:
    """The sample project's site on the host at hand."""
    return Site(variables["lab_http_port"])


@pytest.fixture(scope="module")
def playbook(host, request) -> Playbooks:
    """Runs playbooks on the host at hand."""
    return Playbooks(request.config.getoption("--ansible-inventory"), host.backend.get_pytest_id().rpartition("/")[2])


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, without a window and without calls to its makers."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", *quiet])
        yield chromium
        chromium.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Add to a failure what a person would look at next."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and host is not None:
        for title, command in {
            "asgictl status": "asgictl status",
            "journal": "journalctl --no-pager --lines=40 --unit='*@*' --unit='*.retire-*' --unit=nginx",
            "nginx's error log": "tail -n 20 /var/log/nginx/error.log",
        }.items():
            shown = host.run(command)
            report.sections.append((f"{title} on {host.backend.get_pytest_id()}", shown.stdout + shown.stderr))
    return report
