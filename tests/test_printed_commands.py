"""The commands that a play prints for pasting: with the inventory, hosts and passwords of this run."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible import constants as C
from ansible import context
from ansible.utils.context_objects import CLIArgs

BIN = Path(sys.executable).parent

# Prints the rollback command as the summary does.
PLAYBOOK = """
- hosts: app
  gather_facts: false
  vars_files: ["{role}/vars/main.yml"]
  vars: {{__django_asgi_kind: rollback, __django_asgi_host: {{live: "0123456789ab"}}}}
  tasks:
    - ansible.builtin.copy: {{content: "{{{{ __django_asgi_rollback_command }}}}", dest: "{directory}/printed"}}
"""


def ansible_playbook(directory: Path, role: Path, *arguments: str, **variables: str) -> str:
    """Run ansible-playbook in `directory` with the role's filters; return its output."""
    environment = os.environ | {"ANSIBLE_CONFIG": str(role.parents[1] / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": f"{directory}/tmp"}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", **variables}
    command = ["ansible-playbook", *arguments]
    ran = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["-i", "my shop/hosts.json", "--limit=web1"], {}, "-i 'my shop/hosts.json' --limit web1 "),
        (["-i", "my shop/hosts.json", "-i", "web2,"], {}, "-i 'my shop/hosts.json' -i web2, "),
        ([], {"ANSIBLE_INVENTORY": "my shop/hosts.json"}, ""),
    ],
)
def test_the_way_back_that_a_play_prints_works_when_it_is_pasted(
    role: Path, tmp_path: Path, arguments: list[str], variables: dict[str, str], expected: str
) -> None:
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "my shop").mkdir()
    (tmp_path / "my shop/hosts.json").write_text(json.dumps({"app": {"hosts": {"web1": here, "web2": here}}}))
    (tmp_path / "play.yml").write_text(PLAYBOOK.format(role=role, directory=tmp_path))
    ansible_playbook(tmp_path, role, *arguments, "play.yml", **variables)
    printed = (tmp_path / "printed").read_text()
    rollback = role.parents[1] / "playbooks/rollback.yml"
    assert printed == f"ansible-playbook {expected}{rollback} -e django_asgi_release=0123456789ab"
    _, *pasted = shlex.split(printed)
    listed = ansible_playbook(tmp_path, role, *pasted, "--list-hosts", **variables)
    assert ("web1" in listed, "web2" in listed) == (True, "--limit=web1" not in arguments)


@pytest.fixture
def command(plugin: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The filter, in a run of ansible-playbook that was given these options."""

    def command(*arguments: str, **options: object) -> str:
        monkeypatch.setattr(context, "CLIARGS", CLIArgs({"inventory": C.DEFAULT_HOST_LIST} | options))
        return plugin("filter/command.py").FilterModule().filters()["command"](*arguments)

    return command


def test_what_the_configuration_says_is_not_repeated(
    command: Callable[..., str], role: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(role.parents[1])
    unset = {"subset": None, "remote_user": C.DEFAULT_REMOTE_USER, "become_ask_pass": C.DEFAULT_BECOME_ASK_PASS}
    assert command("rollback", **unset) == "ansible-playbook playbooks/rollback.yml"


def test_paths_below_the_working_directory_are_relative(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    inventory = (f"{tmp_path}/inventory/production", "/srv/inventory")
    assert command("status", inventory=inventory).startswith("ansible-playbook -i inventory/production -i /srv/inventory ")


def test_a_playbook_of_the_installed_collection_is_named_as_it_was(command: Callable[..., str]) -> None:
    assert command("rollback", args=("django_asgi.site.deploy",)) == "ansible-playbook django_asgi.site.rollback"


def test_passwords_are_asked_for_again_and_found_in_the_same_files(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch, role: Path
) -> None:
    root = role.parents[1]
    monkeypatch.chdir(root)
    asked = {"ask_vault_pass": True, "become_ask_pass": True, "ask_pass": True}
    flags = "--ask-vault-pass --ask-pass --ask-become-pass"
    assert command("rollback", **asked) == f"ansible-playbook {flags} playbooks/rollback.yml"
    found = {"vault_ids": ("live@prompt",), "vault_password_files": (f"{root}/.vault", "/srv/.vault"), "remote_user": "ann"}
    flags = "--vault-id live@prompt --vault-password-file .vault --vault-password-file /srv/.vault --user ann"
    assert command("rollback", **found) == f"ansible-playbook {flags} playbooks/rollback.yml"


def test_extra_variables_of_this_run_are_not_printed(command: Callable[..., str]) -> None:
    assert "horse" not in command("rollback", extra_vars=("password=horse",))
