"""Render a role's template as Ansible would, without a host."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from jinja2 import Environment

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core before 2.19 trusts every string

    def trust_as_template(value: str) -> str:
        """Return ``value`` as it is."""
        return value


ROLES = Path(__file__).resolve().parent.parent / "roles"


@cache
def _loader() -> DataLoader:
    """Return the one DataLoader; conftest.py registers the collection's plugins."""
    _compile_once()
    return DataLoader()


def _compile_once() -> None:
    """Make Jinja keep compiled templates: each Templar has its own environment and would compile everything again."""
    compile_, compiled = Environment.compile, {}

    def compile_once(self: Environment, source: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(source, str):
            return compile_(self, source, *arguments, **options)
        key = (type(self), source, arguments, tuple(options.items()), self.trim_blocks, self.lstrip_blocks)
        if key not in compiled:
            compiled[key] = compile_(self, source, *arguments, **options)
        return compiled[key]

    Environment.compile = compile_once


def _mark(value: Any) -> Any:
    """Return ``value`` with every string in it marked as a template, as inventory values are."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: _mark(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mark(item) for item in value]
    return value


@cache
def _load(path: Path) -> dict[str, Any]:
    """Return the variables of a YAML file, which must not be changed; none if there is no such file."""
    return _mark(_loader().load_from_file(str(path)) or {}) if path.exists() else {}


def defaults(role: str) -> dict[str, Any]:
    """Return what ``roles/<role>/defaults/main.yml`` sets, untemplated."""
    return _load(ROLES / role / "defaults" / "main.yml")


def argument_specs(role: str, entry: str = "main") -> dict[str, Any]:
    """Return the options of one entry point of a role's argument_specs."""
    return _load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"][entry]["options"]


def _templar(role: str, variables: dict[str, Any]) -> Templar:
    """Return a Templar that sees a role's defaults, then ``variables``, then the role's own vars on Debian."""
    known = {
        "ansible_managed": "Ansible managed",
        "role_path": str(ROLES / role),
        "role_name": role,
        **defaults(role),
        **_mark(variables),
        **_load(ROLES / role / "vars" / "main.yml"),
        **_load(ROLES / role / "vars/families/debian.yml"),
    }
    return Templar(loader=_loader(), variables={**known, "vars": known})


def evaluate(role: str, expression: str, **variables: Any) -> Any:
    """Evaluate one expression or variable among a role's defaults and vars.

    In: the role's name, ``expression`` as it would stand between braces, ``variables`` as inventory would set them.
    Out: the value, in its own type. Errors: whatever Ansible raises, for instance for an undefined variable.
    """
    return _templar(role, variables).template(trust_as_template("{{ " + expression + " }}"))


def faults(role: str, directory: str = "/", hosts: tuple[str, ...] = ("host0",), **variables: Any) -> str:
    """Return the faults that the validation finds in a role's defaults and ``variables``, one per line.

    In: the role's name, the inventory's directory, its hosts, ``variables`` as inventory would set them.
    """
    _loader()
    validated = importlib.import_module("ansible_collections.django_asgi.site.plugins.action.validated")
    templar = _templar(role, variables)
    names = {name for name in {**defaults(role), **variables} if name.startswith(f"{role}_")}
    values = {name: templar.template(templar.available_variables[name]) for name in sorted(names)}
    inventory = {"hosts": hosts, "played": hosts, "directory": directory}
    return "\n".join(map(str, validated.faults(role, values, inventory)))


def render(role: str, template: str, **variables: Any) -> str:
    """Render ``roles/<role>/templates/<template>``.

    In: the role's name, the template's file name, ``variables`` as inventory would set them.
    Out: the text that a host would get. Errors: whatever Ansible raises, for instance for an undefined variable.
    """
    folder = ROLES / role / "templates"
    text = (folder / template).read_text(encoding="utf-8")
    variables.setdefault("template_path", str(folder / template))
    options = {"trim_blocks": True, "lstrip_blocks": False}
    templar = _templar(role, variables).copy_with_new_env(searchpath=[str(folder)])
    return str(templar.template(trust_as_template(text), escape_backslashes=False, overrides=options))
