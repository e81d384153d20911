"""Deploys to the fleet: failed logins and backups, and migrations that run once, after a backup."""

import pytest
from outside import Playbooks
from variants import with_migration

testinfra_hosts = ["ansible://web1"]


@pytest.fixture
def releases(hosts):
    """Lists the releases on each web host, the live one first; fails during a deploy."""

    def ask() -> list[list[str]]:
        found = []
        for host in (hosts["web1"], hosts["web2"]):
            assert not host.file("/opt/sample/deploy.json").exists
            ls = host.check_output("basename $(readlink /opt/sample/live); ls --almost-all /opt/sample/releases")
            found.append(ls.splitlines())
        return found

    return ask


@pytest.fixture
def backups(hosts):
    """Lists the backups on the data host, newest first."""
    return lambda: hosts["data1"].check_output("postgresql-backup list sample").splitlines()


def refused(playbook: Playbooks, sites, **variables: object) -> str:
    """Run a deploy that must fail and keep the live release on both hosts; return its output without line breaks."""
    before = [site.release() for site in sites]
    output = " ".join(playbook("release", fails=True, **variables).split())
    for site, release in zip(sites, before, strict=True):
        assert site.release() == release
        assert output.count(f"Release {release} goes on serving") >= len(sites)
        assert site.get("/readyz").status_code == 200
    return output


def test_a_wrong_password_stops_a_deploy_and_is_told_in_a_sentence(playbook, sites, releases):
    before = releases()
    output = refused(playbook, sites, database_password="canary-of-a-password")
    assert 'port 5432 failed: FATAL: password authentication failed for user "sample". Check that' in output
    assert "address and password in django_asgi_env and django_asgi_secrets are right" in output
    assert "canary" not in output
    assert "Traceback" not in output
    assert releases() == before


def test_a_backup_that_fails_stops_a_deploy_before_anything_is_migrated(playbook, sites, hosts, releases, backups, sql, tmp_path):
    before, kept = releases(), backups()
    source = str(with_migration(tmp_path, "unsaved"))
    hosts["data1"].check_output("mount -t tmpfs -o size=4k,uid=postgres,mode=0700 tmpfs /var/backups/postgresql")
    try:
        output = refused(playbook, sites, django_asgi_source=source)
    finally:
        hosts["data1"].check_output("umount /var/backups/postgresql")
    assert "nothing was migrated: postgresql-backup@sample.service on data1." in output
    assert "No space left on device" in output
    assert sql("select name from django_migrations where name = '0002_colour'") == []
    assert releases() == before
    assert backups() == kept


def test_a_migration_is_applied_once_and_after_a_backup(playbook, sites, hosts, backups, beats, sql, tmp_path):
    before, kept = [site.release() for site in sites], backups()
    work = "apps.get_model('showcase', 'Note').objects.create(text='migrated')"
    playbook("release", django_asgi_source=str(with_migration(tmp_path, "saved", work)))
    after = {site.release() for site in sites}
    assert len(after) == 1
    assert not after & set(before)
    assert sql("select count(*) from showcase_note where text = 'migrated'") == ["1"]
    [new] = set(backups()) - set(kept)
    saved = hosts["data1"].check_output("runuser -u postgres -- pg_restore --file=- --schema=public %s", new)
    assert "showcase_note" in saved
    assert "0002_colour" not in saved
    assert "migrated" not in saved
    assert beats() == ["web1"]
