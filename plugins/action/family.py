"""Action: find the family of distributions that the host belongs to, and refuse a host on which the roles can't work.

Argument: `asgictl`, whether asgictl is going to run there, by default not. Returns `family`. The first call for a host in a run
probes it, in one round trip, and warns of a distribution that was never tested; later calls use what it has found.
"""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase
from ansible_collections.django_asgi.site.plugins.action.asgictl import token_of
from ansible_collections.django_asgi.site.plugins.module_utils.families import PROBE, probed

# Also a variable's name if facts are injected, so it must not begin with the name of a role.
FACT = "asgi_host_probed"


class ActionModule(ActionBase):
    """Finds the host's family; argument: asgictl."""

    _VALID_ARGS = frozenset(("asgictl",))

    def run(self, tmp=None, task_vars=None):
        """Return the family, or fail with what the host lacks."""
        super().run(tmp, task_vars)
        # Facts may outlive a run in a cache, and the host may have been upgraded since.
        run = token_of(os.getppid())
        known = (task_vars or {}).get("ansible_facts", {}).get(FACT, {})
        is_new = known.get("run") != run
        host = (task_vars or {}).get("inventory_hostname", "The host")
        answer = self._low_level_execute_command(PROBE) if is_new else {"rc": 0, "stdout": known["output"]}
        if answer["rc"]:
            return {"failed": True, "msg": f"{host} can't run a shell: {answer['stderr'].strip() or answer['stdout'].strip()}"}
        output = answer["stdout"]
        found = probed(output, bool(self._task.args.get("asgictl", False)))
        result = {"changed": False, "family": found.family, "ansible_facts": {FACT: {"run": run, "output": output}}}
        if found.faults:
            return result | {"failed": True, "msg": "\n".join(f"{host} {fault}" for fault in found.faults)}
        return result | {"warnings": [f"{host} {warning}" for warning in found.warnings] if is_new else []}
