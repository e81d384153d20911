"""Every line of shell that the project brings passes shellcheck: programs, templates as a host gets them, and tasks."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rendering import ROLES, render
from test_lab import CONTROLLER, provisioning
from test_postgresql_server import HOST, REQUIRED

ROOT = ROLES.parent
GIVEN = {"postgresql_server": REQUIRED | HOST, "redis_server": {}}


def is_shell(text: str) -> bool:
    """Whether a file's first line names a shell."""
    return re.match(r"#!.*\b(ba|da)?sh\b", text) is not None


def programs() -> Iterator[tuple[str, str]]:
    """Each shell program: its path and its text, rendered if it is a template."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if not path.is_file() or not is_shell(path.read_bytes()[:40].decode(errors="replace")):
            continue
        role = path.relative_to(ROLES).parts[0] if path.suffix == ".j2" else ""
        yield name, render(role, path.name, **GIVEN[role]) if role else path.read_text()


def commands(value: object) -> Iterator[str]:
    """Each shell command in tasks, however deep in blocks, as a script that is given the task's environment."""
    if isinstance(value, list):
        for item in value:
            yield from commands(item)
    elif isinstance(value, dict):
        if shell := value.get("ansible.builtin.shell", value.get("django_asgi.site.long_shell")):
            given = "".join(f"{name}=given\n" for name in value.get("environment", {}))
            yield "#!/bin/sh\n" + given + re.sub(r"\{\{.*?\}\}", "word", shell["cmd"] if isinstance(shell, dict) else shell)
        for item in value.values():
            yield from commands(item)


def tasks() -> Iterator[tuple[str, str]]:
    """Each shell command of a task, by its file and number, with a word in place of each expression."""
    for folder in ("roles", "playbooks", "molecule"):
        for path in sorted((ROOT / folder).rglob("*.yml")):
            if "collections" in path.parts or "inventory" in path.parts:
                continue
            for number, command in enumerate(commands(yaml.safe_load(path.read_text()))):
                yield f"{path.relative_to(ROOT)}:{number}", command


SCRIPTS = {**dict(programs()), **dict(tasks())}


def check(script: str) -> str:
    """Return what shellcheck reports of a script; nothing if it is sound."""
    run = subprocess.run(["shellcheck", "--format=gcc", "-"], input=script, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def test_scripts_of_all_kinds_are_found() -> None:
    assert {Path(name).name for name in SCRIPTS} >= {"run", "podman", "nginx-site", "postgresql-server.j2", "redis-instances.j2"}
    assert any(":" in name for name in SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_accepts(name: str) -> None:
    assert check(SCRIPTS[name]) == ""


def test_shellcheck_accepts_what_a_lab_host_runs_first(tmp_path: Path) -> None:
    assert check("#!/bin/sh\n" + provisioning(CONTROLLER, tmp_path)) == ""


def test_a_faulty_script_is_reported() -> None:
    assert "SC2086" in check("#!/bin/sh\nrm $1\n")
