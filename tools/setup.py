"""Install what the project needs on this machine: system packages and a .venv with the pinned tools.

Run by `make setup` with the system's own Python, so nothing outside the standard library is used. A second run finds
nothing to do and takes a tenth of a second.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB_PACKAGES = [
    "bzip2",
    "ca-certificates",
    "crun",
    "debian-archive-keyring",
    "iproute2",
    "iptables",
    "mmdebstrap",
    "netavark",
    "nftables",
    "openssh-client",
    "podman",
    "runc",
    "xz-utils",
]
TEST_PACKAGES = ["chromium", "shellcheck"]
# Programs that must already be on the search path of a machine without apt.
LAB_TOOLS = ["podman", "mmdebstrap", "ssh", "ssh-keygen"]


class SetupError(Exception):
    """Something that the user has to do first; the text names it."""


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(f"setup: {text}", flush=True)


def missing_packages(wanted: list[str]) -> list[str]:
    """Return those of the wanted Debian packages that are not installed."""
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    installed = {line.split()[0] for line in lines if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def install_packages(packages: list[str]) -> None:
    """Install Debian packages, as root or by sudo; raises SetupError with what to type when that is not possible."""
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    if prefix and not shutil.which("sudo"):
        raise SetupError(f"these packages are missing; as root, run: {' '.join(command)}")
    say(f"installing {' '.join(packages)}")
    for step in (["apt-get", "update", "--quiet"], command):
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run([*prefix, "env", "DEBIAN_FRONTEND=noninteractive", *step], stdout=log, stderr=log, check=False)
            if done.returncode:
                log.seek(0)
                tail = "\n".join(log.read().splitlines()[-15:])
                raise SetupError(f"{tail}\n`{' '.join(step)}` failed; fix that (its last lines are above), then run make again")


def ensure_packages(for_tests: bool) -> None:
    """Install the system packages that are missing; on a machine without apt, only require the lab's tools."""
    if not shutil.which("dpkg-query"):
        lacking = [tool for tool in LAB_TOOLS if not shutil.which(tool)]
        if lacking:
            raise SetupError(f"install {', '.join(lacking)} with your system's package manager: setup supports only apt")
        return
    wanted = LAB_PACKAGES + (TEST_PACKAGES if for_tests else [])
    if not importlib.util.find_spec("ensurepip"):
        wanted = [*wanted, "python3-venv"]
    lacking = missing_packages(wanted)
    if lacking:
        install_packages(lacking)


def pip_settings(python: Path) -> list[str]:
    """Return pip's package indexes as options for uv, which does not read pip's configuration."""
    if any(os.environ.get(name) for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL")):
        return []
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    options = []
    for name, values in re.findall(r"^\S+\.((?:extra-)?index-url)='(.*)'$", listed, re.MULTILINE):
        options += [f"--{name}={url}" for url in values.split() if url.startswith(("http://", "https://"))]
    return [*options, "--index-strategy=unsafe-best-match"] if options else []


def bootstrap_uv(python: Path) -> None:
    """Install uv into the environment of python, at the version and with the hashes that requirements.txt names."""
    pinned = re.search(r"^uv==.*?(?=^\S|\Z)", (ROOT / "requirements.txt").read_text(), re.MULTILINE | re.DOTALL)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
        only_uv.write(pinned[0])
        only_uv.flush()
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--require-hashes"]
        if subprocess.run([*pip, "--requirement", only_uv.name], check=False).returncode:
            raise SetupError("pip cannot install uv; see the lines above (pip.conf sets proxy and index)")


def ensure_environment(directory: Path, requirements: Path, uv: Path | None) -> None:
    """Make directory a virtual environment with exactly the pinned requirements; uv is None for the one that installs uv."""
    python = directory / "bin/python"
    stamp = directory / ".stamp"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode() + str(directory).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say(f"creating {directory.name} from {requirements.relative_to(ROOT)}")
    shutil.rmtree(directory, ignore_errors=True)
    # Use the system's Python, not that of an active virtual environment.
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", uv.parent / "python", directory], check=True)
    else:
        # Not sys.executable, which may be in the directory that was just removed.
        subprocess.run([sys._base_executable, "-m", "venv", directory], check=True)
        bootstrap_uv(python)
        uv = directory / "bin/uv"
    sync = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, *pip_settings(uv.parent / "python")]
    if subprocess.run([*sync, requirements], env={**os.environ, "UV_SYSTEM_CERTS": "true"}, check=False).returncode:
        raise SetupError(f"uv cannot install {requirements.relative_to(ROOT)}; see the lines above")
    stamp.write_text(wanted)


def main() -> int:
    """Set up; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="also what the tests need: a browser, the sample project's tools")
    arguments = parser.parse_args()
    try:
        # Python has tomllib since 3.11.
        if not importlib.util.find_spec("tomllib"):
            found = ".".join(map(str, sys.version_info[:3]))
            raise SetupError(f"Python 3.11 or newer is required, but this is {found}: run `make PYTHON=python3.12 …`")
        ensure_packages(arguments.tests)
        ensure_environment(ROOT / ".venv", ROOT / "requirements.txt", None)
        if arguments.tests:
            uv = ROOT / ".venv/bin/uv"
            ensure_environment(ROOT / ".venv-sample_app", ROOT / "sample_app/requirements-dev.txt", uv)
    except (SetupError, subprocess.CalledProcessError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
