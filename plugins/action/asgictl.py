"""Action: carry out one step of a release on a host, by one call of the program asgictl.

Arguments: `app`, its name; `do`, a method of asgictl's Deploy, or facts, plan or status; `arguments` of that step; `secrets`,
`key` and `bundle` (a file on the controller), which belong to the steps stage and plan; `install`, the directory of the program's
package, which the host gets first unless it has the same. In check mode only facts, plan and status run; the others
report a change.

The request goes to the program's input, as a module would through a pipelined connection, but without a module's cost: Ansible
would assemble, send and unpack one for each task. It is in no argument and no file, so no list of processes and no log shows it.
"""

import copy
import getpass
import hashlib
import json
import os
import platform
import shlex
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.django_asgi.site.plugins.module_utils.progress import Progress
from ansible_collections.django_asgi.site.plugins.module_utils.zipapp import zipapp

PROGRAM = "/usr/local/bin/asgictl"
READS = ("facts", "plan", "status")
# What the step facts would report of a host without the program.
NOTHING_THERE = {
    "live": None,
    "previous": None,
    "serves": False,
    "order": [],
    "leader": False,
    "key": "",
    "workers_auto": 0,
    "python": "",
}
# Exit codes of the shell that starts the program.
OUTDATED = 92
MISSING = 127


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
    """Carries out a step with this run's token, and again with a take-over if the lock's holder is dead."""

    _VALID_ARGS = frozenset(("app", "do", "arguments", "secrets", "key", "bundle", "install"))

    def run(self, tmp=None, task_vars=None):
        """Carry out the step; return asgictl's answer."""
        super().run(tmp, task_vars)
        given, host = self._task.args, (task_vars or {}).get("inventory_hostname", "")
        reads = given["do"] in READS
        if self._task.check_mode and not reads:
            return {"changed": True}
        request = {"do": given["do"], **given.get("arguments", {})}
        if not reads:
            # Tasks run in forks of the ansible-playbook process.
            request["token"] = token_of(os.getppid())
        if given["do"] == "begin":
            request["owner"] = f"{getpass.getuser()}@{platform.node()}"
        bundle = Path(given["bundle"]).read_bytes() if "bundle" in given else b""
        if "secrets" in given:
            own = {"secrets": given["secrets"], "key": given.get("key"), "bundle": "-" if bundle else None}
            request["order"] = request["order"] | own
        archive = zipapp(Path(given["install"])) if "install" in given else b""
        with self._progress(given["app"], host).while_running():
            answer = self._call(given["app"], request, bundle, archive)
        if is_dead(answer.get("locked", {}).get("token", "")):
            answer = self._call(given["app"], request | {"takeover": answer["locked"]["token"]})
        return answer

    def _call(self, app, request, bundle=b"", archive=b""):
        """Call asgictl with `request`, followed by `bundle` on its input; return its answer as a task's result.

        If there is an `archive`, the host's program is replaced first unless it was made from that.
        """
        text, digest = json.dumps(request).encode(), hashlib.sha256(archive).hexdigest()
        command = f"exec {PROGRAM} --app {shlex.quote(app)} call"
        if archive:
            # The program ends with the digest of what it was made from (asgictl/compiled.py).
            same = f'[ -x {PROGRAM} ] && [ "$(tail -c {len(digest)} {PROGRAM})" = {digest} ]'
            command = f"{{ {same}; }} || exit {OUTDATED}; {command}"
        done = self._low_level_execute_command(command, in_data=b"%d\n%s%s" % (len(text), text, bundle))
        if done["rc"] == OUTDATED:
            if not self._task.check_mode:
                self._install(archive, digest)
            return self._call(app, request, bundle) | {"changed": True}
        if done["rc"] == MISSING and self._task.check_mode:
            return dict(NOTHING_THERE)
        if done["rc"] == MISSING:
            return {"failed": True, "msg": f"This host has no {PROGRAM}: run playbooks/deploy.yml first."}
        try:
            answer = json.loads((done["stdout_lines"] or [""])[-1])
        except ValueError:
            last = (done["stderr_lines"] or done["stdout_lines"] or ["it printed nothing"])[-1]
            return {"failed": True, "msg": f"asgictl stopped in the step {request['do']}: {last}\n{done['stderr']}"}
        for warning in answer.pop("warnings", []):
            Display().warning(warning)
        if done["rc"]:
            answer |= {"failed": True, "msg": "\n".join(filter(None, [answer["msg"], answer.pop("details", "")]))}
        return answer

    def _install(self, archive, digest):
        """Put the program on the host, as what its Python makes of `archive`."""
        new = f"{PROGRAM}.$$"
        # Renamed into its place, because another app's retirement may run it at this moment.
        put = f"umask 022; cat >{new} && chmod 0755 {new} && {new} compile {digest} && mv -T {new} {PROGRAM}"
        done = self._low_level_execute_command(f"{put} || {{ rm -f {new}; exit 1; }}", in_data=archive)
        if done["rc"]:
            raise AnsibleError(f"{PROGRAM} can't be written on this host: {done['stderr'].strip() or done['stdout'].strip()}")

    def _progress(self, app, host):
        # The step uses the connection meanwhile; over ssh, both share one session (ControlMaster).
        connection, display = copy.copy(self._connection), Display()

        def read(offset):
            file = shlex.quote(f"/run/asgictl/{app}.progress")
            status, output, _ = connection.exec_command(f"tail -c +{offset + 1} {file} 2>/dev/null", sudoable=False)
            return output.decode(errors="replace") if status == 0 else ""

        return Progress(read, lambda line: display.display(f"    {host}: {line}"))
