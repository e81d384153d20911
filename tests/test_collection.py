"""The repository as a collection: built, installed elsewhere, and used from there by its full name."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PLAYBOOKS = {"addresses", "data", "deploy", "metrics", "release", "remove", "remove_data", "restore", "rollback", "status"}


def run(directory: Path, program: str, *arguments: str | Path) -> str:
    """Run one of Ansible's programs in a directory, without this repository's configuration; return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(directory / "collections"), "ANSIBLE_LOCAL_TEMP": str(directory / "tmp")}
    command = [BIN / program, *arguments]
    ran = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing in it but the installed collection, and the archive that it came from."""
    directory = tmp_path_factory.mktemp("elsewhere")
    run(directory, "ansible-galaxy", "collection", "build", "--output-path", directory, ROOT)
    (archive,) = directory.glob("django_asgi-site-*.tar.gz")
    run(directory, "ansible-galaxy", "collection", "install", archive, "--collections-path", directory / "collections")
    return directory


def test_the_archive_holds_what_a_user_needs_and_nothing_else(installed: Path) -> None:
    (archive,) = installed.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[0] for name in content.getnames()}
    assert names == {
        "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "docs", "inventory", "meta", "playbooks", "plugins", "roles",
    }  # fmt: skip


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS))
def test_each_playbook_is_found_by_its_full_name_from_an_empty_directory(installed: Path, playbook: str) -> None:
    inventory = installed / "collections/ansible_collections/django_asgi/site/inventory/example"
    listed = run(installed, "ansible-playbook", f"django_asgi.site.{playbook}", "--list-tasks", "-i", inventory)
    assert f"playbook: {installed}/collections/ansible_collections/django_asgi/site/playbooks/{playbook}.yml" in listed
    assert "TAGS" in listed


def test_each_playbook_of_a_user_s_is_among_them() -> None:
    assert {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - {"lab"} == PLAYBOOKS
