"""Processes killed and hosts rebooted under traffic: only what was in flight in them may be lost."""

import time

from outside import wait_until
from variants import variant

testinfra_hosts = ["ansible://app"]


def workers(watch) -> set[int]:
    """The process ids of the live release's workers."""
    return {worker["pid"] for worker in watch.status()["live"]["workers"]}


def test_a_killed_worker_takes_only_what_it_had(watch, host):
    before = workers(watch)
    victim = min(before)
    with watch.traffic.window("killed worker"):
        host.check_output("kill -9 %s", str(victim))
        # What was sent before the client could hear of it was in flight.
        heard = time.time() + 0.5
        wait_until(lambda: len(workers(watch) - {victim}) == 2)
    watch.traffic.report().assert_only_in_flight(heard, "killed worker")


def test_a_killed_master_takes_only_what_it_had(watch, host):
    before = workers(watch)
    with watch.traffic.window("killed master"):
        host.check_output("systemctl kill --kill-whom=main --signal=KILL sample@%s.service", watch.live())
        killed = time.time()
        wait_until(lambda: len(workers(watch) - before) == 2)
    watch.traffic.report().assert_lossless(
        "killed master", close_ok=lambda close: close.code == 1012 and close.opened < killed, tolerate=("crossed",)
    )


def test_a_reboot_while_a_release_retires_brings_the_live_one_back(playbook, watch, variables, tmp_path):
    playbook("release", django_asgi_source=str(variant(tmp_path, "rebooted")))
    live = watch.live()
    assert watch.status()["retiring"]
    playbook("../molecule/shared/reboot", lab_reboot_host=variables["inventory_hostname"])
    wait_until(lambda: watch.status()["live"]["state"] == "active", 60)
    assert watch.live() == live
    watch.assert_clean()
    with watch.window("after the reboot"):
        wait_until(lambda: watch.traffic.report().summary("after the reboot").counts["stream"] > 1)
