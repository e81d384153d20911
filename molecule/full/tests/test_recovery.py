"""Automatic recovery after a reboot."""

from outside import wait_until
from sample import all_ready, start_job, wait_for_job

testinfra_hosts = ["ansible://app"]


def test_the_whole_chain_is_back_after_a_reboot(site, playbook, variables):
    release = site.release()
    playbook("../molecule/shared/reboot", lab_reboot_host=variables["inventory_hostname"])
    wait_until(lambda: all_ready(site))
    assert site.release() == release
    number = start_job(site, 1)["id"]
    wait_for_job(site, number, "done")
