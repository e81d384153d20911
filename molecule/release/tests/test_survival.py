"""Processes killed and hosts rebooted under traffic: only requests in flight there may be lost."""

import time

from outside import wait_until
from sample import ready
from variants import variant

testinfra_hosts = ["ansible://app"]

# Ends when nginx has noticed that a process is gone: the connections are closed, and each nginx worker, which was
# woken by that, sleeps again. Everything sent before that counts as in flight.
HEARD = """while [ -n "$(ls /proc/%s/fd)" ]; do :; done
for edge in $(pgrep --full "^nginx: worker"); do until grep --quiet "^State:.S" /proc/$edge/status; do :; done; done"""


def workers(watch) -> set[int]:
    """Return the process ids of the live release's workers."""
    return {worker["pid"] for worker in watch.status()["live"]["workers"]}


def test_a_killed_worker_takes_only_what_it_had(watch, host):
    before = workers(watch)
    victim = min(before)
    with watch.traffic.window("killed worker"):
        host.check_output("kill -9 %s; " + HEARD, str(victim), str(victim))
        heard = time.time()
        wait_until(lambda: len(workers(watch) - {victim}) == 2)
    watch.traffic.report().assert_only_in_flight(heard, "killed worker")


def test_a_killed_master_takes_only_what_it_had(watch, host):
    before = workers(watch)
    with watch.traffic.window("killed master"):
        host.check_output("systemctl kill --kill-whom=main --signal=KILL sample@%s.service", watch.live())
        # The workers outlive their master long enough to answer the requests they have.
        wait_until(lambda: not host.run("ls -d " + " ".join(f"/proc/{pid}" for pid in before)).stdout)
        gone = time.time()
        wait_until(lambda: len(workers(watch) - before) == 2)
    watch.traffic.report().assert_lossless(
        "killed master", close_ok=lambda close: close.code == 1012 and close.opened < gone, tolerate=("crossed",)
    )


def test_a_reboot_while_a_release_retires_brings_the_live_one_back(playbook, watch, variables, tmp_path):
    before = watch.live()
    # Keep the old release retiring; this is a setting of the host, which only a full deploy changes.
    playbook("deploy", django_asgi_source=str(variant(tmp_path, "rebooted")), django_asgi_retire_seconds=3600)
    live = watch.live()
    assert [one["release"] for one in watch.status()["retiring"]] == [before]
    playbook("../molecule/shared/reboot", lab_reboot_host=variables["inventory_hostname"])
    wait_until(lambda: watch.status()["live"]["state"] == "active")
    assert watch.live() == live
    wait_until(lambda: ready(watch.site))
    watch.assert_alone()
