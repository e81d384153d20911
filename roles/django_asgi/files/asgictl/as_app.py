"""Run the app's programs: as the app's user, for a limited time, and no longer than asgictl itself."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from asgictl.app import App
from asgictl.errors import Refused

running: set[subprocess.Popen] = set()


def as_app(
    app: App,
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str],
    umask: int = 0o022,
    stdin: str = "",
    merged: bool = False,
    seconds: float | None = None,
) -> subprocess.CompletedProcess:
    """Run a program as the app's user, never as root; return its exit code and its output as text.

    With `merged`, `stdout` includes standard error. Refused if the program has not ended after `seconds`, by default the
    `program_seconds` of the host's policy. Processes that it leaves running are killed.
    """
    limit = seconds or app.policy()["program_seconds"]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env=env,
        umask=umask,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        **user(app),
    )
    running.add(process)
    try:
        output, errors = process.communicate(stdin, timeout=limit)
    except subprocess.TimeoutExpired:
        _kill(process)
        output, errors = process.communicate()
        raise Refused(
            f"'{' '.join(map(str, command[:4]))}' of {app.name} did not end within {limit:g} s and was stopped; "
            f"django_asgi_program_seconds sets the limit.",
            details="\n".join((errors or output).splitlines()[-20:]),
        ) from None
    finally:
        _kill(process)
        running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def user(app: App) -> dict:
    """The subprocess settings that turn root into the app's user; empty for any other user."""
    return {"user": app.uid(), "group": app.gid(), "extra_groups": []} if os.geteuid() == 0 else {}


def give_to_app(app: App, path: Path) -> None:
    """Make the app the owner of `path`, which root has just created in root's directory."""
    if os.geteuid() == 0:
        os.chown(path, app.uid(), app.gid())


def end_with_caller() -> None:
    """Make SIGINT, SIGTERM and SIGHUP kill the app's programs, then end this process with its cleanup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> NoReturn:
    for process in list(running):
        _kill(process)
    raise SystemExit(f"asgictl was interrupted ({signal.Signals(number).name}).")


def _kill(process: subprocess.Popen) -> None:
    """Kill a program's process group, which keeps the program's number even after the program has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
