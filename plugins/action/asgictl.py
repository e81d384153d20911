"""Action: run the asgictl module with this run's token, and take over the lock of a run that has ended."""

import getpass
import os
import platform
from pathlib import Path

from ansible.plugins.action import ActionBase


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


class ActionModule(ActionBase):
    """Runs the module with this run's token, and again with a take-over if the lock's holder is dead."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        """Carry out the step; see the module for arguments and results."""
        super().run(tmp, task_vars)
        # Tasks run in forks of the ansible-playbook process.
        arguments = self._task.args | {"token": token_of(os.getppid())}
        if arguments.get("do") == "begin":
            owner = {"owner": f"{getpass.getuser()}@{platform.node()}"}
            arguments["arguments"] = arguments.get("arguments", {}) | owner
        if arguments.get("bundle") and not self._task.check_mode:
            remote = self._connection._shell.join_path(self._make_tmp_path(), "bundle.tar")
            arguments["bundle"] = self._transfer_file(arguments["bundle"], remote)
        result = self._call(arguments, task_vars)
        if is_dead(result.get("locked", {}).get("token", "")):
            arguments["arguments"]["takeover"] = result["locked"]["token"]
            result = self._call(arguments, task_vars)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _call(self, arguments, task_vars):
        # The host's syslog would get every argument, including a private index's password.
        quiet = {**(task_vars or {}), "ansible_no_target_syslog": True}
        return self._execute_module("asgictl", module_args=arguments, task_vars=quiet)
