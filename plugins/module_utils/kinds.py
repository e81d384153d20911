"""Kinds of values in an inventory: each has a test, and the words for what it expects."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

SWITCHES = ("true", "false", "yes", "no", "on", "off", "1", "0")


@dataclass(frozen=True)
class Kind:
    """`accepts` returns whether a value is valid, `expected` completes the words "expected …"; a secret is never shown."""

    expected: str
    accepts: Callable[[object], bool]
    secret: bool = False


def text(pattern: str, expected: str) -> Kind:
    """Return the kind of values whose text, as a whole, matches a regular expression."""
    return Kind(expected, lambda value: not isinstance(value, (list, dict)) and bool(re.fullmatch(pattern, str(value))))


def whole_number(least: int, most: int, unit: str = "", others: tuple[str, ...] = ()) -> Kind:
    """Return the kind of whole numbers from `least` to `most`, or one of some words; numbers may be given as text."""

    def accepts(value: object) -> bool:
        if value in others:
            return True
        return not isinstance(value, (bool, float)) and bool(re.fullmatch("-?[0-9]+", str(value))) and least <= int(value) <= most

    words = "".join(f", or {word}" for word in others)
    return Kind(f"a whole number from {least} to {most}{unit and f' {unit}'}{words}", accepts)


def choice(words: list[str]) -> Kind:
    """Return the kind that is one of these words."""
    return Kind(f"one of {', '.join(map(str, words))}", lambda value: value in words)


def _parses(parse: Callable[[str], object]) -> Callable[[object], bool]:
    def accepts(value: object) -> bool:
        try:
            parse(value)
        except (ValueError, TypeError):
            return False
        return isinstance(value, str)

    return accepts


def _is_password(value: object) -> bool:
    return isinstance(value, str) and len(value) >= 8 and not re.search(r"[\x00-\x1f]", value)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool)) and "\n" not in str(value)


SWITCH = Kind("true or false", lambda value: str(value).lower() in SWITCHES)
NETWORK = Kind(
    "an address or a network such as 10.0.0.5, 10.0.0.0/8 or fd00::/64",
    _parses(lambda value: ipaddress.ip_network(value, strict=False)),
)
KINDS = {
    "switch": SWITCH,
    "port": whole_number(1, 65535),
    "port_or_none": whole_number(0, 65535),
    "any": Kind("a value", lambda value: value is not None),
    "string": Kind("text, so in quotes if YAML would read a number", lambda value: isinstance(value, str)),
    "environment_value": Kind(
        "text, a number, true or false; write a list or a mapping as text, in the form that the settings read",
        lambda value: isinstance(value, (str, int, float, bool)),
    ),
    "scalar": Kind("a text on one line, a number, true or false", _is_scalar),
    "line": text(r'[^"$\\\n]*', "one line without quotation marks, backslashes and $"),
    "password": Kind("text (in quotes) of at least 8 characters, on one line", _is_password, secret=True),
    "owner": text(
        "[a-z][a-z0-9-]{0,49}",
        "a lower-case letter, then up to 49 lower-case letters, digits or dashes (the playbooks take inventory_owner, or else the app's name)",
    ),
    "address": Kind("an address such as 127.0.0.1, 10.0.0.5 or ::1", _parses(ipaddress.ip_address)),
    "network": NETWORK,
    "host": text("[A-Za-z0-9:][A-Za-z0-9.:-]*", "an address or a host name"),
    "path": text("/[A-Za-z0-9._/-]+", "an absolute path of letters, digits, dots, dashes and underscores"),
    "local_file": text(r'[^"\n]*', "the path of a file on the controller"),
    "url_path": text("/[A-Za-z0-9._/-]*", "a path that begins with a slash"),
    "path_prefix": text(
        "(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", "a path that starts with a slash and does not end with one, such as /shop"
    ),
    "url_directory": text("/([A-Za-z0-9._-]+/)+", "a path that starts and ends with a slash, such as /static/"),
    "package": text("[a-z0-9][a-z0-9.+-]+", "the name of a Debian package"),
    "header": text("[A-Za-z][A-Za-z0-9-]*", "the name of a header"),
    "media_type": text("[a-z]+/[a-z0-9.+-]+", "a media type such as application/json"),
    "nginx_time": text("[0-9]+(ms|s|m|h)", "an nginx time such as 500ms, 10s, 5m or 1h"),
    "nginx_size": text("[0-9]+[kKmMgG]?", "an nginx size such as 0, 512, 8k or 10m"),
    "nginx_buffer": text("[1-9][0-9]*[kKmM]?", "an nginx size above 0 such as 512, 8k or 1m"),
    "span": text("[0-9]+ ?(s|sec|m|min|h|hours|d|days)?", "a systemd time such as 90s, 30min or 4h"),
    "memory": text(r"[0-9]+(\.[0-9]+)?[KMGT%]?", "a size such as 800M or 1.5G, or a share such as 50%"),
    "module": text(r"[A-Za-z_][\w.]*", "a module's dotted name, such as config.settings"),
    "variable_name": text("[A-Za-z_][A-Za-z0-9_]*", "a name of letters, digits and underscores"),
    "sql_name": text(
        "[a-z_][a-z0-9_-]{0,49}", "a lower-case letter, then up to 49 lower-case letters, digits, dashes or underscores"
    ),
}
