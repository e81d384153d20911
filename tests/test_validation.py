"""Validation: a wrong inventory is refused with the variable's name and what is expected, and no host is touched."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

SECRET = "hunter2-the-secret"
GOOD = {"django_asgi_source": "project"}

# Each: what is set wrong, and what has to be said about it.
RULES = {
    "name with capitals": ({"django_asgi_name": "Shop"}, "django_asgi_name is Shop; expected a lower-case letter"),
    "name of another app's unit": ({"django_asgi_name": "shop-celery"}, "django_asgi_name is shop-celery; expected a lower-case"),
    "name too long": ({"django_asgi_name": "a" * 32}, "django_asgi_name is aaaa"),
    "name with a slash": ({"django_asgi_name": "a/b"}, "django_asgi_name is a/b"),
    "project dir absolute": ({"django_asgi_project_dir": "/src"}, "django_asgi_project_dir is /src; expected a path"),
    "project dir outside": ({"django_asgi_project_dir": "a/../.."}, "django_asgi_project_dir is a/../.."),
    "module without variable": ({"django_asgi_module": "config.asgi"}, "django_asgi_module is config.asgi; expected mo"),
    "settings as a file": ({"django_asgi_settings_module": "config/settings.py"}, "django_asgi_settings_module is conf"),
    "python as a number": ({"django_asgi_python": 3.1}, "django_asgi_python is 3.1; expected text"),
    "version as a number": ({"django_asgi_source_version": 1.1}, "django_asgi_source_version is 1.1; expected text"),
    "no workers": ({"django_asgi_workers": 0}, "django_asgi_workers is 0; expected a whole number from 1 to 128, or aut"),
    "too many workers": ({"django_asgi_workers": 129}, "django_asgi_workers is 129; expected a whole number from 1 to"),
    "negative workers": ({"django_asgi_workers": -1}, "django_asgi_workers is -1"),
    "half a worker": ({"django_asgi_workers": 1.5}, "django_asgi_workers is 1.5"),
    "workers in words": ({"django_asgi_workers": "four"}, "django_asgi_workers is four"),
    "workers as a list": ({"django_asgi_workers": [4]}, "django_asgi_workers is [4]"),
    "true workers": ({"django_asgi_workers": True}, "django_asgi_workers is True"),
    "no connections": ({"django_asgi_worker_connections": 0}, "django_asgi_worker_connections is 0; expected 1 to 60000"),
    "too many connections": ({"django_asgi_worker_connections": 60001}, "django_asgi_worker_connections is 60001"),
    "negative max requests": ({"django_asgi_max_requests": -1}, "django_asgi_max_requests is -1; expected 0 (never)"),
    "negative jitter": ({"django_asgi_max_requests_jitter": -5}, "django_asgi_max_requests_jitter is -5; expected 0"),
    "timeout too short": ({"django_asgi_timeout": 1}, "django_asgi_timeout is 1; expected 2 to 3600 seconds"),
    "timeout too long": ({"django_asgi_timeout": 3601}, "django_asgi_timeout is 3601"),
    "no graceful timeout": ({"django_asgi_graceful_timeout": 0}, "django_asgi_graceful_timeout is 0; expected 1 to 864"),
    "keepalive too short": ({"django_asgi_keepalive": 4}, "django_asgi_keepalive is 4; expected 5 to 3600 seconds"),
    "no time for a program": ({"django_asgi_program_seconds": 9}, "django_asgi_program_seconds is 9; expected 10 to 86400 sec"),
    "no gate timeout": ({"django_asgi_gate_timeout": 0}, "django_asgi_gate_timeout is 0; expected 1 to 3600 seconds"),
    "negative retirement": ({"django_asgi_retire_seconds": -1}, "django_asgi_retire_seconds is -1; expected 0 seconds"),
    "nothing may retire": ({"django_asgi_retire_max": 0}, "django_asgi_retire_max is 0; expected 1 or more"),
    "nothing to return to": ({"django_asgi_keep_releases": 1}, "django_asgi_keep_releases is 1; expected 2 or more"),
    "settles too long": ({"django_asgi_edge_settle_seconds": 61}, "django_asgi_edge_settle_seconds is 61; expected 0 to"),
    "health path relative": ({"django_asgi_health_path": "healthz"}, "django_asgi_health_path is healthz; expected a pa"),
    "websocket path relative": ({"django_asgi_websocket_path": "ws/"}, "django_asgi_websocket_path is ws/; expected a"),
    "static url without end": ({"django_asgi_static_url": "/static"}, "django_asgi_static_url is /static; expected a pa"),
    "static url elsewhere": ({"django_asgi_static_url": "https://cdn.example.org/"}, "django_asgi_static_url is https:"),
    "media url relative": ({"django_asgi_media_url": "media/"}, "django_asgi_media_url is media/; expected a path that"),
    "release in words": ({"django_asgi_release": "latest"}, "django_asgi_release is latest; expected a release's id of"),
    "tiny messages": ({"django_asgi_websocket_max_size": 1}, "django_asgi_websocket_max_size is 1; expected 128 bytes to 1"),
    "no ping": ({"django_asgi_websocket_ping_interval": 0}, "django_asgi_websocket_ping_interval is 0; expected 1 to 3600"),
    "no pong": ({"django_asgi_websocket_ping_timeout": 0}, "django_asgi_websocket_ping_timeout is 0; expected 1 to 3600"),
    "few tasks": ({"django_asgi_tasks_max": 10}, "django_asgi_tasks_max is 10; expected 64 to 4194304"),
    "few files": ({"django_asgi_limit_nofile": 100}, "django_asgi_limit_nofile is 100; expected 1024 to 1048576"),
    "memory in words": ({"django_asgi_memory_max": "much"}, "django_asgi_memory_max is much; expected a size such as"),
    "high memory in words": ({"django_asgi_memory_high": "1 GB"}, "django_asgi_memory_high is 1 GB; expected a size such"),
    "writable path relative": ({"django_asgi_writable_paths": ["var"]}, "django_asgi_writable_paths is ['var']; expected ab"),
    "odd celery app": ({"django_asgi_celery_app": "my-app"}, "django_asgi_celery_app is my-app; expected a module's dott"),
    "no celery processes": ({"django_asgi_celery_concurrency": 0}, "django_asgi_celery_concurrency is 0; expected 1 to 128"),
    "no queues": ({"django_asgi_celery_queues": []}, "django_asgi_celery_queues is []; expected names of queues"),
    "no time to stop": ({"django_asgi_celery_stop_seconds": 0}, "django_asgi_celery_stop_seconds is 0; expected 1 to 604800"),
    "beat on nobody": (
        {"django_asgi_celery_app": "config", "django_asgi_celery_beat_host": "nobody"},
        "django_asgi_celery_beat_host is nobody; expected a host of the inventory",
    ),
    "pools too large": (
        {"django_asgi_workers": 4, "django_asgi_database_pool": 10, "django_asgi_database_max_connections": 79},
        "django_asgi_database_pool is 10; expected so much that all pools together stay within",
    ),
    "a backup that is no unit": (
        {"django_asgi_backup_unit": "pg_dump shop"},
        "django_asgi_backup_unit is pg_dump shop; expected a service's unit, such as postgresql-backup@shop.service",
    ),
    "a backup on nobody": (
        {"django_asgi_backup_unit": "backup.service", "django_asgi_backup_host": "nobody"},
        "django_asgi_backup_host is nobody; expected a host of the inventory",
    ),
    "a host of no backup": (
        {"django_asgi_backup_unit": "", "django_asgi_backup_host": "host0"},
        "django_asgi_backup_host is host0; expected a host of the inventory, and django_asgi_backup_unit with it",
    ),
    "odd env name": ({"django_asgi_env": {"MY-VAR": "x"}}, "django_asgi_env is {'MY-VAR': 'x'}; expected names of letter"),
    "reserved env name": ({"django_asgi_env": {"STATIC_ROOT": "/x"}}, "expected names that are neither the role's own (DJ"),
    "env name in secrets too": (
        {"django_asgi_env": {"TOKEN": "x"}, "django_asgi_secrets": {"TOKEN": SECRET}},
        "nor in django_asgi_secrets too",
    ),
    "odd secret name": ({"django_asgi_secrets": {"MY VAR": SECRET}}, "django_asgi_secrets is its names; expected names"),
    "reserved secret name": ({"django_asgi_secrets": {"APP_RELEASE": SECRET}}, "django_asgi_secrets is its names; expect"),
    "short secret": ({"django_asgi_secrets": {"PIN": "q7z"}}, "django_asgi_secrets is a value; expected values of 4 char"),
}  # fmt: skip

TYPES = {
    "timeout in words": ({"django_asgi_timeout": "long"}, "django_asgi_timeout"),
    "half a second": ({"django_asgi_graceful_timeout": 1.5}, "django_asgi_graceful_timeout"),
    "env as a list": ({"django_asgi_env": ["A=1"]}, "django_asgi_env"),
    "secrets as text": ({"django_asgi_secrets": SECRET}, "django_asgi_secrets"),
    "packages as a dict": ({"django_asgi_system_packages": {"a": "b"}}, "django_asgi_system_packages"),
    "perhaps collect": ({"django_asgi_collectstatic": "perhaps"}, "django_asgi_collectstatic"),
    "migrate sometimes": ({"django_asgi_migrate": "sometimes"}, "value of django_asgi_migrate must be one of: once, each"),
    "migrate twice": ({"django_asgi_migrate": "twice"}, "never, got: twice"),
    "loud log": ({"django_asgi_log_level": "loud"}, "value of django_asgi_log_level must be one of: debug, info, warning"),
    "odd scheme": ({"django_asgi_health_scheme": "ftp"}, "value of django_asgi_health_scheme must be one of: http, https"),
    "odd level": ({"django_asgi_check_fail_level": "FATAL"}, "value of django_asgi_check_fail_level must be one of: CRIT"),
}  # fmt: skip

NAMES_AND_SOURCES = {
    "unknown name": ({"django_asgi_worker": 2}, "django_asgi_worker: no such variable. Expected one of those"),
    "two unknown names": ({"django_asgi_port": 1, "django_asgi_hosts": 1}, ": no such variable"),
    "no source": ({"django_asgi_source": None}, "django_asgi_source"),
    "missing source": ({"django_asgi_source": "nowhere"}, "django_asgi_source is nowhere, but there is no"),
    "missing archive": ({"django_asgi_source": "/nowhere/shop.tar.gz"}, "expected a directory, an archive or a git addr"),
}  # fmt: skip
REFUSED = RULES | TYPES | NAMES_AND_SOURCES

ACCEPTED = {
    "nothing but a source": {},
    "a git address": {"django_asgi_source": "https://example.org/team/shop.git"},
    "an ssh address": {"django_asgi_source": "git@example.org:team/shop.git"},
    "an archive": {"django_asgi_source": "shop.tar.gz"},
    "numbers as text, as -e gives them": {"django_asgi_workers": "4", "django_asgi_timeout": "60"},
    "the least": {
        "django_asgi_workers": 1,
        "django_asgi_worker_connections": 1,
        "django_asgi_timeout": 2,
        "django_asgi_graceful_timeout": 1,
        "django_asgi_keepalive": 5,
        "django_asgi_gate_timeout": 1,
        "django_asgi_retire_seconds": 0,
        "django_asgi_retire_max": 1,
        "django_asgi_keep_releases": 2,
        "django_asgi_edge_settle_seconds": 0,
    },
    "the most": {
        "django_asgi_name": "a" * 31,
        "django_asgi_workers": 128,
        "django_asgi_worker_connections": 60000,
        "django_asgi_timeout": 3600,
        "django_asgi_graceful_timeout": 86400,
        "django_asgi_keepalive": 3600,
        "django_asgi_gate_timeout": 3600,
        "django_asgi_edge_settle_seconds": 60,
    },
    "everything that a site needs": {
        "django_asgi_name": "shop-2",
        "django_asgi_project_dir": "backend",
        "django_asgi_python": "3.13",
        "django_asgi_system_packages": ["libpq5"],
        "django_asgi_env": {"DEBUG": False, "PORT": 5432, "_X": ""},
        "django_asgi_secrets": {"DATABASE_URL": SECRET, "PIN": 1234},
        "django_asgi_health_path": "/healthz",
        "django_asgi_websocket_path": "/ws/chat/",
        "django_asgi_media_url": "/media/",
        "django_asgi_migrate": "each",
        "django_asgi_backup_unit": "postgresql-backup@shop.service",
        "django_asgi_backup_host": "host0",
        "django_asgi_collectstatic": "no",
        "django_asgi_release": "0123456789ab",
    },
}

PLAYBOOK = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.import_role:
        name: django_asgi
        tasks_from: validate
"""


def packed(cases: dict[str, tuple[dict, str]]) -> list[tuple[set[str], dict]]:
    """Put cases that set different variables on one host, for each host costs a fifth of a second."""
    hosts: list[tuple[set[str], dict]] = []
    for name, (changes, _) in cases.items():
        room = (host for host in hosts if not host[1].keys() & changes.keys())
        names, variables = next(room, None) or (hosts.append((set(), {})) or hosts[-1])
        names.add(name)
        variables.update(changes)
    return hosts


class Run:
    """What one run of tasks/validate.yml against all these hosts said."""

    def __init__(self, directory: Path, role: Path) -> None:
        self.connected = directory / "connected"
        ssh = directory / "ssh"
        ssh.write_text(f"#!/bin/sh\ntouch {self.connected}\nexit 255\n")
        ssh.chmod(0o755)
        (directory / "project").mkdir()
        (directory / "shop.tar.gz").touch()
        (directory / "play.yml").write_text(PLAYBOOK)
        alone = {name: changes for name, (changes, _) in NAMES_AND_SOURCES.items()} | ACCEPTED
        places = [*packed(RULES), *packed(TYPES), *(({name}, changes) for name, changes in alone.items())]
        self.host_of = {name: f"host{number}" for number, (names, _) in enumerate(places) for name in names}
        hosts = {
            f"host{number}": {name: value for name, value in (GOOD | changes).items() if value is not None}
            for number, (_, changes) in enumerate(places)
        }
        unreachable = {"ansible_host": "192.0.2.1", "ansible_ssh_executable": str(ssh), "ansible_ssh_retries": 0}
        inventory = {"all": {"hosts": hosts, "vars": unreachable}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
        environment = os.environ | {
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_ROLES_PATH": str(role.parent),
            "ANSIBLE_FORKS": "4",
            "ANSIBLE_CONFIG": str(role.parents[1] / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        }
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.yml", "play.yml"]
        ran = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        self.output = ran.stdout + ran.stderr
        assert ran.returncode in (0, 2), self.output[-3000:]
        self.report = json.loads(ran.stdout[ran.stdout.index("{") :])

    def failure(self, name: str) -> str:
        """Why the host of a case was refused; empty if it was not."""
        host = self.host_of[name]
        results = [task["hosts"][host] for play in self.report["plays"] for task in play["tasks"] if host in task["hosts"]]
        assert results, f"nothing ran for {host}"
        return "\n".join(result["msg"] for result in results if result.get("failed"))


@pytest.fixture(scope="module")
def run(role: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of ansible-playbook for all cases: each is a host of its own."""
    return Run(tmp_path_factory.mktemp("validation"), role)


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_inventory_is_refused(run: Run, name: str) -> None:
    changes, sentence = REFUSED[name]
    failure = run.failure(name)
    assert sentence in failure
    assert all(variable in failure for variable in changes)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_inventory_passes(run: Run, name: str) -> None:
    assert run.failure(name) == ""


def test_no_host_is_contacted(run: Run) -> None:
    assert not run.connected.exists()
    assert not any(stats["unreachable"] for stats in run.report["stats"].values())


def test_no_secret_is_printed_whatever_is_wrong_with_it(run: Run) -> None:
    assert SECRET not in run.output
    assert "q7z" not in run.output


def test_every_rule_is_broken_by_a_case(role: Path) -> None:
    rules = yaml.safe_load((role / "vars/validation.yml").read_text())["__django_asgi_rules"]
    sentences = "\n".join(sentence for _, sentence in REFUSED.values())
    assert {rule["name"] for rule in rules} <= set(re.findall(r"django_asgi_\w+", sentences)) | {"django_asgi_env"}


def options_of(role: Path) -> dict[str, dict]:
    """The documented variables."""
    return yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]


def defaults_of(role: Path) -> dict[str, object]:
    """The variables' defaults."""
    return yaml.safe_load((role / "defaults/main.yml").read_text())


def test_every_documented_variable_has_a_default_unless_it_is_required(role: Path) -> None:
    required = {name for name, option in options_of(role).items() if option.get("required")}
    assert required == {"django_asgi_source"}
    assert set(options_of(role)) == set(defaults_of(role)) | required


def test_every_documented_default_is_the_default(role: Path) -> None:
    documented = {name: option["default"] for name, option in options_of(role).items() if "default" in option}
    assert documented == defaults_of(role)


@pytest.mark.parametrize("check", ["description", "type"])
def test_every_variable_is_documented(role: Path, check: str) -> None:
    assert [name for name, option in options_of(role).items() if not option.get(check)] == []


def test_every_default_is_of_its_type_and_among_its_choices(role: Path) -> None:
    types: dict[str, Callable] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "raw": object}
    for name, default in defaults_of(role).items():
        option = options_of(role)[name]
        assert isinstance(default, types[option["type"]]), name
        assert default in option.get("choices", [default]), name


def test_every_documented_variable_is_used_somewhere(role: Path) -> None:
    folders = [role / "tasks", role / "templates", role / "vars", role.parents[1] / "playbooks"]
    texts = [path.read_text() for folder in folders for path in folder.iterdir() if path.name != "validation.yml"]
    used = set(re.findall(r"django_asgi_\w+", "\n".join(texts)))
    # These two are there for the sake of their rule.
    assert set(options_of(role)) - used == {"django_asgi_database_pool", "django_asgi_database_max_connections"}
