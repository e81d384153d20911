"""Continuous traffic, and the checks of traffic and host after each deploy."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("watch")

from outside import Playbooks, Site, wait_until
from traffic import Traffic
from watch import Watch


@pytest.fixture(scope="module")
def traffic(site: Site, host) -> Iterator[Traffic]:
    """Load from outside for as long as the module's tests run; its report is printed at the end."""
    with Traffic(site.address, host=site.name, rate=20) as traffic:
        wait_until(lambda: traffic.report().summary().echoes[1] > 50)
        yield traffic
        print(traffic.stop().table())


@pytest.fixture(scope="module")
def watch(traffic: Traffic, host, site: Site, variables: dict) -> Watch:
    """The checks of that load and of the host."""
    return Watch(traffic, host, site, variables["django_asgi_retire_seconds"])


@pytest.fixture(autouse=True)
def judged(watch: Watch) -> Iterator[None]:
    """Fail the test if its windows lost anything."""
    yield
    watch.judge()


@pytest.fixture(scope="module", autouse=True)
def stopwatch(playbook: Playbooks) -> Iterator[None]:
    """Print how long the playbooks took."""
    yield
    for name in sorted({name for name, _ in playbook.seconds}):
        times = sorted(seconds for other, seconds in playbook.seconds if other == name)
        print(f"{name}: {len(times)} runs, {times[0]:.1f} to {times[-1]:.1f} s, median {times[len(times) // 2]:.1f} s")
