"""Remove everything that make created except system packages: lab hosts, networks, images, .lab, virtual environments.

Works with the system's own Python, and without podman and .venv. Prints what it cannot remove; then .lab stays, so that the
next run finds it, and the exit code is 1.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "roles/lab/files/asgilab"
STATE = Path(os.environ.get("ASGI_LAB_STATE") or "/var/lib/asgilab")
# Links to the directory of the lab's own tests; their labs stay if a run is killed.
TESTS = ROOT / ".lab/lab-tests"


def lab_ids() -> list[str]:
    """Return the ids of this clone's labs that may exist: those in .lab, and those of its inventories that have a state."""
    kept = {path.name for path in (ROOT / ".lab").glob("[0-9a-f]" * 8)}
    inventories = [ROOT / "inventory/lab", *ROOT.glob("molecule/inventory/*")]
    own = {hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8] for path in inventories}
    return sorted(kept | {ident for ident in own if (STATE / "labs" / ident).exists()})


def lab(*arguments: str, state: Path = STATE) -> bool:
    """Run the lab's program as root and print what it reports; return whether it succeeded."""
    environment = os.environ | {"ASGI_LAB_STATE": str(state)}
    done = subprocess.run(
        [sys.executable, "-B", PROGRAM, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        print(f"clean: {done.stderr.strip()}", file=sys.stderr)
        return False
    for line in json.loads(done.stdout)["told"]:
        print(f"clean: {line}")
    return True


def remove_tests() -> bool:
    """Remove what a run of tests/lab has left; return whether it is gone."""
    if not TESTS.is_symlink():
        return True
    room = TESTS.readlink()
    state = room / "state"
    labs = [path.name for path in (state / "labs").glob("[0-9a-f]" * 8)]
    if (labs and not lab("remove", *labs, state=state)) or (state.exists() and not lab("drop", state=state)):
        return False
    shutil.rmtree(room, ignore_errors=True)
    if room.exists():
        print(f"clean: {room}, of the lab's own tests, has files that this user may not remove", file=sys.stderr)
        return False
    TESTS.unlink()
    return True


def main() -> int:
    """Clean; return the exit code."""
    labs = lab_ids()
    if not remove_tests() or (labs and not lab("remove", *labs)) or (STATE.exists() and not lab("drop")):
        print(
            "clean: FAILED: some labs of this clone remain (see above), so .lab and everything else is kept. Labs belong to root:"
            " without passwordless sudo, run `sudo make clean`.",
            file=sys.stderr,
        )
        return 1
    for path in [ROOT / "inventory/lab/lab.yml", *ROOT.glob("molecule/inventory/*/lab.yml")]:
        path.unlink(missing_ok=True)
    for path in [".venv", ".venv-sample_app", ".ruff_cache", ".pytest_cache", ".ansible", ".lab"]:
        shutil.rmtree(ROOT / path, ignore_errors=True)
        if (ROOT / path).exists():
            print(f"clean: FAILED: {path} has files that this user may not remove; run `sudo make clean`", file=sys.stderr)
            return 1
    print("clean: system packages that make setup installed are kept (remove them with apt-get remove)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
