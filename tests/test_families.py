"""Which hosts the roles accept, with or without a warning, and what they report of the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.django_asgi.site.plugins.module_utils.families import FAMILIES, PROBE, fields, judge, probed

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = """\
PRETTY_NAME="Debian GNU/Linux {version} ({codename})"
NAME="Debian GNU/Linux"
VERSION_ID="{version}"
VERSION="{version} ({codename})"
VERSION_CODENAME={codename}
ID=debian
"""
UBUNTU = """\
PRETTY_NAME="Ubuntu {version} LTS"
NAME="Ubuntu"
VERSION_ID="{version}"
VERSION="{version} LTS ({codename})"
VERSION_CODENAME={codename}
ID=ubuntu
ID_LIKE=debian
"""
SID = 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=forky\nID=debian\n'
MINT = 'NAME="Linux Mint"\nVERSION_ID="22"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
ROCKY9 = 'NAME="Rocky Linux"\nVERSION="9.4 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'
ALPINE = 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n'
# The text of os-release, systemd's version, that of /usr/bin/python3.
DEBIAN12 = (DEBIAN.format(version="12", codename="bookworm"), "252", "3.11.2")
DEBIAN13 = (DEBIAN.format(version="13", codename="trixie"), "257", "3.13.5")
JAMMY = (UBUNTU.format(version="22.04", codename="jammy"), "249", "3.10.12")
NOBLE = (UBUNTU.format(version="24.04", codename="noble"), "255", "3.12.3")
RESOLUTE = (UBUNTU.format(version="26.04", codename="resolute"), "259", "3.14.0")
# An expression with a name of each role's family.
NAMED = {
    "django_asgi": "__django_asgi_packages | first",
    "metrics": "__metrics_textfile",
    "nginx_site": "__nginx_site_user",
    "postgresql_server": "__postgresql_server_packages[1]",
    "redis_server": "__redis_server_binary",
}


@pytest.mark.parametrize("host", [DEBIAN12, DEBIAN13], ids=["Debian 12", "Debian 13"])
def test_a_tested_distribution_gives_no_warning(host: tuple) -> None:
    assert judge(*host) == ("debian", [], [])


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (NOBLE, "Ubuntu 24.04"),
        (RESOLUTE, "Ubuntu 26.04"),
        ((SID, "259~rc1", "3.14rc2"), "Debian GNU/Linux forky"),
        ((MINT, "255", "3.12.3"), "Linux Mint 22"),
        # Ubuntu's version is not Debian's, even if it were the same number.
        ((UBUNTU.format(version="12", codename="x"), "255", "3.12.3"), "Ubuntu 12"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_untested_distribution_that_can_work_gives_a_warning_only(host: tuple, name: str) -> None:
    sentence = f"runs {name}, on which this role was never tested; tested are Debian 12 and 13."
    assert judge(*host) == ("debian", [sentence], [])


def test_ubuntu_2204_lacks_the_python_of_asgictl_and_can_still_hold_the_data() -> None:
    found = judge(*JAMMY)
    assert found.warnings == []
    (fault,) = found.faults
    assert fault.startswith("has Python 3.10.12 as /usr/bin/python3, but asgictl requires 3.11 or newer.")
    assert "Ubuntu 24.04" in fault
    assert "django_asgi_python" in fault
    assert judge(*JAMMY[:2], None).faults == []


@pytest.mark.parametrize(
    ("host", "apt", "faults"),
    [
        ((ROCKY9, "252", "3.9.18"), False, ["runs Rocky Linux 9.4, which is not derived from Debian", "has Python 3.9.18"]),
        (
            (ALPINE, "", ""),
            False,
            ["runs Alpine Linux 3.20.3, which", "runs Alpine Linux 3.20.3 without systemd", "has no Python"],
        ),
        ((DEBIAN12[0], "", "3.11.2"), True, ["runs Debian GNU/Linux 12 without systemd"]),
        ((DEBIAN12[0], "252", "3.11.2"), False, ["runs Debian GNU/Linux 12, but has no apt-get"]),
        ((UBUNTU.format(version="20.04", codename="focal"), "245", "3.8.10"), True, ["has systemd 245", "has Python 3.8.10"]),
        (("", "", ""), False, ["runs an unknown system", "runs an unknown system", "has no Python"]),
    ],
    ids=["Rocky 9", "Alpine", "no systemd", "no apt", "Ubuntu 20.04", "nothing"],
)
def test_a_host_that_cannot_work_is_refused_with_all_reasons(host: tuple, apt: bool, faults: list[str]) -> None:
    found = judge(*host, apt=apt)
    assert len(found.faults) == len(faults)
    assert all(fault.startswith(start) for fault, start in zip(found.faults, faults, strict=True)), found.faults
    assert found.warnings == []


def test_os_release_is_read_in_every_form_of_its_format() -> None:
    text = '# a comment\nA=plain\nB=\'single quotes\'\nC="double \\"quotes\\""\n\nD=\'open\nno line\nE=\n'
    assert fields(text) == {"A": "plain", "B": "single quotes", "C": 'double "quotes"', "E": ""}


def test_the_probe_prints_what_the_judgement_reads() -> None:
    output = subprocess.run(["sh", "-c", PROBE], capture_output=True, text=True, check=True).stdout
    found = fields(output)
    assert found["ID"]
    assert found["PROBED_PYTHON"].startswith("3.")
    assert ("PROBED_SYSTEMD" in found) == Path("/run/systemd/system").is_dir()


def printed(host: tuple) -> str:
    """Return what PROBE prints on a host with apt."""
    return f"{host[0]}\nPROBED_SYSTEMD={host[1]}\nPROBED_PYTHON={host[2]}\nPROBED_APT=yes\n"


def test_python_counts_only_where_asgictl_runs() -> None:
    assert probed(printed(JAMMY), needs_python=True).faults
    assert not probed(printed(JAMMY), needs_python=False).faults


@pytest.mark.parametrize("family", FAMILIES)
def test_every_role_for_hosts_has_a_file_for_every_family_and_all_name_the_same(family: str) -> None:
    roles = sorted(path.parent for path in ROOT.glob("roles/*/tasks") if (path / "family.yml").exists())
    assert [role.name for role in roles] == ["django_asgi", "metrics", "nginx_site", "postgresql_server", "redis_server"]
    for role in roles:
        names = yaml.safe_load((role / f"vars/families/{family}.yml").read_text()).keys()
        assert names
        assert names == yaml.safe_load((role / f"vars/families/{FAMILIES[0]}.yml").read_text()).keys()
        assert not names & yaml.safe_load((role / "vars/main.yml").read_text()).keys(), "only one of the two would count"


@pytest.fixture
def action(plugin: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """A function that runs the action on a host that prints `output`, and adds the number of round trips to its result."""
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    module = plugin("action/family.py")

    def run(output: str, facts: dict | None = None, error: str = "", **arguments: bool) -> dict:
        trips, answer = [], {"rc": int(bool(error)), "stdout": output, "stderr": error}
        made = module.ActionModule.__new__(module.ActionModule)
        made._task = SimpleNamespace(args=arguments)
        made._low_level_execute_command = lambda command: trips.append(command) or answer
        return made.run(None, {"inventory_hostname": "web1", "ansible_facts": facts or {}}) | {"trips": len(trips)}

    return run


def test_a_host_is_probed_and_warned_of_once_in_a_run(action: Callable[..., dict]) -> None:
    first = action(printed(NOBLE))
    assert first["family"] == "debian"
    assert first["warnings"] == ["web1 runs Ubuntu 24.04, on which this role was never tested; tested are Debian 12 and 13."]
    second = action("must not be read", first["ansible_facts"])
    assert (first["trips"], second["trips"]) == (1, 0)
    assert second["family"] == "debian"
    assert second["warnings"] == []


def test_a_probe_that_fails_is_no_judgement_on_the_distribution(action: Callable[..., dict]) -> None:
    found = action("", error="sudo: web is not in the sudoers file\n")
    assert found["failed"]
    assert found["msg"] == "web1 can't run a shell: sudo: web is not in the sudoers file"


def test_a_later_role_of_the_run_may_require_more(action: Callable[..., dict]) -> None:
    first = action(printed(JAMMY))
    assert "failed" not in first
    second = action("", first["ansible_facts"], asgictl=True)
    assert second["failed"]
    assert second["msg"].startswith("web1 has Python 3.10.12 as /usr/bin/python3")


def test_facts_of_an_earlier_run_do_not_count(action: Callable[..., dict]) -> None:
    kept = action(printed(JAMMY))["ansible_facts"]
    kept["asgi_host_probed"]["run"] = "controller/boot/1/1"
    assert action(printed(NOBLE), kept, asgictl=True)["trips"] == 1


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., str]:
    """A function that runs what each role does first, in check mode, on a host whose shell prints `output`; returns the play's."""
    roles = ["redis_server", "postgresql_server", "nginx_site", "metrics", "django_asgi"]
    tasks = [
        task
        for role in roles
        for task in (
            {"ansible.builtin.import_role": {"name": f"django_asgi.site.{role}", "tasks_from": "family"}},
            {"ansible.builtin.debug": {"msg": f"{role} has {{{{ {NAMED[role]} }}}}"}},
        )
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "web1", "gather_facts": False, "tasks": tasks}]))
    shell = tmp_path / "shell"
    host = {"ansible_connection": "local", "ansible_shell_executable": str(shell)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"web1": host}}}))

    def run(output: str) -> str:
        (tmp_path / "printed").write_text(output)
        shell.write_text(f"#!/bin/sh\necho call >>{tmp_path}/calls\ncat {tmp_path}/printed\n")
        shell.chmod(0o755)
        command = [Path(sys.executable).parent / "ansible-playbook", "--check", "-i", "hosts.yml", "play.yml"]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1", "COLUMNS": "1000"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return run


def test_every_role_of_a_play_gets_its_names_from_one_call_to_the_host(play: Callable[..., str], tmp_path: Path) -> None:
    output = play(printed(NOBLE))
    for expected in ["redis_server has /usr/bin/redis-server", "postgresql_server has openssl", "nginx_site has www-data"]:
        assert expected in output, output
    assert "django_asgi has python3-venv" in output, output
    assert "failed=0" in output
    assert output.count("never tested") == 1, output
    assert (tmp_path / "calls").read_text().count("call") == 1


def test_a_play_stops_at_a_host_that_cannot_work(play: Callable[..., str]) -> None:
    output = play(printed((ROCKY9, "252", "3.9.18")))
    assert "web1 runs Rocky Linux 9.4, which is not derived from Debian" in output
    assert "redis_server has" not in output


def test_a_command_may_be_appended_to_the_probe_as_ansible_does() -> None:
    done = subprocess.run(["sh", "-c", f"{PROBE} && echo appended"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("appended\n")
