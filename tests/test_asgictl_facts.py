"""The facts that a deploy decides by."""

import platform
import shutil
import sys
from pathlib import Path

import pytest
from asgictl import facts
from asgictl.app import App
from asgictl.facts import host_facts, version_of


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


@pytest.mark.parametrize(
    ("python", "version"),
    [("2.4", "2.4"), ("2.4.1", "2.4.1"), ("cpython-2.4t", "2.4"), ("python2.4", "2.4"), ("pypy@2.4", ""), ("/a/2.4", "")],
)
def test_a_python_that_the_host_lacks_counts_if_it_may_be_downloaded(app: App, python: str, version: str) -> None:
    assert host_facts(app, python=python)["python"] == ""
    assert host_facts(app, python=python, python_downloads=True)["python"] == version


def test_the_hosts_own_python_counts_before_one_that_may_be_downloaded(app: App, python_of_these_tests: str) -> None:
    short = ".".join(platform.python_version_tuple()[:2])
    assert host_facts(app, python=short, python_downloads=True)["python"] == platform.python_version()
