"""What the role asks before it decides: facts about the host, and what a release would change there."""

import difflib
import json
import os
import secrets as random

from asgictl.app import App, write_atomically
from asgictl.environment import packages_in
from asgictl.release import Release
from asgictl.state import load
from asgictl.systemd import Instance

MIB = 1 << 20
# A Django worker with its libraries: measured 60 to 90 MiB, and as much again to work with.
WORKER_MIB = 160
RESERVED_MIB = 256
# What of a manifest is a setting of the release; the rest is where and when it was made.
SETTINGS = {"project_dir", "settings_module", "workers", "health_path", "health_host", "websocket_path", "gate_timeout"}


def auto_workers(cores: int | None = None, memory_mib: int | None = None) -> tuple[int, str]:
    """How many workers a host should run, and why: one a core, as long as they fit in its memory.

    uvicorn's workers are event loops, so the 2n+1 rule for workers that block does not apply to them.
    """
    cores = cores or len(os.sched_getaffinity(0))
    memory_mib = memory_mib or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    fit = max(1, (memory_mib - RESERVED_MIB) // WORKER_MIB)
    if fit < cores:
        return fit, f"{fit} of {WORKER_MIB} MiB each fit in {memory_mib} MiB beside {RESERVED_MIB} MiB for the rest"
    return cores, f"one for each of {cores} cores"


def host_facts(app: App, make_key: bool = True) -> dict:
    """What a deploy decides by.

    `live` and `previous` release, whether the live one `serves` and no deploy is unfinished (of one that was killed
    after its switch, the old release would never retire), `order` of the deployed ones, whether the fleet's `beat` runs
    here, and `key`, which names the
    fleet's releases so that a name tells nothing about the secrets in it (made if there is none and `make_key`).
    """
    live, state, on_disk = app.live(), load(app), app.staged()
    return {
        "changed": False,
        "live": live,
        "serves": bool(live) and is_sound(app, live) and state.attempt is None,
        "previous": state.previous(on_disk),
        "order": state.targets(on_disk),
        "beat": state.beat,
        "key": read_key(app, make_key),
        "workers_auto": auto_workers()[0],
    }


def is_sound(app: App, release: str) -> bool:
    """Whether a release is served, and would be after a restart too: an upgrade of Debian may have taken its Python away."""
    python = Release(app, release).directory / "venv/bin/python"
    return Instance(app, release).state() == "active" and python.exists()


def read_key(app: App, make: bool) -> str:
    """The app's key on this host, made first if there is none and `make`."""
    try:
        return app.key_file.read_text().strip()
    except FileNotFoundError:
        key = random.token_hex(16)
        if make:
            app.key_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(app.key_file, key + "\n", mode=0o600)
        return key


def keep_key(app: App, key: str) -> None:
    """Make `key`, which the fleet's first host has, this host's key too."""
    if key and key != read_key(app, make=False):
        write_atomically(app.key_file, key + "\n", mode=0o600)


def plan(app: App, order: dict) -> dict:
    """What the release that `order` describes would change on this host, as `diff` for Ansible; nothing is done."""
    live = app.live()
    before = outline(Release(app, live)) if live else []
    after = outline_of_order(order)
    lines = difflib.unified_diff(before, after, f"live release {live or '-'}", f"release {order['release']}", n=0)
    return {
        "changed": live != order["release"],
        "diff": {"prepared": "\n".join(line.rstrip("\n") for line in lines) + "\n"},
    }


def outline(release: Release) -> list[str]:
    """A release as lines: its files, its packages, its variables and the names of its secrets."""
    sources = json.loads((release.directory / "sources.json").read_text())
    lock = (release.directory / "venv/requirements.lock").read_text()
    files = {name: (release.directory / name).read_text() for name in release.manifest["files"]}
    return _lines(sources, packages_in(lock), release.manifest, release.secrets.keys(), files)


def outline_of_order(order: dict) -> list[str]:
    """The same for a release that is not on the host yet."""
    lock = packages_in(order["requirements_text"]) if order["requirements_kind"] == "hashed" else {}
    packages = packages_in(order["server_lock"]) | lock
    return _lines(order["sources"], packages, order["manifest"], order["secrets"].keys(), order["files"])


def _lines(sources: dict, packages: dict, manifest: dict, secrets: object, files: dict) -> list[str]:
    lines = [f"package {name} {version}" for name, version in sorted(packages.items())]
    lines += [f"setting {name}={value}" for name, value in sorted(manifest.items()) if name in SETTINGS]
    lines += [f"variable {name}={value}" for name, value in sorted(manifest["env"].items())]
    lines += [f"secret {name}" for name in sorted(secrets)]
    lines += [f"file {path} {digest[:12]}" for path, digest in sorted(sources.items())]
    for name, text in sorted(files.items()):
        lines += [f"{name}: {line}" for line in text.splitlines()]
    return lines
