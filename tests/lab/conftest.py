"""A base image, and clones whose labs are separate from this machine's other labs."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from labs import ROOT, Clone, as_root, free_port

sys.path.insert(0, str(ROOT / "tools"))

import clean


def base_directory() -> Path | None:
    """Return the directory of a base image of this machine's labs, if there is one."""
    images = Path("/var/lib/asgilab/images")
    listing = as_root("cat", images / "overlay-images/images.json", check=False).stdout
    for record in json.loads(listing or "[]"):
        if any(name.startswith("localhost/asgilab:debian12-") for name in record.get("names", [])):
            return images / "overlay" / record["layer"] / "diff"
    return None


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A world-readable directory with an archive of Debian, for clones and their state."""
    assert clean.remove_tests(), "an earlier run has left something, see above"
    path = Path(tempfile.mkdtemp(prefix="labs", dir="/var/tmp"))
    clean.TESTS.parent.mkdir(exist_ok=True)
    clean.TESTS.symlink_to(path)
    path.chmod(0o755)
    base = base_directory()
    if base:
        unneeded = ("./var/lib/apt", "./usr/lib/python3*", "./usr/lib/*/gconv")
        excluded = [f"--exclude={pattern}" for pattern in unneeded]
        as_root("tar", "--create", "--file", path / "base.tar", *excluded, "--directory", base, ".")
    else:
        packages = "ca-certificates,dbus,iproute2,openssh-server,procps,python3,sudo,systemd,systemd-sysv"
        as_root("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", path / "base.tar")
    yield path
    assert clean.remove_tests(), "something is left, see above"


@pytest.fixture(scope="session")
def make_clone(room) -> Callable[[str], Clone]:
    """A function that makes a clone with this name."""
    return lambda name: Clone(room / name, room / "state", free_port())


@pytest.fixture(scope="session")
def clone(make_clone) -> Clone:
    """One clone."""
    return make_clone("one")
