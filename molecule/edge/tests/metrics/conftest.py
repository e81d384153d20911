"""The exporters of the current host, and its live release."""

from collections.abc import Callable

import pytest
from exporters import Metrics


@pytest.fixture(scope="module")
def metrics(host) -> Metrics:
    """The exporters of the current host."""
    return Metrics(host)


@pytest.fixture
def live(host) -> Callable[[], str]:
    """A function that returns the live release."""
    return lambda: host.check_output("readlink /opt/sample/live").rpartition("/")[2]
