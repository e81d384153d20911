"""The facts that a deploy decides by."""

import platform
import shutil
import sys
from pathlib import Path

import pytest
from asgictl import facts
from asgictl.facts import version_of


@pytest.fixture
def python_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> str:
    """Take the Python that runs the tests for the system's."""
    directory = Path(sys.executable).resolve().parent
    monkeypatch.setattr(facts, "SYSTEM_PROGRAMS", f"{directory}/")
    monkeypatch.setenv("PATH", str(directory))
    return str(directory / "python3")


def test_a_python_is_known_by_version_name_or_path(python_of_these_tests: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = platform.python_version()
    short = ".".join(version.split(".")[:2])
    for name in (short, f"python{short}", python_of_these_tests):
        assert version_of(name) == version
    # Not the one that runs asgictl: it tells its version itself.
    monkeypatch.setattr(sys, "executable", "/elsewhere/python3")
    assert version_of(short) == version


def test_a_python_that_is_not_there_or_not_the_systems_is_not_run(tmp_path: Path, python_of_these_tests: str) -> None:
    own = tmp_path / "python3"
    own.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    own.chmod(0o755)
    assert version_of(str(own)) == version_of("2.4") == version_of("") == ""
    assert not (tmp_path / "ran").exists()
    assert shutil.which("python3") == python_of_these_tests
