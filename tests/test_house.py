"""The house rules: private names stay inside their role, and Jinja holds no programs."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def texts(*folders: Path) -> dict[str, str]:
    """The YAML files and templates below these folders, by their path."""
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".yml", ".j2") and file.is_file()]
    return {str(file.relative_to(ROOT)): file.read_text() for file in files if "ansible_collections" not in file.parts}


@pytest.mark.parametrize("role", ROLES)
def test_no_private_name_of_a_role_stands_outside_it(role: str) -> None:
    others = [ROOT / "roles" / other for other in ROLES if other != role]
    found = texts(ROOT / "playbooks", ROOT / "inventory/example", *others)
    assert {path for path, text in found.items() if re.search(rf"\b__{role}_", text)} == set()


def test_there_are_no_programs_in_jinja() -> None:
    folders = [ROOT / "roles" / role / part for role in ROLES for part in ("vars", "defaults", "tasks")]
    found = [line for text in texts(*folders).values() for line in text.splitlines() if re.search(r"\{%-? *(set|for)\b", line)]
    assert len(found) <= 3, found


def test_no_two_roles_share_a_handler() -> None:
    """A notification reaches every handler of the play with that name or topic, whichever role it is in."""
    topics: dict[str, set[str]] = {}
    for role in ROLES:
        for path in (ROOT / "roles" / role / "handlers").glob("*.yml"):
            for handler in yaml.safe_load(path.read_text()):
                for topic in (handler["name"], handler.get("listen", handler["name"])):
                    topics.setdefault(topic, set()).add(role)
    assert {topic: roles for topic, roles in topics.items() if len(roles) > 1} == {}
