"""What is back by itself after a reboot, and what comes back from a backup."""

from outside import wait_until
from sample import all_ready, start_job, wait_for_job

testinfra_hosts = ["ansible://app"]


def test_the_whole_chain_is_back_after_a_reboot(site, playbook, variables):
    release = site.release()
    playbook("../molecule/shared/reboot", lab_reboot_host=variables["inventory_hostname"])
    wait_until(lambda: all_ready(site), 180)
    assert site.release() == release
    number = start_job(site, 1)["id"]
    wait_for_job(site, number, "done", 60)


def test_a_destroyed_database_is_restored_with_every_row(site, playbook, host):
    for number in range(5):
        site.post("/api/notes/", json={"text": f"row {number}"})
    rows = "runuser -u postgres -- psql --no-align --tuples-only sample --command 'SELECT count(*), max(id) FROM showcase_note'"
    before = host.check_output(rows)
    host.check_output("systemctl start postgresql-backup@sample.service")
    host.check_output("runuser -u postgres -- psql sample --command 'TRUNCATE showcase_note'")
    assert host.check_output(rows).startswith("0|")
    playbook("restore", postgresql_server_restore_database="sample", postgresql_server_restore_confirm="sample")
    assert host.check_output(rows) == before
    wait_until(lambda: "row 4" in site.get("/api/notes/").text)
