"""Build a source on the controller: run its commands in a clean copy, and keep the result for the next deploy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.django_asgi.site.plugins.module_utils.requirements import Unusable

# What a command finds in its environment besides django_asgi_build_environment.
PASSED_ON = ("PATH", "HOME", "LANG")
MOST_KEPT = 10
MOST_LINES = 20
# A line that a tool prints is shorter than this.
LAST_BYTES = MOST_LINES * 4096
SHORTEST_SECRET = 4
# A build that is under way is younger: django_asgi_build_seconds has a smaller limit.
ABANDONED_SECONDS = 2 * 86400
UNDER_WAY = ".building-"
# No part of a source, whoever has made them.
NEVER_DIRECTORIES = {".git", "__pycache__", ".venv"}
COMPILED = (".pyc", ".pyo")


@dataclass(frozen=True)
class Build:
    """How a source is built.

    `commands` are run one after another, without a shell. `environment` has their variables, whose values count as secrets.
    `seconds` limits all of them together. `excludes` names directories, anywhere in the tree, that the result lacks.
    """

    commands: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    seconds: float = 1800
    excludes: list[str] = field(default_factory=lambda: ["node_modules"])


def user_cache() -> Path:
    """Return the user's directory for what can be made again: results of builds, and bundles."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path has to be ignored (XDG Base Directory Specification).
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "django_asgi"


def built(source: bytes, build: Build, cache: Path) -> Path:
    """Return the directory of a built source; it is in `cache`, and must not be changed.

    `source` is a tar archive of the source's files. Equal inputs (files, commands, environment, excludes) are built once. Raises
    Unusable if a command fails, can't be started, or does not end in time.
    """
    inputs = json.dumps([build.commands, build.environment, build.excludes], sort_keys=True).encode()
    result = cache / hashlib.sha256(hashlib.sha256(source).digest() + inputs).hexdigest()
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not result.is_dir():
            _build(source, build, result)
        # The time of the last use.
        os.utime(result)
        _tidy(cache, result)
    except OSError as error:
        raise Unusable(f"The result of django_asgi_build_commands can't be written to {cache}: {error}.") from error
    return result


def files_of_result(directory: Path, of_source: Collection[str]) -> list[str]:
    """Return the files of a built source, relative and sorted: also those that .gitignore names, but no caches of Python.

    `of_source` are the paths that the source had before; each of them that is still there belongs to the result.
    """
    found = []
    for folder, folders, names in os.walk(directory):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in [*names, *links]:
            path = Path(folder, name).relative_to(directory)
            made_by_python = path.suffix in COMPILED or not NEVER_DIRECTORIES.isdisjoint(path.parts)
            if path.as_posix() in of_source or not made_by_python:
                found.append(path)
    return [path.as_posix() for path in sorted(found)]


def _build(source: bytes, build: Build, result: Path) -> None:
    """Make `result`, which appears with one rename."""
    place = Path(tempfile.mkdtemp(prefix=UNDER_WAY, dir=result.parent))
    try:
        copy, output = place / "source", place / "output"
        copy.mkdir()
        _unpack(source, copy)
        deadline = time.monotonic() + build.seconds
        for command in build.commands:
            _run(command, build, copy, output, deadline)
        for folder, folders, _names in os.walk(copy):
            for name in set(folders) & set(build.excludes):
                folders.remove(name)
                _remove(Path(folder, name))
        try:
            copy.rename(result)
        except OSError:
            # If another run has just built the same, its result is as good.
            if not result.is_dir():
                raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unpack(source: bytes, directory: Path) -> None:
    command = ["tar", "--extract", "--no-same-owner", "--file=-", f"--directory={directory}"]
    unpacked = subprocess.run(command, input=source, check=False, capture_output=True)
    if unpacked.returncode:
        raise OSError(unpacked.stderr.decode(errors="replace").strip())


def _run(command: str, build: Build, directory: Path, output: Path, deadline: float) -> None:
    """Run one command; Unusable, with its last lines, unless it succeeds before the deadline. Nothing that it started stays."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # A file instead of a pipe, which a process that is left behind would keep open.
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                shlex.split(command),
                cwd=directory,
                env=passed_on | build.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise Unusable(
                f"'{command}' in django_asgi_build_commands can't be started on this machine: {error.strerror}; its first word has to "
                f"be a program in PATH, or a path that is relative to the source."
            ) from error
        try:
            code = process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            raise Unusable(
                f"django_asgi_build_commands did not end within {build.seconds:g} s, so '{command}' was stopped; "
                f"django_asgi_build_seconds sets the limit.{_last_lines(output, build)}"
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        how = f"failed with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        raise Unusable(f"'{command}' in django_asgi_build_commands {how} on this machine.{_last_lines(output, build)}")


def _last_lines(output: Path, build: Build) -> str:
    """Return what a command has printed last, without the values of its variables, as text to append to a sentence."""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - LAST_BYTES))
        text = file.read().decode(errors="replace")
    for value in sorted(build.environment.values(), key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "********")
    lines = text.rstrip().splitlines()[-MOST_LINES:]
    return " Its last lines:\n" + "\n".join(lines) if lines else " It printed nothing."


def _tidy(cache: Path, used: Path) -> None:
    """Remove all results but those that were used last, and what an interrupted build has left."""
    results = []
    for entry in cache.iterdir():
        # Another run may be removing it.
        with contextlib.suppress(FileNotFoundError):
            changed = entry.stat().st_mtime
            if not entry.name.startswith("."):
                results.append((entry != used, -changed, entry))
            elif time.time() - changed > ABANDONED_SECONDS:
                _remove(entry)
    for _other, _age, entry in sorted(results)[MOST_KEPT:]:
        going = cache / f".{entry.name}"
        with contextlib.suppress(FileNotFoundError):
            # Renamed first, because a result that is there counts as complete.
            entry.rename(going)
            _remove(going)


def _remove(path: Path) -> None:
    path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
