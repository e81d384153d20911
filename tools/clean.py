"""Take away everything that make made, save system packages: lab hosts, networks, images, .lab, virtual environments.

Works with the system's own Python: what ansible is needed for is left out when .venv is not there.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PODMAN = ROOT / "roles/lab/files/podman"


def podman(*arguments: str) -> list[str]:
    """Run the lab's podman; return its lines of output, none when there is nothing or no podman."""
    if not shutil.which("podman"):
        return []
    done = subprocess.run([PODMAN, *arguments], capture_output=True, text=True, check=False)
    if done.returncode and "no such" not in done.stderr.lower() and "in use" not in done.stderr.lower():
        print(f"clean: podman {' '.join(arguments)}: {done.stderr.strip()}", file=sys.stderr)
    return done.stdout.split()


def lab_ids() -> list[str]:
    """Return the ids of this clone's labs: .lab has a directory for each, named by it."""
    return [path.name for path in (ROOT / ".lab").glob("[0-9a-f]" * 8)]


def main() -> int:
    """Clean; return the exit code."""
    for lab in lab_ids():
        for container in podman("ps", "--all", "--quiet", "--filter", f"label=asgi-lab={lab}"):
            podman("rm", "--force", "--time", "0", container)
        podman("network", "rm", f"asgi-lab-{lab}")
        print(f"clean: removed lab asgi-lab-{lab}")
    # Images belong to all clones on this machine, so they go with the last lab.
    if not podman("ps", "--all", "--quiet", "--filter", "label=asgi-lab"):
        for image in podman("images", "--quiet", "localhost/asgi-lab"):
            podman("rmi", "--force", image)
        podman("namespace", "drop")
        print("clean: removed the lab's base images")
    for path in [".lab", ".venv", ".venv-sample_app", ".ruff_cache", ".pytest_cache", ".ansible"]:
        shutil.rmtree(ROOT / path, ignore_errors=True)
    for path in [ROOT / "inventory/lab/lab.yml", *ROOT.glob("molecule/inventory/*/lab.yml")]:
        path.unlink(missing_ok=True)
    print("clean: system packages that make setup installed are kept (apt-get remove takes them away)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
