"""Keep and compile the modules that Ansible packs, for the next run of a playbook, in the directory that LAB_MODULES names."""

import dataclasses
import json
import os
import pickle
import shlex
import subprocess
from pathlib import Path

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: modules
type: notification
short_description: Keeps packed modules from one run of a playbook to the next
description:
  - Ansible packs each module with its imports, which costs the controller CPU, and discards the package when the run ends.
  - A host compiles the package's content at each call, which is a third of the call's cost.
"""

# A package holds the bytecode of one Python; any other Python uses the source. With hosts of both bases, the newer one wins.
BASES = ("debian13", "debian12")

# Runs on a host. A flag of 1 means that Python does not check the source again: https://peps.python.org/pep-0552/
COMPILE = """
import base64, importlib.util, io, json, marshal, sys, zipfile
for line in sys.stdin:
    name, package = json.loads(line)
    source, compiled = zipfile.ZipFile(io.BytesIO(base64.b64decode(package))), io.BytesIO()
    with zipfile.ZipFile(compiled, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            text = source.read(entry)
            target.writestr(entry, text)
            if entry.filename.endswith(".py"):
                code = marshal.dumps(compile(text, entry.filename, "exec", dont_inherit=True))
                head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(text)
                target.writestr(entry.filename + "c", head + code)
    print(json.dumps([name, base64.b64encode(compiled.getvalue()).decode()]))
"""


class CallbackModule(CallbackBase):
    """Puts the kept modules where Ansible looks for packed ones; does nothing without LAB_MODULES."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "modules"

    def __init__(self, *arguments, **options):
        """Read LAB_MODULES."""
        super().__init__(*arguments, **options)
        self.kept = Path(os.environ["LAB_MODULES"]) if "LAB_MODULES" in os.environ else None
        self.ssh = {}

    def v2_playbook_on_play_start(self, play):
        """Link the modules kept for the base of the play's hosts."""
        if self.kept:
            hosts = play.get_variable_manager()._inventory.get_hosts(play.hosts)
            bases = {host.vars.get("lab_base") for host in hosts}
            kept = self.kept / next((base for base in BASES if base in bases), BASES[0])
            kept.mkdir(parents=True, exist_ok=True)
            # ansible.executor.module_common looks for them there, by name; they do not contain a call's arguments.
            packed = Path(C.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
            packed.unlink(missing_ok=True)
            packed.symlink_to(kept)

    def v2_runner_on_ok(self, result):
        """Note the ssh command of a host that can compile."""
        variables = result.host.vars
        if (base := variables.get("lab_base")) in BASES and (key := variables.get("ansible_ssh_private_key_file")):
            self.ssh[base] = ["ssh", "-F", str(Path(key).with_name("ssh_config")), result.host.name]

    def v2_playbook_on_stats(self, stats):
        """Compile the modules that this run has packed."""
        for base, ssh in self.ssh.items() if self.kept else ():
            if fresh := [path for path in (self.kept / base).glob("*") if is_fresh(path)]:
                self.compile(fresh, ssh)

    def compile(self, fresh, ssh):
        """Compile these packages on a host, over ssh."""
        modules = {path.name: pickle.loads(path.read_bytes()) for path in fresh}
        packages = [json.dumps([name, module.zip_data.decode()]) for name, module in modules.items()]
        command = [*ssh, f"python3 -c {shlex.quote(COMPILE)}"]
        answer = subprocess.run(command, input="\n".join(packages), capture_output=True, text=True, timeout=120, check=False)
        if answer.returncode:
            self._display.warning(f"The packed modules stay uncompiled because {shlex.join(ssh)} failed: {answer.stderr}")
        for name, package in map(json.loads, answer.stdout.splitlines()):
            # Another run may be reading it, or compiling it too.
            written = fresh[0].with_name(f"{name}-{os.getpid()}-part")
            written.write_bytes(pickle.dumps(dataclasses.replace(modules[name], zip_data=package.encode())))
            written.rename(fresh[0].with_name(name))
            fresh[0].with_name(f"{name}.compiled").touch()


def is_fresh(path):
    """Return whether a file in the directory is a packed module that has not been compiled."""
    return not path.name.endswith((".lock", "-part", ".compiled")) and not path.with_name(f"{path.name}.compiled").exists()
