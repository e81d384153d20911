"""Action: install packages with apt; queries dpkg first, because apt takes seconds to find that nothing is missing.

Arguments: `names`, `cache_valid_time` (seconds for which the host's package lists count as fresh), `advice` (what to do if the
host's package sources lack one, as a command to a person). Returns `missing`, the packages
that were not installed, and `present`, whether all are installed now; check mode installs nothing, and `msg` names what would be.
"""

from __future__ import annotations

import re
import shlex

from ansible.plugins.action import ActionBase


def installed(output: str) -> set[str]:
    """Return the names of the packages that dpkg-query reports as installed."""
    return {name for name, _, state in (line.partition(" ") for line in output.splitlines()) if state == "installed"}


def explained(message: str, advice: str) -> str:
    """Return the message of the module apt, with what to do if it reports a package that the host's sources lack."""
    lacking = re.search("No package matching '([^']+)' is available", message)
    if not lacking:
        return message
    source = "enable a source that has it, such as Ubuntu's universe"
    return f"This host's package sources have no {lacking[1]}: {f'{advice}, or {source}' if advice else source}."


class ActionModule(ActionBase):
    """Installs packages; arguments: names, cache_valid_time, advice."""

    _VALID_ARGS = frozenset(("names", "cache_valid_time", "advice"))

    def run(self, tmp=None, task_vars=None):
        """Install what is missing."""
        super().run(tmp, task_vars)
        names = self._task.args["names"]
        query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names]
        # It fails if it does not know one of the packages, but still prints the others.
        output = self._low_level_execute_command(shlex.join(query))["stdout"]
        missing = [name for name in names if name not in installed(output)]
        if not missing:
            return {"changed": False, "missing": [], "present": True}
        if self._task.check_mode:
            # The apt module can't answer on a host without python3-apt or package lists.
            return {"changed": True, "missing": missing, "present": False, "msg": f"{', '.join(missing)} would be installed"}
        arguments = {
            "name": missing,
            "state": "present",
            "update_cache": True,
            "cache_valid_time": int(self._task.args.get("cache_valid_time", 86400)),
            "install_recommends": False,
        }
        result = self._execute_module("ansible.builtin.apt", arguments, task_vars=task_vars)
        if result.get("failed"):
            result["msg"] = explained(result.get("msg", ""), self._task.args.get("advice", ""))
        return result | {"missing": missing, "present": True}
