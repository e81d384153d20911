"""The base images: one store for all labs of this machine, which only read it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import IDENT, STATE, BrokenError, Lab, LabError, driver, locked, remove

STORE = Lab("images")


def ready(name: str, ident: str = "") -> bool:
    """Return whether the store has this image with its files, under this id if one is given."""
    with contextlib.suppress(OSError, ValueError):
        for record in json.loads((STORE.storage / f"{driver()}-images/images.json").read_text()):
            if is_called(record, name) and ident in ("", record["id"]):
                return any((directory / "usr").is_dir() for directory in layers(record["layer"]))
    return False


def layers(layer: str) -> list[Path]:
    """Return the directories of a layer and of those below it; raise OSError or ValueError if the store is damaged."""
    parents = {
        item["id"]: item.get("parent") for item in json.loads((STORE.storage / f"{driver()}-layers/layers.json").read_text())
    }
    found = []
    while layer:
        found.append(STORE.storage / (f"overlay/{layer}/diff" if driver() == "overlay" else f"vfs/dir/{layer}"))
        layer = parents.get(layer)
    return found


def is_called(record: dict, name: str) -> bool:
    """Return whether a record of the store is of the image with this name, which may omit registry and tag."""
    if "@" in name:
        return record.get("digest") == name.split("@")[1]
    full = name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
    return any(f"/{known}".endswith(f"/{full}") for known in record.get("names") or [])


def provide(ident: str, wanted: dict[str, dict]) -> dict:
    """Put the images that the lab with this id will use into the store; return what was done."""
    lab = Lab(ident)
    with locked("machine"):
        # From now on the images are kept: see drop().
        lab.directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        return {"told": [text for text in pool.map(lambda item: provide_one(lab, *item), wanted.items()) if text]}


def provide_one(lab: Lab, name: str, recipe: dict) -> str:
    """Put one image into the store if it is missing, built if there is a recipe; return what was done."""
    archive = STATE / f"{hashlib.sha256(name.encode()).hexdigest()[:12]}.tar"
    # Two labs may need the image at once: one builds, the other waits.
    with locked(archive.name) if not ready(name) else contextlib.nullcontext():
        if ready(name):
            return ""
        try:
            if recipe:
                build(name, [*recipe["command"], str(archive), *recipe["sources"]], recipe["advice"])
                fill(lab, name, "import", "--change", 'CMD ["/sbin/init"]', str(archive), name)
                return f"built {name}"
            # Take the image from root's own podman, or else from a registry.
            save = ["podman", "save", "--output", str(archive), name]
            if subprocess.run(save, capture_output=True, check=False).returncode == 0:
                fill(lab, name, "load", "--input", str(archive))
            else:
                fill(lab, name, "pull", name)
            return f"fetched {name}"
        finally:
            archive.unlink(missing_ok=True)


def build(name: str, command: list[str], advice: str) -> None:
    """Install Debian into an archive."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{name} could not be built: {advice} The last lines were:\n{done.stderr[-1500:]}")


def fill(lab: Lab, name: str, *command: str) -> None:
    """Put an image into the store with podman; rebuild a store that rejects it, unless another lab uses the store."""
    with locked("images"):
        for last in (False, True):
            remove(STORE)
            STORE.start()
            try:
                # podman would take the remains of a damaged image for a part of the new one.
                STORE.podman("rmi", "--force", "--ignore", name)
                STORE.podman(*command)
                if ready(name):
                    return
                raise BrokenError(f"it is not there after podman {command[0]}")
            except BrokenError as error:
                labs = [Lab(path.name) for path in (STATE / "labs").glob(IDENT)]
                others = [other.name for other in labs if other.ident != lab.ident and other.first()]
                if last or others:
                    kept = f" The store is kept, because {', '.join(others)} uses it." if others else ""
                    raise LabError(f"{name} cannot be put into the store {STORE.storage}: {error}.{kept}") from error
                shutil.rmtree(STORE.storage, ignore_errors=True)
            finally:
                remove(STORE)


def drop() -> dict:
    """Remove the store and everything else that labs share, unless there is a lab; return what was done."""
    if not STATE.exists():
        return {"told": []}
    with locked("machine"):
        labs = [f"asgilab-{path.name}" for path in sorted((STATE / "labs").glob(IDENT))]
        if labs:
            return {"told": [f"kept the base images, because {', '.join(labs)} uses them"]}
        remove(STORE)
        shutil.rmtree(STATE)
        return {"told": ["removed the base images"]}
