"""The controller's side of the asgictl module: who calls, and whether the holder of a lock is still alive."""

import getpass
import os
import platform
from pathlib import Path

from ansible.plugins.action import ActionBase


def process_started(pid: int) -> str:
    """When process `pid` of this machine was started, in clock ticks since boot; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def machine() -> str:
    """This controller since it was booted; a container has process numbers of its own, so it is another one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        numbers = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        boot = numbers = "-"
    return f"{platform.node()}/{boot}-{numbers}"


def token_of(pid: int) -> str:
    """What names the playbook run whose main process is `pid`."""
    return f"{machine()}/{pid}/{process_started(pid)}"


def is_dead(token: str) -> bool:
    """Whether `token` names a playbook run of this machine that has ended; of other machines nothing is known."""
    node, boot, pid, started = (token.split("/") + [""] * 4)[:4]
    return f"{node}/{boot}" == machine() and process_started(int(pid)) != started


class ActionModule(ActionBase):
    """Runs the module with this run's token, and again with a take-over if the lock's holder is known to be dead."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        """Carry out the step; see the module for arguments and results."""
        super().run(tmp, task_vars)
        # Tasks run in forks of the process that ansible-playbook is.
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
        # The host's syslog would get every argument, a private index's password among them.
        quiet = {**(task_vars or {}), "ansible_no_target_syslog": True}
        return self._execute_module("asgictl", module_args=arguments, task_vars=quiet)
