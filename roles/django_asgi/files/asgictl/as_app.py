"""Run the app's programs: as the app's user, for a limited time, and no longer than asgictl itself."""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

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
        raise _too_late(app, command, limit, errors or output) from None
    finally:
        _kill(process)
        running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


class Conversation:
    """A program of the app that reports as it goes: it writes a JSON object a line to a descriptor, and reads answers."""

    def __init__(self, process: subprocess.Popen, messages: int, output: IO[bytes], deadline: float) -> None:
        self._process = process
        self._messages = messages
        self._output = output
        self._deadline = deadline
        self._received = b""

    def hear(self, seconds: float | None = None) -> dict:
        """Return the program's next message; empty if it has ended. TimeoutExpired after `seconds`, or at the deadline."""
        deadline = min(self._deadline, time.monotonic() + seconds) if seconds else self._deadline
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._messages], [], [], left)[0]:
                raise subprocess.TimeoutExpired(self._process.args, 0)
            part = os.read(self._messages, 65536)
            if not part:
                return {}
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def answer(self, **answer: object) -> None:
        """Send the program an object; one that has ended does not read it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(answer).encode() + b"\n")
            self._process.stdin.flush()

    def last_words(self) -> str:
        """Wait until the program has ended; return all that it has printed, errors included. TimeoutExpired at the deadline."""
        while self.hear():
            pass
        self._process.wait(max(self._deadline - time.monotonic(), 1))
        return self.output()

    def output(self) -> str:
        """Return what the program has printed so far, errors included."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


@contextlib.contextmanager
def talking(
    app: App, command: Sequence[str | Path], *, cwd: Path, env: dict[str, str], umask: int = 0o022
) -> Iterator[Conversation]:
    """Run a program as `as_app` does, and talk with it: its last argument is the descriptor for its messages.

    Refused if it has not ended in time; it is killed at the end of the block.
    """
    limit = app.policy()["program_seconds"]
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*map(str, command), str(writing)],
            cwd=cwd,
            env=env,
            umask=umask,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
            **user(app),
        )
        running.add(process)
        os.close(writing)
        conversation = Conversation(process, reading, output, time.monotonic() + limit)
        try:
            yield conversation
        except subprocess.TimeoutExpired:
            raise _too_late(app, command, limit, conversation.output()) from None
        finally:
            _kill(process)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
            os.close(reading)
            running.discard(process)


def _too_late(app: App, command: Sequence[str | Path], limit: float, output: str) -> Refused:
    # A program's text may be an argument.
    words = [str(word) for word in command[:4] if "\n" not in str(word)]
    return Refused(
        f"'{' '.join(words)}' of {app.name} did not end within {limit:g} s and was stopped; "
        f"django_asgi_program_seconds sets the limit.",
        details="\n".join(output.splitlines()[-20:]),
    )


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
