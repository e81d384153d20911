"""The backup before migrations: tasks/backup.yml with a fake systemctl, journalctl and asgictl."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

# Each host is a case: its pending migrations, and where its backup unit runs.
HOSTS = {
    "clean": {"pending": []},
    "saved": {"pending": ["shop.0002_price"]},
    "elsewhere": {"pending": ["shop.0002_price"], "django_asgi_backup_host": "db1"},
    "broken": {"pending": ["shop.0002_price"], "django_asgi_backup_host": "db1"},
    "away": {"pending": ["shop.0002_price"], "django_asgi_backup_host": "db2"},
    "endless": {"pending": ["shop.0002_price"]},
    "behind": {"pending": ["shop.0002_price"], "django_asgi_migrate": "once"},
}

ASGICTL = """
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        assert self._task.args["do"] == "pending"
        return {"migrations": json.loads(self._task.args["arguments"]["release"])}
"""

SYSTEMCTL = """#!/bin/sh
[ "$1" != show ] || { [ "$4" = backup@endless.service ] && echo simple || echo oneshot; exit; }
echo "$1 $2 on $HOST" >> "$0.calls"
[ "$2" != backup@broken.service ] || { echo "Job for $2 failed." >&2; exit 1; }
"""

# Like journald, it guarantees an entry only after a sync.
JOURNALCTL = """#!/bin/sh
[ "$1" != --sync ] || exec touch "$0.synced"
[ ! -e "$0.synced" ] || echo 'pg_dump: No space left'
"""

PLAYBOOK = """
- hosts: cases
  gather_facts: false
  vars_files: ["{role}/vars/main.yml"]
  environment:
    PATH: "{directory}:{{{{ lookup('ansible.builtin.env', 'PATH') }}}}"
    HOST: "{{{{ __django_asgi_backup_host }}}}"
  tasks:
    - ansible.builtin.include_tasks: "{role}/tasks/backup.yml"
    - ansible.builtin.file: {{path: "{directory}/{{{{ inventory_hostname }}}}.migrated", state: touch}}
"""


class Run:
    """The results of one run of the tasks, a host for each case."""

    def __init__(self, directory: Path, role: Path) -> None:
        self.directory = directory
        plugins = directory / "collections/ansible_collections/django_asgi/site/plugins"
        for plugin in ("action/long_shell.py", "module_utils/progress.py"):
            (plugins / plugin).parent.mkdir(parents=True)
            shutil.copy(role.parents[1] / "plugins" / plugin, plugins / plugin)
        (plugins / "action/asgictl.py").write_text(ASGICTL)
        for name, text in {
            "systemctl": SYSTEMCTL,
            "journalctl": JOURNALCTL,
            # It reads its input first: Ansible reports another error when it cannot write any more.
            "ssh": "#!/bin/sh\ncat >/dev/null\necho 'No route to host' >&2\nexit 255\n",
        }.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        (directory / "play.yml").write_text(PLAYBOOK.format(role=role, directory=directory))
        cases = {
            name: {
                "ansible_connection": "local",
                "django_asgi_name": name,
                "django_asgi_backup_unit": f"backup@{name}.service",
                "django_asgi_backup_host": case.get("django_asgi_backup_host", ""),
                "django_asgi_migrate": case.get("django_asgi_migrate", "each"),
                "__django_asgi_release": json.dumps(case["pending"]),
            }
            for name, case in HOSTS.items()
        }
        data = {"db1": {"ansible_connection": "local"}, "db2": {"ansible_ssh_executable": str(directory / "ssh")}}
        interpreter = {"ansible_python_interpreter": sys.executable, "ansible_ssh_retries": 0}
        inventory = {"all": {"vars": interpreter, "children": {"cases": {"hosts": cases}, "data": {"hosts": data}}}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
        environment = os.environ | {
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_COLLECTIONS_PATH": str(directory / "collections"),
            "ANSIBLE_CONFIG": str(role.parents[1] / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        }
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.yml", "play.yml"]
        ran = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 2, ran.stdout + ran.stderr
        report = json.loads(ran.stdout[ran.stdout.index("{") :])
        self.printed = ran.stdout[: ran.stdout.index("{")]
        self.results = [task["hosts"] for play in report["plays"] for task in play["tasks"]]
        self.calls = (directory / "systemctl.calls").read_text().splitlines()

    def migrated(self, host: str) -> bool:
        """Whether the play went on to the migration."""
        return (self.directory / f"{host}.migrated").exists()

    def failure(self, host: str) -> str:
        """Return the messages of the tasks that failed."""
        return "\n".join(hosts[host]["msg"] for hosts in self.results if hosts.get(host, {}).get("failed"))


@pytest.fixture(scope="module")
def run(role: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run for all cases."""
    return Run(tmp_path_factory.mktemp("backup"), role)


def test_without_pending_migrations_nothing_is_backed_up(run: Run) -> None:
    assert run.migrated("clean")
    assert not [call for call in run.calls if "clean" in call]


def test_pending_migrations_wait_for_the_backup_of_the_host_that_migrates(run: Run) -> None:
    assert "start backup@saved.service on saved" in run.calls
    assert run.migrated("saved")


def test_a_backup_is_announced_and_its_seconds_are_printed_whether_or_not_it_succeeds(run: Run) -> None:
    for case, host in (("saved", "saved"), ("elsewhere", "db1"), ("broken", "db1")):
        lines = [line.strip() for line in run.printed.splitlines() if line.startswith(f"    {case}: backup")]
        assert lines[0] == f"{case}: backup, backup@{case}.service on {host} …"
        assert re.fullmatch(r"\d+\.\d s", lines[-1].removeprefix(f"{case}: backup, backup@{case}.service on {host}: "))
    assert "clean: backup" not in run.printed


def test_the_backup_may_be_another_hosts(run: Run) -> None:
    assert "start backup@elsewhere.service on db1" in run.calls
    assert run.migrated("elsewhere")


def test_a_failed_backup_is_told_with_its_log_and_nothing_is_migrated(run: Run) -> None:
    assert not run.migrated("broken")
    sentence, *details = run.failure("broken").splitlines()
    assert sentence == "The backup before the migrations failed, so nothing was migrated: backup@broken.service on db1."
    assert {"Job for backup@broken.service failed.", "pg_dump: No space left"} <= set(details)


def test_a_host_that_does_not_answer_is_a_failed_backup(run: Run) -> None:
    assert not run.migrated("away")
    sentence, reason = run.failure("away").splitlines()
    assert "nothing was migrated: backup@away.service on db2." in sentence
    assert "No route to host" in reason


def test_a_unit_whose_end_nobody_could_wait_for_is_refused(run: Run) -> None:
    assert not run.migrated("endless")
    assert "backup@endless.service is not a service of Type=oneshot" in run.failure("endless")
    assert not [call for call in run.calls if "endless" in call]


def test_a_host_that_another_one_migrates_for_makes_no_second_backup(run: Run) -> None:
    assert run.migrated("behind")
    assert not [call for call in run.calls if "behind" in call]
