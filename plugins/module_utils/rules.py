"""Check a role's variables against its argument spec and its rules.

The spec states types, defaults, choices and secrets. A role's vars/rules.yml states what the spec can't, as data:

    name_of_a_variable: port                        a kind; "port?" accepts an empty value too
    name_of_a_variable: {range: [1, 9], unit: seconds, or: [auto]}
    name_of_a_variable: {text: "[a-z]+", expected: a word}
    name_of_a_list: {each: network, least: 1}       a bare kind applies to each element as well
    name_of_a_dictionary: {keys: header, values: line}      with secret: true its values are never shown
    name_of_a_list: {entries: {name: sql_name, port: port?}, required: [name], unique: [name], least: 1}
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ansible_collections.django_asgi.site.plugins.module_utils.kinds import KINDS, SWITCH, Kind, choice, text, whole_number

TRUE = ("true", "yes", "on", "1")


@dataclass(frozen=True)
class Fault:
    """The problem of a variable, and what is expected; never shows a secret."""

    variable: str
    problem: str

    def __str__(self) -> str:
        """Return the fault as a sentence."""
        return f"{self.variable} {self.problem}" + ("" if self.problem.endswith("?") else ".")


def wrong(variable: str, value: object, expected: str, verb: str = "is", secret: bool = False) -> Fault:
    """Return the fault of a value, which is shown on one line unless it is secret."""
    shown = "empty" if value in ("", [], {}, None) else str(value).replace("\n", "\\n")
    return Fault(variable, f"{verb} {'not acceptable' if secret else shown}; expected {expected}")


def unknown(name: str, known: Collection[str], role: str) -> Fault:
    """Return the fault of a variable that the role does not have."""
    close = difflib.get_close_matches(name.removeprefix(role), [one.removeprefix(role) for one in known], 1)
    return Fault(name, f"is not a variable of the role {role}" + (f"; did you mean {role}{close[0]}?" if close else ""))


def check(specs: dict, rules: dict, given: dict) -> Iterator[Fault]:
    """Check values, by name, against the options of a spec and the rules; yield every fault."""
    for name, spec in specs.items():
        if name not in given:
            if spec.get("required"):
                yield Fault(name, "is not set, and has no default")
            continue
        rule = _rule_of(spec, rules.get(name))
        secret = isinstance(rule, dict) and rule.get("secret", False)
        yield from _check_type(name, spec, given[name], secret) or _check_rule(name, rule, given[name], secret)


def typed(specs: dict, given: dict) -> dict:
    """Return valid values in their own types: text becomes a number or a switch, a single element becomes a list."""
    return {name: _typed(specs[name].get("type", "str"), value) for name, value in given.items() if name in specs}


def _typed(kind: str, value: object) -> object:
    if kind == "int":
        return int(value)
    if kind == "bool":
        return str(value).lower() in TRUE
    if kind == "list" and not isinstance(value, list):
        return [value]
    return value


def _rule_of(spec: dict, rule: object) -> object:
    """Return the rule of a variable; the spec's own if that is enough."""
    if spec.get("type") == "bool":
        return SWITCH
    if rule is None and "choices" in spec:
        return choice(spec["choices"])
    return rule


def _check_type(name: str, spec: dict, value: object, secret: bool) -> list[Fault]:
    """Return the fault of a value that lacks its spec's shape; a single value counts as a list of one."""
    expected = {"list": "a list", "dict": "names and their values (a dictionary)"}.get(spec.get("type"))
    fits = {"list": not isinstance(value, dict) and value is not None, "dict": isinstance(value, dict)}
    if expected and not fits[spec["type"]]:
        return [wrong(name, value, expected, secret=secret)]
    if not expected and isinstance(value, (list, dict)) and spec.get("type") != "raw":
        return [wrong(name, value, f"a single value ({spec.get('type', 'str')})", secret=secret)]
    return []


def _kind(rule: object) -> tuple[Kind, bool]:
    """Return a simple rule's kind, and whether an empty value is valid too."""
    if isinstance(rule, Kind):
        return rule, False
    if isinstance(rule, str):
        return KINDS[rule.rstrip("?")], rule.endswith("?")
    if "range" in rule:
        return whole_number(*rule["range"], rule.get("unit", ""), tuple(rule.get("or", ()))), False
    return text(rule["text"], rule["expected"]), False


def _check_rule(name: str, rule: object, value: object, secret: bool = False) -> Iterator[Fault]:
    if isinstance(rule, dict) and "keys" in rule:
        yield from _check_dictionary(name, rule, value, secret)
    elif isinstance(rule, dict) and "entries" in rule:
        yield from _check_entries(name, rule, value)
    else:
        listed = isinstance(value, list)
        simple = rule["each"] if isinstance(rule, dict) and "each" in rule else rule
        if isinstance(rule, dict) and listed and len(value) < rule.get("least", 0):
            yield wrong(name, value, f"at least {rule['least']}: {_kind(simple)[0].expected}")
        for one in value if listed else [value]:
            yield from _check_value(name, simple, one, "has" if listed else "is", secret)


def _check_value(name: str, rule: object, value: object, verb: str = "is", secret: bool = False) -> Iterator[Fault]:
    kind, may_be_empty = _kind(rule)
    if may_be_empty and value in ("", None):
        return
    if not kind.accepts(value):
        yield wrong(name, value, kind.expected + (", or nothing" if may_be_empty else ""), verb, secret or kind.secret)


def _check_dictionary(name: str, rule: dict, value: dict, secret: bool) -> Iterator[Fault]:
    for key, one in value.items():
        yield from _check_value(name, rule["keys"], key, "has")
        # A kind is for a single value here: what a list means is up to whoever reads the dictionary.
        check = _check_value if isinstance(rule["values"], str) else _check_rule
        yield from check(f"{name}: {key}", rule["values"], one, secret=secret)


def _check_entries(name: str, rule: dict, value: object) -> Iterator[Fault]:
    entries = value if isinstance(value, list) else [value]
    if len(entries) < rule.get("least", 0) or not all(isinstance(entry, dict) for entry in entries):
        least = f" of at least {rule['least']}" if "least" in rule else ""
        yield Fault(name, f"is not a list{least}; expected entries, each with {', '.join(rule['required'])}")
        return
    for entry in entries:
        where = f"{name}: {entry.get('name') or 'an entry'}"
        for key in entry.keys() - rule["entries"].keys():
            yield Fault(f"{where}: {key}", f"is not known; expected one of {', '.join(rule['entries'])}")
        for key in rule["required"]:
            if entry.get(key) in (None, ""):
                yield Fault(where, f"has no {key}")
        for key in entry.keys() & rule["entries"].keys():
            yield from _check_rule(f"{where}: {key}", rule["entries"][key], entry[key])
    for key in rule.get("unique", ()):
        found = [str(entry[key]) for entry in entries if entry.get(key)]
        for double in sorted({one for one in found if found.count(one) > 1}):
            yield Fault(name, f"has two entries with the same {key}, {double}")
