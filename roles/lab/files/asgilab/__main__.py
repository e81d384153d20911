"""Everything that the role, tools/clean.py and the script podman beside this directory do to a lab as root.

Each command but the last prints what it did as JSON: {"told": [a line each], …}.

  images ID   provide the images that standard input names, in JSON
  hosts ID    provide the hosts that standard input names, in JSON, and print where they are
  remove ID…  remove labs; report what could not be removed
  drop        remove what labs share, if there is no lab
  podman …    the podman of the lab that an argument names, else that of each lab
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hosts
import images
from lab import IDENT, STATE, BrokenError, Lab, LabError, locked, remove

# Variables that a user may have set for these programs and that sudo does not pass on.
KEPT = (
    "ASGI_LAB_STATE",
    "ASGI_LAB_MEMORY",
    "PATH",
    *(name for word in ("http", "https", "ftp", "no") for name in (f"{word}_proxy", f"{word}_PROXY".upper())),
)


def become_root(arguments: list[str]) -> None:
    """Run this program again as root, unless it already runs as root."""
    if os.geteuid() == 0:
        return
    kept = [f"{name}={os.environ[name]}" for name in KEPT if name in os.environ]
    try:
        os.execvp("sudo", ["sudo", "-n", "--", "env", *kept, sys.executable, "-B", str(Path(__file__).parent), *arguments])
    except FileNotFoundError as error:
        raise LabError("The lab runs podman as root, and there is no sudo: run the command as root.") from error


def remove_all(idents: list[str]) -> dict:
    """Remove labs, each as far as possible; return what was done, or raise LabError if something is left."""
    told, failures = [], []
    for lab in map(Lab, idents):
        with locked(lab.name):
            there = lab.remains()
            try:
                remove(lab)
            except LabError as error:
                failures.append(str(error))
            else:
                told += [f"removed lab {lab.name}"] if there else []
    if failures:
        raise LabError("\n".join([*told, *failures]))
    return {"told": told}


def podman(arguments: list[str]) -> int:
    """Run the podman of the lab that the arguments name, else that of each lab; return the exit code."""
    named = re.search(r"\basgilab-([0-9a-f]{8})\b", " ".join(arguments))
    if named:
        lab = Lab(named[1])
        command = lab.inside(*lab.command(*arguments))
        os.execvp(command[0], command)
    labs = [lab for path in sorted((STATE / "labs").glob(IDENT)) if (lab := Lab(path.name)).first()]
    if not labs:
        print("No lab runs on this machine.", file=sys.stderr)
    return max((subprocess.run(lab.inside(*lab.command(*arguments)), check=False).returncode for lab in labs), default=0)


def main(arguments: list[str]) -> int:
    """Do what the arguments ask for; return the exit code."""
    # Debian keeps iptables and runc there, outside a user's path.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    try:
        become_root(arguments)
        match arguments:
            case ["hosts", ident]:
                print(json.dumps(hosts.provide(ident, json.load(sys.stdin))))
            case ["images", ident]:
                print(json.dumps(images.provide(ident, json.load(sys.stdin))))
            case ["remove", *idents]:
                print(json.dumps(remove_all(idents)))
            case ["drop"]:
                print(json.dumps(images.drop()))
            case ["init", _, ident]:
                Lab(ident).run_first()
            case ["podman", *rest]:
                return podman(rest)
            case _:
                raise LabError(__doc__)
    except BrokenError as error:
        print(f"The lab cannot be used: {error}. Boot it again.", file=sys.stderr)
        return 1
    except (LabError, OSError, subprocess.SubprocessError) as error:
        print(f"{error}\n{getattr(error, 'stderr', None) or ''}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
