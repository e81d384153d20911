"""The paths of an app on a host, and its live release."""

import grp
import json
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from asgictl.errors import Refused

DEFAULT_POLICY = {"retire_seconds": 300, "retire_max": 3, "keep_releases": 5, "program_seconds": 3600, "migrate_lock_seconds": 30}


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path` by `content` in one step: a reader, or a crash, finds the old content or the new."""
    data = content.encode() if isinstance(content, str) else content
    candidate = path.with_name(f".{path.name}.{os.getpid()}")
    # The app may have planted something under that name while it could still write here.
    candidate.unlink(missing_ok=True)
    descriptor = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    candidate.rename(path)


def sync(path: Path) -> None:
    """Flush the file system of `path` to disk (syncfs(2))."""
    subprocess.run(["sync", "--file-system", path], check=True)


def own_by_root(directory: Path, only: "App | None" = None) -> None:
    """Make root the owner of a directory and its contents, which all can read, or `only` that app; don't follow links."""
    if os.geteuid() == 0:
        group = only.gid() if only else 0
        subprocess.run(["chown", "--recursive", "--no-dereference", f"0:{group}", directory], check=True)
    subprocess.run(["chmod", "--recursive", "u=rwX,g=rX,o=" if only else "u=rwX,go=rX", directory], check=True)


def link_atomically(link: Path, target: str) -> None:
    """Point the symbolic link `link` to `target` with one rename(2)."""
    candidate = link.with_name(f".{link.name}.{os.getpid()}")
    candidate.unlink(missing_ok=True)
    candidate.symlink_to(target)
    candidate.rename(link)


@dataclass(frozen=True)
class App:
    """One app on this host; `root` is / except in tests."""

    name: str
    root: Path = field(default=Path("/"))

    @property
    def home(self) -> Path:
        """The directory of everything except data and logs."""
        return self.root / "opt" / self.name

    @property
    def releases(self) -> Path:
        """The releases on disk."""
        return self.home / "releases"

    @property
    def environments(self) -> Path:
        """The Python environments that releases share."""
        return self.home / "environments"

    @property
    def pythons(self) -> Path:
        """The Pythons that uv has installed, because the host lacks them."""
        return self.home / "pythons"

    @property
    def static_pool(self) -> Path:
        """The static files of all releases on disk."""
        return self.home / "static-pool"

    @property
    def live_link(self) -> Path:
        """The link whose rename is the cut-over."""
        return self.home / "live"

    @property
    def maintenance_file(self) -> Path:
        """The flag file: while it exists, the edge shows its maintenance page."""
        return self.home / "maintenance"

    @property
    def state_directory(self) -> Path:
        """The app's own data."""
        return self.root / "var/lib" / self.name

    @property
    def cache_directory(self) -> Path:
        """uv's cache."""
        return self.root / "var/cache" / self.name

    @property
    def socket_directory(self) -> Path:
        """The directory of the instances' sockets."""
        return self.root / "run" / self.name

    @property
    def history_file(self) -> Path:
        """The record of deploys."""
        return self.root / "var/log/asgictl" / f"{self.name}.jsonl"

    @property
    def units(self) -> Path:
        """The directory of the instances' unit files."""
        return self.root / "etc/systemd/system"

    @property
    def key_file(self) -> Path:
        """The key that names releases."""
        return self.root / "etc/asgictl" / f"{self.name}.key"

    @property
    def policy_file(self) -> Path:
        """The role's policy for old releases on this host."""
        return self.root / "etc/asgictl" / f"{self.name}.json"

    def policy(self) -> dict:
        """This host's policy for the app's old releases, with defaults for what the role has not set."""
        try:
            return DEFAULT_POLICY | json.loads(self.policy_file.read_text())
        except FileNotFoundError:
            return dict(DEFAULT_POLICY)

    def uid(self) -> int:
        """The id of the app's user."""
        return pwd.getpwnam(self.name).pw_uid

    def gid(self) -> int:
        """The id of the app's group."""
        return grp.getgrnam(self.name).gr_gid

    def live(self) -> str | None:
        """The live release's id, or None before the first deploy."""
        try:
            return self.live_link.readlink().name
        except FileNotFoundError:
            return None

    def staged(self) -> list[str]:
        """The ids of the releases on disk."""
        if not self.releases.is_dir():
            return []
        return sorted(path.name for path in self.releases.iterdir() if not path.name.startswith("."))

    def release_named(self, prefix: str) -> str:
        """The id of the one release on disk whose id begins with `prefix`; Refused if there is none or several."""
        matches = [release for release in self.staged() if release.startswith(prefix)]
        if len(matches) != 1:
            raise Refused(
                f"{self.name} has {len(matches) or 'no'} release{'s'[: len(matches) != 1]} {prefix!r} on this host; "
                f"'asgictl releases' lists them."
            )
        return matches[0]

    def ensure_directories(self) -> None:
        """Create the directories that asgictl writes to."""
        for directory in (self.releases, self.environments, self.static_pool, self.home / "incoming"):
            directory.mkdir(parents=True, exist_ok=True)
        self.history_file.parent.mkdir(parents=True, exist_ok=True)


def installed_apps(root: Path = Path("/")) -> list[str]:
    """The names of the apps that the role has set up on this host."""
    return sorted(path.stem for path in (root / "etc/asgictl").glob("*.json"))


def remove_tree(path: Path) -> None:
    """Remove a directory and its contents, if it exists."""
    shutil.rmtree(path, ignore_errors=False) if path.is_dir() else None
