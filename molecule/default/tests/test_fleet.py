"""Two hosts form one fleet: a release is live on both hosts or on neither."""

import pytest
import testinfra

testinfra_hosts = ["ansible://bookworm"]


@pytest.fixture(scope="module")
def hosts(inventory) -> list:
    """Both hosts."""
    return testinfra.get_hosts(["ansible://app"], ansible_inventory=inventory)


def live(hosts) -> list[str]:
    """The live release of each host."""
    return [host.check_output("readlink /opt/sample/live") for host in hosts]


def test_both_hosts_run_the_same_release(hosts):
    assert len(hosts) == 2
    assert len(set(live(hosts))) == 1


def test_one_host_that_fails_its_gate_keeps_the_release_from_all(fleet, hosts):
    before = live(hosts)
    path = "{{ '/nowhere/' if inventory_hostname == 'trixie' else '/readyz' }}"
    output = fleet("release", "--diff", "-vvv", fails=True, django_asgi_health_path=path)
    assert "failed its gate: HTTP /nowhere/: the answer was 404" in output
    assert output.count("goes on serving") >= 2, "each host reports its live release"
    assert live(hosts) == before


def test_one_host_that_fails_its_cut_over_takes_all_of_them_back(fleet, hosts):
    before = live(hosts)
    hosts[1].check_output("systemctl stop nginx")
    try:
        output = fleet("release", fails=True, django_asgi_workers=1)
    finally:
        hosts[1].check_output("systemctl start nginx")
    assert "does not answer" in output
    assert live(hosts) == before
    for host in hosts:
        assert not host.file("/opt/sample/deploy.json").exists
    assert "nothing to do" in fleet("release")


def test_a_rollback_takes_the_whole_fleet(fleet, hosts):
    before = live(hosts)
    fleet("release", "--diff", "-vvv", django_asgi_workers=1)
    assert not set(live(hosts)) & set(before)
    fleet("rollback", "--diff", "-vvv")
    assert live(hosts) == before
