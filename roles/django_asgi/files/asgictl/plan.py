"""Report what a release would change on a host, as lines for Ansible's --diff; nothing is changed."""

import difflib
import json

from asgictl.app import App
from asgictl.pins import packages_in, packages_of_uv_lock
from asgictl.release import Release
from asgictl.systemd import Instance

# The settings in a manifest; its other keys record where and when the release was made.
SETTINGS = {
    "project_dir",
    "settings_module",
    "workers",
    "path_prefix",
    "health_path",
    "health_host",
    "websocket_path",
    "gate_timeout",
    "prepare_commands",
}
# Only these kinds name all packages before the host has built the environment.
PINNED = ("hashed", "uv.lock")


def plan(app: App, order: dict) -> dict:
    """What the release that `order` describes (see `stage.stage`) would change, as `diff` for Ansible."""
    live = app.live()
    known = order["requirements_kind"] in PINNED
    before = outline(Release(app, live), known) if live else []
    # As the live release would have them: a placeholder alone is no change.
    secrets = Release(app, live).filled(order["secrets"], app.releases / live) if live else order["secrets"]
    after = outline_of_order(order | {"secrets": secrets}, known, Release(app, live).secrets if live else {})
    lines = difflib.unified_diff(before, after, f"live release {live or '-'}", f"release {order['release']}", n=0)
    return {
        "changed": live != order["release"],
        "diff": {"prepared": "\n".join(line.rstrip("\n") for line in lines) + "\n"},
    }


def outline(release: Release, packages_known: bool) -> list[str]:
    """A release as lines: its files, units, packages, variables and the names of its secrets."""
    sources = json.loads((release.directory / "sources.json").read_text())
    lock = (release.directory / "venv/requirements.lock").read_text() if packages_known else ""
    files = {name: (release.directory / name).read_text() for name in release.manifest["files"]}
    units = Instance(release.app, release.id).units
    files |= {_label(release.app, unit): (release.app.units / unit).read_text() for unit in units}
    files |= {f"timer {name}": text for name, text in release.timers.items()}
    return _lines(sources, packages_in(lock), release.manifest, dict.fromkeys(release.secrets, ""), files)


def outline_of_order(order: dict, packages_known: bool, secrets: dict[str, str]) -> list[str]:
    """The same for a release that is not on the host yet; it marks a secret that differs from the one in `secrets`."""
    packages = packages_in(order["server_lock"]) | _own_packages(order) if packages_known else {}
    notes = {name: " (another value)" if secrets.get(name, value) != value else "" for name, value in order["secrets"].items()}
    files = order["files"] | {f"unit {name}": text for name, text in order["units"].items()}
    files |= {f"timer {name}": text for name, text in order["timers"].items()}
    return _lines(order["sources"], packages, order["manifest"], notes, files)


def _own_packages(order: dict) -> dict[str, str]:
    """The packages that the app itself names."""
    if order["requirements_kind"] == "uv.lock":
        return packages_of_uv_lock(order["requirements_text"], order["requirements_extras"], order["requirements_groups"])
    return packages_in(order["requirements_text"])


def _label(app: App, unit: str) -> str:
    """The prefix of a unit's lines: `unit`, and service, socket or the name of a job."""
    kind = unit.removeprefix(app.name).partition("@")[0][1:]
    return f"unit {kind or unit.rpartition('.')[2]}"


def _lines(sources: dict, packages: dict, manifest: dict, secrets: dict[str, str], files: dict) -> list[str]:
    lines = [f"package {name} {version}" for name, version in sorted(packages.items())]
    lines += [f"setting {name}={value}" for name, value in sorted(manifest.items()) if name in SETTINGS]
    lines += [f"variable {name}={value}" for name, value in sorted(manifest["env"].items())]
    lines += [f"secret {name}{note}" for name, note in sorted(secrets.items())]
    lines += [f"file {path} {digest[:12]}" for path, digest in sorted(sources.items())]
    for name, text in sorted(files.items()):
        lines += [f"{name}: {line}" for line in text.splitlines()]
    return lines
