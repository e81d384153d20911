"""Action: run a shell command as ansible.builtin.shell does, and print a line when it begins, while it runs, and its seconds.

Arguments: `cmd`, the command, and `name`, what the lines call it. Result: that of the module command.
"""

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.django_asgi.site.plugins.module_utils.progress import announced


class ActionModule(ActionBase):
    """Runs the command; arguments: cmd, name."""

    _VALID_ARGS = frozenset(("cmd", "name"))

    def run(self, tmp=None, task_vars=None):
        """Return the command's result."""
        super().run(tmp, task_vars)
        host, display = (task_vars or {}).get("inventory_hostname", ""), Display()
        command = {"_raw_params": self._task.args["cmd"], "_uses_shell": True}
        with announced(self._task.args["name"], lambda line: display.display(f"    {host}: {line}")):
            return self._execute_module("ansible.legacy.command", module_args=command, task_vars=task_vars)
