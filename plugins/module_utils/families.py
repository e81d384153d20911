"""Which family of distributions a host belongs to, and whether the roles can work on it.

Distributions of a family share the names of packages, services and users, which each role keeps in vars/families/<family>.yml.
What a role can't do without is detected by its presence or version, never by the name of a distribution.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

FAMILIES = ("debian",)
# The value of ID in /etc/os-release, and those of VERSION_ID.
TESTED = {"debian": ("12", "13")}
TESTED_NAMES = "Debian 12 and 13"
NEWER = "Debian 12, Ubuntu 24.04 or newer"
# ProtectProc= and ProcSubset= in the app's units, and --timestamp=us+utc of systemctl.
OLDEST_SYSTEMD = 247
# enum.StrEnum and tomllib in asgictl.
OLDEST_PYTHON = (3, 11)

# Prints /etc/os-release, and what else `probed` reads, as further lines in its format. systemd counts only if it runs the host.
# Ansible appends a command, so the last line must not end.
PROBE = """\
cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null
echo
[ ! -d /run/systemd/system ] || echo "PROBED_SYSTEMD=$(systemctl --version | head -n 1 | cut -d ' ' -f 2)"
[ ! -x /usr/bin/python3 ] || echo "PROBED_PYTHON=$(/usr/bin/python3 -V 2>&1 | cut -d ' ' -f 2)"
! command -v apt-get >/dev/null || echo "PROBED_APT=yes"\
"""


class Judgement(NamedTuple):
    """The host's family, empty if there is none, and sentences without their subject, which is the host."""

    family: str
    warnings: list[str]
    faults: list[str]


def fields(text: str) -> dict[str, str]:
    """Return the values of a text in the format of os-release(5), by their names; lines in another form are left out."""
    found = {}
    for line in text.splitlines():
        name, is_one, value = line.strip().partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if is_one and name.isidentifier():
            found[name] = " ".join(words)
    return found


def family_of(release: dict[str, str]) -> str:
    """Return the family of the distribution that these fields of os-release describe; empty if it belongs to none."""
    likes = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((name for name in likes if name in FAMILIES), "")


def judge(os_release: str, systemd_version: str, python_version: str | None, apt: bool = True) -> Judgement:
    """Return a host's family, a warning if its distribution was never tested, and faults if the roles can't work on it.

    In: the text of /etc/os-release; the first number of systemd's version, empty if systemd does not run the host; the version of
    /usr/bin/python3, empty if there is none, or None if nothing that is going to run needs it; whether the host has apt-get.
    """
    release = fields(os_release)
    family, runs = family_of(release), _name(release)
    faults = []
    if not family or not apt:
        faults.append(
            f"runs {runs}, {'which is not derived from Debian' if not family else 'but has no apt-get'}: the roles install packages"
            f" with apt, under Debian's names. Use {NEWER}, or a distribution that is derived from them."
        )
    systemd = _version(systemd_version)
    if not systemd:
        faults.append(
            f"runs {runs} without systemd, which everything is started and confined by. Boot the host with systemd; a container"
            " needs an image that does."
        )
    elif systemd < (OLDEST_SYSTEMD,):
        faults.append(
            f"has systemd {systemd_version}, but the units require {OLDEST_SYSTEMD} or newer, for ProtectProc= and ProcSubset=."
            f" Upgrade the host to {NEWER}."
        )
    if python_version is not None and _version(python_version) < OLDEST_PYTHON:
        faults.append(
            f"has {f'Python {python_version}' if python_version else 'no Python'} as /usr/bin/python3, but asgictl requires"
            f" {'.'.join(map(str, OLDEST_PYTHON))} or newer. Upgrade the host to {NEWER}. Another Python beside it does not suffice:"
            " asgictl always runs with /usr/bin/python3, and django_asgi_python chooses only the app's."
        )
    tested = release.get("VERSION_ID") in TESTED.get(release.get("ID", ""), ())
    never = f"runs {runs}, on which this role was never tested; tested are {TESTED_NAMES}."
    return Judgement(family, [] if tested or faults else [never], faults)


def probed(output: str, needs_python: bool) -> Judgement:
    """Return the judgement on a host from what PROBE has printed there; `needs_python`: whether asgictl is going to run."""
    found = fields(output)
    python = found.get("PROBED_PYTHON", "") if needs_python else None
    return judge(output, found.get("PROBED_SYSTEMD", ""), python, "PROBED_APT" in found)


def _name(release: dict[str, str]) -> str:
    """Return the distribution's name and version, for a person."""
    name = release.get("NAME") or release.get("ID") or "an unknown system without /etc/os-release"
    return f"{name} {release.get('VERSION_ID') or release.get('VERSION_CODENAME', '')}".strip()


def _version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, such as (3, 14) for 3.14rc1; empty if there are none."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
