"""The lab's images and hosts, in the form that the program asgilab reads."""

from __future__ import annotations

import hashlib

MOST_FILES = 524288
MOST_PROCESSES = 32768
UNNEEDED = ("locale", "man", "doc")


def bases(
    codenames: dict[str, str], mirror: str, security: str, packages: list[str], masked: list[str], options: list[str]
) -> dict:
    """Return the command that builds each base image, its apt sources, and its name.

    In: the codename of each base, the mirrors (`security` may be empty), Debian packages, the systemd generators to mask,
    apt options. The name ends in a digest of all these, so that a machine builds an image once.
    """
    return {base: _base(base, codename, mirror, security, packages, masked, options) for base, codename in codenames.items()}


def _base(
    base: str, codename: str, mirror: str, security: str, packages: list[str], masked: list[str], options: list[str]
) -> dict:
    sources = [f"deb {mirror} {codename} main", f"deb {mirror} {codename}-updates main"]
    sources += [f"deb {security} {codename}-security main"] if security else []
    generators = '"$1/etc/systemd/system-generators"'
    hooks = [
        'systemctl --root="$1" disable ssh.service',
        f"mkdir -p {generators}; for name in {' '.join(masked)}; do ln -s /dev/null {generators}/$name; done",
        ': >"$1/etc/machine-id"; rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/hostname" "$1/etc/resolv.conf"',
    ]
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        *(f"--aptopt={option}" for option in ('Acquire::Languages "none";', *options)),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in UNNEEDED),
        "--dpkgopt=force-unsafe-io",
        *(f"--customize-hook={hook}" for hook in hooks),
        codename,
    ]
    digest = hashlib.sha256("\n".join(command + sources).encode()).hexdigest()
    advice = (
        f"check that this machine reaches {mirror} (set a proxy in apt's configuration or http_proxy), "
        "or name another mirror in lab_mirror."
    )
    return {"image": f"localhost/asgilab:{base}-{digest[:12]}", "command": command, "sources": sources, "advice": advice}


def wanted_hosts(names: list[str], hostvars: dict, defaults: dict, images: dict, limits: dict, masked: list[str]) -> dict:
    """Return the specification of each host of the lab, by name.

    `defaults` are the role's image, base, publish_http and publish_https; `limits` are this machine's own nofile and nproc (-1:
    none), which are not exceeded, because raising them needs a capability that a container host may lack.
    """
    most = {"nofile": _at_most(limits["nofile"], MOST_FILES), "nproc": _at_most(limits["nproc"], MOST_PROCESSES)}
    hosts = {}
    for name in names:
        own = {key: hostvars[name].get(f"lab_{key}", default) for key, default in defaults.items()}
        hosts[name] = {
            "image": own["image"] or images[own["base"]]["image"],
            "http": int(own["publish_http"]),
            "https": int(own["publish_https"]),
            "masked": masked,
            **most,
        }
    return hosts


def _at_most(limit: int, most: int) -> int:
    return most if limit < 0 else min(limit, most)


def images_of(hosts: dict, known: dict) -> dict:
    """Return how each image of the hosts is built, by its name; an empty dictionary for one that is ready."""
    built = {base["image"]: base for base in known.values()}
    return {host["image"]: built.get(host["image"], {}) for host in hosts.values()}


def reached(keys: list[dict], hosts: dict) -> dict:
    """Return the ports and the host key of each host, from the results of reading the `keys` and asgilab's report on `hosts`."""
    found = {}
    for result in keys:
        ports = hosts[result["item"]]["ports"]
        found[result["item"]] = {"ssh": ports["22"], "http": ports["80"], "https": ports["443"], "key": result["stdout"]}
    return found
