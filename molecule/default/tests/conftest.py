"""The canary: a secret of the inventory that Ansible must never print."""

import pytest
from outside import Playbooks


class Overheard(Playbooks):
    """Playbooks that search the output of each run for the canary."""

    def __call__(self, name: str, *arguments: str, **variables: object) -> str:
        """Run playbooks/`name`.yml as Playbooks does."""
        output = super().__call__(name, *arguments, **variables)
        assert "canary-that-nobody-may-hear" not in output, f"{name} printed a secret"
        return output


@pytest.fixture(scope="session")
def inventory(request) -> str:
    """The scenario's inventory."""
    return request.config.getoption("--ansible-inventory")


@pytest.fixture(scope="module")
def playbook(host, inventory) -> Overheard:
    """Runs playbooks on the host at hand."""
    return Overheard(inventory, host.backend.get_pytest_id().rpartition("/")[2])


@pytest.fixture(scope="session")
def fleet(inventory) -> Overheard:
    """Runs playbooks on both hosts."""
    return Overheard(inventory, "app")
