"""The facts that a deploy decides by: what is live on the host, and the key that names releases."""

import platform
import re
import secrets as random
import shutil
import subprocess
import sys
from pathlib import Path

from asgictl.app import App, write_atomically
from asgictl.release import Release
from asgictl.sizing import auto_workers
from asgictl.state import load
from asgictl.systemd import Instance

SYSTEM_PROGRAMS = "/usr/bin/"


def host_facts(
    app: App, make_key: bool = True, celery: int = 0, memory_max: str = "", python: str = "", python_downloads: bool = False
) -> dict:
    """The facts that a deploy decides by.

    `live` and `previous` release; `serves`: whether the live one serves and no deploy is unfinished (after one that was
    killed after its switch, the old release would never retire); `order` of the deployed releases; `leader`: whether this
    host runs what runs once in the fleet; `key`, which names the fleet's releases so that a name reveals nothing about the secrets in it (created if
    missing and `make_key`). The `auto` workers depend on `celery` and `memory_max` (see `sizing`). `python` is the version that
    an environment for the wanted `python` would have, the wanted one itself if the host lacks it and `python_downloads`; empty if
    asgictl can't tell.
    """
    live, state, on_disk = app.live(), load(app), app.staged()
    return {
        "changed": False,
        "live": live,
        "serves": bool(live) and is_sound(app, live) and state.attempt is None,
        "previous": state.previous(on_disk),
        "order": state.targets(on_disk),
        "leader": state.leader,
        "key": read_key(app, make_key),
        "workers_auto": auto_workers(celery, memory_max)[0],
        "python": version_of(python) or (version_wanted(python) if python_downloads else ""),
    }


def is_sound(app: App, release: str) -> bool:
    """Whether a release serves, and would after a restart too: a Debian upgrade may have removed its Python."""
    python = Release(app, release).directory / "venv/bin/python"
    return Instance(app, release).state() == "active" and python.exists()


def version_of(python: str) -> str:
    """The version of a system Python, named as uv accepts it: a version, a program or a path; empty for any other."""
    program = shutil.which(f"python{python}" if python[:1].isdigit() else python)
    real = str(Path(program).resolve()) if program else ""
    # Root runs nothing that the app could have written.
    if not real.startswith(SYSTEM_PROGRAMS):
        return ""
    if real == str(Path(sys.executable).resolve()):
        return platform.python_version()
    command = [real, "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def version_wanted(python: str) -> str:
    """The version that uv would install for a wish such as 3.14, 3.14.1 or cpython-3.14; empty if the wish does not tell."""
    found = re.fullmatch(r"(?:cpython[@-]|python)?(\d+\.\d+(?:\.\d+)?)t?", python)
    return found[1] if found else ""


def read_key(app: App, make: bool) -> str:
    """The app's key on this host, created first if missing and `make`."""
    try:
        return app.key_file.read_text().strip()
    except FileNotFoundError:
        key = random.token_hex(16)
        if make:
            app.key_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(app.key_file, key + "\n", mode=0o600)
        return key


def adopt_key(app: App, key: str) -> None:
    """Make `key`, from the fleet's first host, this host's key too."""
    if key and key != read_key(app, make=False):
        write_atomically(app.key_file, key + "\n", mode=0o600)
