"""Action: run the asgictl module with this run's token, and take over the lock of a run that has ended."""

import copy
import getpass
import os
import platform
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# A step that is done by then reports nothing.
SILENT_SECONDS = 3
POLL_SECONDS = 2
# The longest time without a line.
MOST_SILENT_SECONDS = 10


def process_started(pid: int) -> str:
    """Return when process `pid` of this machine started, in clock ticks since boot; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def machine() -> str:
    """Return the id of this controller since its boot; a container has its own process numbers, so it has its own id."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        numbers = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        boot = numbers = "-"
    return f"{platform.node()}/{boot}-{numbers}"


def token_of(pid: int) -> str:
    """Return the token of the playbook run whose main process is `pid`."""
    return f"{machine()}/{pid}/{process_started(pid)}"


def is_dead(token: str) -> bool:
    """Return whether `token` names a playbook run of this machine that has ended; False for other machines."""
    node, boot, pid, started = (token.split("/") + [""] * 4)[:4]
    return f"{node}/{boot}" == machine() and process_started(int(pid)) != started


class Progress:
    """Prints what a step on a host reports while it runs; `read` returns the report from an offset on, `show` prints a line."""

    def __init__(self, read: Callable[[int], str], show: Callable[[str], None]) -> None:
        self.read, self.show = read, show
        self.offset, self.last = 0, "working"
        self.began = self.spoken = time.monotonic()

    def poll(self) -> None:
        """Print the new lines; a sign of life if there is none for long."""
        text = self.read(self.offset)
        # A line may be only half written.
        complete = text[: text.rfind("\n") + 1]
        self.offset += len(complete.encode())
        now = time.monotonic()
        for line in complete.splitlines():
            self.show(line)
            self.last, self.spoken = line.partition(" …")[0].partition(":")[0], now
        if now - self.spoken >= MOST_SILENT_SECONDS:
            self.show(f"{self.last}, for {now - self.began:.0f} s now")
            self.spoken = now

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """Poll until the block ends; what can't be read ends the polling, not the step."""
        ended = threading.Event()

        def work() -> None:
            wait = SILENT_SECONDS
            while not ended.wait(wait):
                wait = POLL_SECONDS
                try:
                    self.poll()
                except (AnsibleError, OSError) as error:
                    self.show(f"(no progress is shown: {error})")
                    return

        polling = threading.Thread(target=work, daemon=True)
        polling.start()
        try:
            yield
        finally:
            ended.set()
            # A poll that hangs must not hold the step.
            polling.join(POLL_SECONDS)


class ActionModule(ActionBase):
    """Runs the module with this run's token, and again with a take-over if the lock's holder is dead."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        """Carry out the step; see the module for arguments and results."""
        super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")
        # Tasks run in forks of the ansible-playbook process.
        arguments = self._task.args | {"token": token_of(os.getppid())}
        if arguments.get("do") == "begin":
            owner = {"owner": f"{getpass.getuser()}@{platform.node()}"}
            arguments["arguments"] = arguments.get("arguments", {}) | owner
        if arguments.get("bundle") and not self._task.check_mode:
            remote = self._connection._shell.join_path(self._make_tmp_path(), "bundle.tar")
            arguments["bundle"] = self._transfer_file(arguments["bundle"], remote)
        with self._progress(arguments["app"], host).while_running():
            result = self._call(arguments, task_vars)
        if is_dead(result.get("locked", {}).get("token", "")):
            arguments["arguments"]["takeover"] = result["locked"]["token"]
            result = self._call(arguments, task_vars)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _progress(self, app, host):
        # The module uses the connection meanwhile; over ssh, both share one session (ControlMaster).
        connection, display = copy.copy(self._connection), Display()

        def read(offset):
            file = shlex.quote(f"/run/asgictl/{app}.progress")
            status, output, _ = connection.exec_command(f"tail -c +{offset + 1} {file} 2>/dev/null", sudoable=False)
            return output.decode(errors="replace") if status == 0 else ""

        return Progress(read, lambda line: display.display(f"    {host}: {line}"))

    def _call(self, arguments, task_vars):
        # The host's syslog would get every argument, including a private index's password.
        quiet = {**(task_vars or {}), "ansible_no_target_syslog": True}
        return self._execute_module("asgictl", module_args=arguments, task_vars=quiet)
