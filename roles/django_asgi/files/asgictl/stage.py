"""Make a release on disk from a bundle, ready to start."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asgictl.app import App, own_by_root, remove_tree, sync, write_atomically
from asgictl.as_app import as_app, give_to_app
from asgictl.commands import complete
from asgictl.environment import COMPLETE, Builder
from asgictl.errors import Refused
from asgictl.facts import adopt_key
from asgictl.jobs import require_calendars
from asgictl.prepare import prepare
from asgictl.progress import part
from asgictl.release import Release, environment_file
from asgictl.sizing import auto_workers
from asgictl.state import State
from asgictl.systemd import Instance, instances


class Stopwatch:
    """Records how long each part took, {part: seconds}, and reports it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.seconds: dict[str, float] = {}

    def time(self, name: str, work: Callable, *arguments: object) -> object:
        """Do `work` and note its duration under `name`."""
        began = time.monotonic()
        try:
            with part(self.app, name):
                return work(*arguments)
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)


def stage(app: App, order: dict) -> dict:
    """Make the release that `order` describes, unless it is on disk already.

    `order` holds `release` (its id), `manifest`, `files` ({name: text}, put beside the source), `units` (texts of `service`,
    `socket` and each job), `timers` (texts of the timers that start some of these), `secrets`, `sources` ({path: digest}),
    `bundle` (path of a tar archive; `-`: it is on standard input, compressed with gzip), `check_fail_level`, `collectstatic`,
    `static_url`, `media_url`, `shared_paths` (in the source), `writable_paths`, `migrate` (whether the role may migrate), `key`,
    and what `Builder` uses. Returns `changed`, `worker_count` and `worker_count_why`, `environment_built`, `seconds`, and
    `findings` and `pending` of `prepare`. Refused with the reason if a part fails; the deploy's abort, or the next deploy, removes
    what was made so far.
    """
    release = Release(app, order["release"])
    adopt_key(app, order["key"])
    if is_complete(release):
        return _staged(release, changed=False, environment_built=False, seconds={}, findings=[], pending=None)
    require_calendars(order["timers"])
    watch = Stopwatch(app)
    staging = Release(app, release.id, staging=True)
    try:
        remove_tree(staging.directory)
        watch.time("unpack", _unpack, staging, order)
        builder = Builder(app, staging.project, order)
        environment, built = watch.time("environment", builder.build)
        (staging.directory / "venv").symlink_to(f"../../environments/{environment}")
        prepared = _complete(staging, order, watch)
        _write_secrets(staging, order["secrets"], staging.final_directory)
        sync(staging.directory)
        # Only now, because it may be the live one.
        if release.directory.is_dir():
            release.directory.rename(app.releases / f".{release.id}.old")
        staging.directory.rename(release.directory)
        remove_tree(app.releases / f".{release.id}.old")
        _fill_static_pool(release)
        Instance(app, release.id).install(order["units"])
    except OSError as error:
        raise Refused(f"Release {release.id} can't be staged on this host: {error}.") from error
    return _staged(release, changed=True, environment_built=built, seconds=watch.seconds, **prepared)


def _staged(release: Release, **answer: object) -> dict:
    return {name: release.manifest[name] for name in ("worker_count", "worker_count_why")} | answer


def is_complete(release: Release) -> bool:
    """Whether the release is on disk with its environment, whose Python the host still has, and its units."""
    venv, instance = release.directory / "venv", Instance(release.app, release.id)
    # bin/python is a link to the host's, which an upgrade of Debian replaces.
    parts = (venv / COMPLETE, venv / "bin/python", release.app.units / instance.service)
    return all(part.exists() for part in parts)


def environment_of(release: Release) -> str:
    """The digest of the release's Python environment."""
    return (release.directory / "venv").readlink().name


def _unpack(staging: Release, order: dict) -> None:
    directory = staging.directory
    directory.mkdir(mode=0o755)
    source = directory / "src"
    source.mkdir()
    # tar recognises the compression of a file, but not of a pipe.
    form = ["--gzip"] if order["bundle"] == "-" else []
    command = ["tar", "--extract", *form, "--no-same-owner", f"--file={order['bundle']}", f"--directory={source}"]
    unpacked = subprocess.run(command, check=False, capture_output=True, text=True)
    if unpacked.returncode:
        raise Refused(f"Release {staging.id} can't be unpacked on this host.", details=unpacked.stderr.strip())
    _own(source, staging.app, 0o750)
    manifest = order["manifest"] | {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    count, why = manifest["workers"], "as asked for"
    if count == "auto":
        count, why = auto_workers(manifest["celery_concurrency"], manifest["memory_max"])
    manifest |= {"worker_count": count, "worker_count_why": why}
    write_atomically(directory / "release.json", json.dumps(manifest, indent=1, sort_keys=True))
    write_atomically(directory / "sources.json", json.dumps(order["sources"], sort_keys=True))
    write_atomically(directory / "timers.json", json.dumps(order["timers"], sort_keys=True))
    for name, text in order["files"].items():
        write_atomically(directory / name, text)
    write_atomically(directory / "environment", environment_file(staging.variables(staging.final_directory)), mode=0o640)
    # For the checks and collectstatic, which run before the release is in its place.
    _write_secrets(staging, order["secrets"], directory)
    (directory / "socket").symlink_to(staging.socket)


def _complete(staging: Release, order: dict, watch: Stopwatch) -> dict:
    """Prepare the project and compile its source; return what `prepare` returns."""
    if commands := staging.manifest.get("prepare_commands"):
        prepared = watch.time("prepare", prepare, staging, order)
        watch.time("commands", complete, staging, commands)
        # Last, because they may change the source, and its compiled form is not compared with it later.
        watch.time("compile", _compile, staging)
        return prepared
    with ThreadPoolExecutor() as pool:
        prepared = pool.submit(watch.time, "prepare", prepare, staging, order)
        compiled = pool.submit(watch.time, "compile", _compile, staging)
    compiled.result()
    return prepared.result()


def _write_secrets(staging: Release, secrets: dict[str, str], place: Path) -> None:
    """Write the secrets as they are for a release that is in `place`."""
    write_atomically(staging.directory / "secrets", environment_file(staging.filled(secrets, place)), mode=0o600)


def _own(directory: Path, app: App, mode: int) -> None:
    """Let the app read `directory`, and only root write to it."""
    directory.chmod(mode)
    if os.geteuid() == 0:
        os.chown(directory, 0, app.gid())


def _compile(staging: Release) -> None:
    """Compile the source, which the app can't write to later, as the app's user: root must not run its environment."""
    directory = staging.directory
    python = [directory / "venv/bin/python", "-I", "-S", "-m", "compileall", "-q", "-j", "0"]
    paths = ["-s", directory, "-p", staging.final_directory, "--invalidation-mode", "unchecked-hash", directory / "src"]
    caches = [folder / "__pycache__" for folder in {file.parent for file in (directory / "src").rglob("*.py")}]
    for cache in caches:
        # What a command of the app has left there may be a link, which root must not follow.
        if cache.is_symlink() or cache.is_file():
            cache.unlink()
        remove_tree(cache)
        cache.mkdir()
        give_to_app(staging.app, cache)
    # A file that nothing imports may have a syntax error without harm.
    as_app(staging.app, [*python, *paths], cwd=directory, env={})
    for cache in caches:
        own_by_root(cache)


def _fill_static_pool(release: Release) -> None:
    """Link the release's static files into the pool, from which pages of other releases load their assets."""
    static, pool = release.directory / "static", release.app.static_pool
    for file in static.rglob("*"):
        if file.is_file() and not file.is_symlink():
            link = pool / file.relative_to(static)
            link.unlink(missing_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, link)


def tidy_static_pool(app: App, state: State) -> None:
    """Remove from the pool the files that no release on disk holds any more: those with a single link.

    If several releases have a file of one name, the pool has the newest; when that goes, the next newest replaces it.
    """
    newest_first = [app.releases / release / "static" for release in reversed(state.targets(app.staged()))]
    for file in app.static_pool.rglob("*"):
        if file.is_file() and file.stat().st_nlink == 1:
            file.unlink()
            name = file.relative_to(app.static_pool)
            if heir := next((static / name for static in newest_first if (static / name).is_file()), None):
                os.link(heir, file)


def prune(app: App, state: State, protected: set[str]) -> list[str]:
    """Remove old releases, and environments that nothing uses; return the ids of the removed releases.

    The policy's `keep_releases` that were live last stay, the live one, the one that a rollback would go to, and those in
    `protected`. A release that never went live goes.
    """
    on_disk = app.staged()
    newest = state.targets(on_disk)[-app.policy()["keep_releases"] :]
    kept = {app.live(), state.live(), state.previous(on_disk), *newest} | protected
    removed = [release for release in on_disk if release not in kept]
    # Units may remain of releases that are no longer on disk.
    known = {one.release for one in instances(app)} - protected
    for release in {*removed, *(known - set(on_disk))}:
        Instance(app, release).uninstall()
        _remove(app, release)
    _prune_environments(app)
    _prune_pythons(app)
    tidy_static_pool(app, state)
    return removed


def _prune_environments(app: App) -> None:
    """Remove the environments that no release on disk uses, except the last one built: a deploy that failed is soon tried again."""
    built = {marker: marker.stat().st_mtime_ns for marker in app.environments.glob(f"*/{COMPLETE}")}
    kept = {environment_of(Release(app, release)) for release in app.staged()}
    kept |= {max(built, key=built.get).parent.name} if built else set()
    for environment in app.environments.iterdir():
        if environment.name not in kept:
            remove_tree(environment)


def _prune_pythons(app: App) -> None:
    """Remove the installed Pythons that no environment on disk uses."""
    used = [(environment / "bin/python").resolve() for environment in app.environments.iterdir()]
    for python in app.pythons.glob("*"):
        if not any(program.is_relative_to(python.resolve()) for program in used):
            remove_tree(python)


def _remove(app: App, release: str) -> None:
    """Remove a release's files; a reader, or the next command after a crash, finds all of them or none."""
    directory, going = app.releases / release, app.releases / f".{release}"
    if directory.is_dir():
        remove_tree(going)
        directory.rename(going)
    remove_tree(going)


def free_space(app: App) -> int:
    """The free bytes in the file system of the releases."""
    return shutil.disk_usage(app.home).free
