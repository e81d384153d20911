"""Two apps on one host: each has its own inventory, and playbooks/remove.yml removes only one of them."""

import json

import httpx
import pytest
from outside import PATIENCE, ROOT, Playbooks, Site

testinfra_hosts = ["ansible://trixie"]


@pytest.fixture(scope="module")
def guestbook(variables, tmp_path_factory) -> Playbooks:
    """Runs playbooks for the second app, whose inventory does not contain the first app."""
    reached = {name: value for name, value in variables.items() if name.startswith("ansible_")}
    app = {
        "django_asgi_name": "guestbook",
        "django_asgi_source": str(ROOT / "molecule/default/guestbook"),
        "django_asgi_module": "asgi:application",
        "django_asgi_settings_module": "settings",
        "django_asgi_secrets": {"SECRET_KEY": "a-guestbook-has-no-secrets-" * 2},
        "django_asgi_workers": 1,
        "django_asgi_health_host": "guestbook.test",
        "django_asgi_migrate": "never",
        "django_asgi_collectstatic": False,
        "nginx_site_server_names": ["guestbook.test"],
    }
    inventory = tmp_path_factory.mktemp("guestbook") / "hosts.yml"
    inventory.write_text(json.dumps({"app": {"hosts": {variables["inventory_hostname"]: reached}, "vars": app}}))
    return Playbooks(str(inventory), "app")


def first_app(host) -> tuple[str, list[int]]:
    """Return the first app's release and the process ids of its workers."""
    live = json.loads(host.check_output("asgictl --app sample --json status --quick"))["live"]
    return live["release"], sorted(worker["pid"] for worker in live["workers"])


def test_a_second_app_comes_and_goes_and_the_first_one_notices_nothing(host, site, guestbook, playbook):
    second, before = Site(site.port, "guestbook.test"), first_app(host)

    def first_serves() -> None:
        socket.send("Hi")
        assert json.loads(socket.recv(timeout=PATIENCE)) == {"message": "Echo: Hi"}
        assert site.get("/api/hello/").status_code == 200
        assert first_app(host) == before

    with site.websocket() as socket:
        guestbook("deploy")
        assert second.get("/").text == "Welcome"
        first_serves()
        assert "This host has several apps (guestbook, sample)" in host.run("asgictl status").stderr
        assert "Nothing was removed" in guestbook("remove", fails=True, django_asgi_remove_data=True)
        assert second.get("/").text == "Welcome"
        guestbook("remove", django_asgi_remove_data=True, django_asgi_remove_confirm="guestbook")
        first_serves()
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        second.get("/")
    assert "nothing is removed" in guestbook("remove"), "a second run finds nothing to do"
    assert not host.user("guestbook").exists
    assert not host.group("guestbook").exists
    assert host.check_output("systemctl list-units --all --no-legend --plain 'guestbook*'") == ""
    # Logs stay until logrotate deletes them.
    assert host.check_output("find / /run /tmp -xdev -path /var/log -prune -o -name '*guestbook*' -print") == ""
    # passwd- and similar files are backups of the state before.
    found = host.run("grep --recursive --files-with-matches --exclude='*-' guestbook /etc /run/systemd /var/lib/systemd")
    assert found.stdout == ""
    tasks = playbook("deploy", "--diff", "-vvv").split("\nTASK [")
    changed = [task.partition("]")[0] for task in tasks if "\nchanged: [" in task]
    # nginx needs no room any more for the connections of the second site, and is reloaded.
    expected = (
        "Write the main configuration",
        "Detect a configuration that nginx does not run yet",
        "Reload nginx before the tasks",
    )
    assert [name for name in changed if not any(one in name for one in expected)] == [], "the first app lacked something"
