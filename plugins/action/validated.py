"""Action: refuse an inventory whose variables can't work; reports all faults at once and contacts no host.

Arguments: `roles`, names of roles of this collection, and `variables`, which of their variables to check, by default all.
Values are those of the play, or else the defaults of the argument specs; no secret is shown.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.django_asgi.site.plugins.module_utils.rules import Fault, check, typed, unknown

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core before 2.19 treats every text as a template

    def trust_as_template(value: str) -> str:
        """Return the text as it is."""
        return value


ROLES = Path(__file__).resolve().parents[2] / "roles"
MODULE_UTILS = "ansible_collections.django_asgi.site.plugins.module_utils"


def read(role: str) -> tuple[dict, dict, set[str]]:
    """Return a role's options by name, its rules, and all names that it accepts, including those of other entry points."""
    entries = _loaded(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    rules = _loaded(ROLES / role / "vars/rules.yml")
    known = {name for entry in entries.values() for name in entry.get("options", {})} | {
        f"{role}_exports",
        *rules.pop(f"__{role}_exported", ()),
    }
    return entries["main"]["options"], rules, known


def faults(role: str, variables: dict, inventory: dict, only: list[str] | None = None) -> list[Fault]:
    """Return all faults of a role's variables, whose templates are filled in already; `only` limits the check to some.

    See the role's module_utils for `inventory`.
    """
    specs, rules, known = read(role)
    if only:
        return list(check({name: specs[name] for name in only}, rules, variables))
    given = {name: value for name, value in variables.items() if name.startswith(f"{role}_")}
    found = [unknown(name, known, role) for name in sorted(given.keys() - known)]
    found += check(specs, rules, given)
    # Rules between variables need values that are valid on their own.
    if not [fault for fault in found if fault.variable.partition(":")[0] in specs]:
        found += importlib.import_module(f"{MODULE_UTILS}.{role}").faults(typed(specs, given), inventory)
    return found


class ActionModule(ActionBase):
    """Checks the variables of roles; arguments: roles, variables."""

    _VALID_ARGS = frozenset(("roles", "variables"))

    def run(self, tmp=None, task_vars=None):
        """Fail with a sentence for each fault."""
        super().run(tmp, task_vars)
        inventory = {
            "hosts": list(task_vars["hostvars"]),
            "played": task_vars.get("ansible_play_hosts_all", []),
            "directory": task_vars.get("inventory_dir") or task_vars.get("playbook_dir", "."),
        }
        found = []
        for role in self._task.args["roles"]:
            only = self._task.args.get("variables")
            values, undefined = self._values(role, task_vars, only)
            found += undefined or faults(role, values, inventory, only)
        if found:
            return {"failed": True, "msg": "\n".join(map(str, found))}
        return {"changed": False}

    def _values(self, role: str, task_vars: dict, only: list[str] | None) -> tuple[dict, list[Fault]]:
        """Return the role's variables with their templates filled in, and a fault for each one where that fails."""
        specs, _, _ = read(role)
        defaults = {name: _trusted(spec["default"]) for name, spec in specs.items() if "default" in spec}
        self._templar.available_variables = defaults | task_vars
        named = {name for name in task_vars if name.startswith(f"{role}_")}
        values, undefined = {}, []
        for name in only or sorted(named | defaults.keys()):
            try:
                values[name] = self._templar.template(task_vars.get(name, defaults.get(name)))
            except AnsibleError as error:
                reason = " ".join(str(getattr(error, "message", error)).split())
                undefined.append(Fault(name, f"can't be evaluated: {reason}"))
        return values, undefined


def _loaded(path: Path) -> dict:
    """Return a YAML file's content, with PyYAML's quick loader where that was built."""
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _trusted(value: object) -> object:
    """Return a default with its texts marked as templates."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: _trusted(one) for key, one in value.items()}
    return [_trusted(one) for one in value] if isinstance(value, list) else value
