"""Action: turn a directory, a git reference or an archive into one deterministic tar archive, on the controller."""

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.django_asgi.site.plugins.module_utils.build import Build, built, cache_directory, files_of_result
from ansible_collections.django_asgi.site.plugins.module_utils.requirements import Unusable, require_python, requirements_of

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
NEVER = ("__pycache__/", "*.py[co]", ".venv/", "node_modules/")
GIT_PLACES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"


def git(*arguments: str, cwd: Path | None = None) -> str:
    """Run git without prompts and return its output; raises Unusable with the last line of git's errors if it fails."""
    command = ["git", "-c", "core.quotePath=off", *arguments]
    # In a git hook, which may start a deploy, these name the hook's own repository.
    environment = {name: value for name, value in os.environ.items() if name not in GIT_PLACES}
    environment["GIT_TERMINAL_PROMPT"] = "0"
    settings = {"cwd": cwd, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "env": environment}
    result = subprocess.run(command, check=False, **settings)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise Unusable(f"git {arguments[0]} failed: {last}")
    return result.stdout


def is_git_address(source: str) -> bool:
    """Return whether `source` names a repository to clone rather than a path."""
    return bool(re.match(r"(\w+://|git@|[\w.-]+@[\w.-]+:)", source)) or source.endswith(".git")


def fetch(address: str, version: str, directory: Path) -> str:
    """Check out `version` (branch, tag or commit) of a repository into `directory`; return its commit."""
    git("init", "--quiet", str(directory))
    # Submodules may have addresses that are relative to this one.
    git("remote", "add", "origin", address, cwd=directory)
    try:
        git("fetch", "--quiet", "--depth", "1", address, version, cwd=directory)
    except Unusable:
        # Some servers refuse to serve a commit by its hash; then fetch everything.
        git("fetch", "--quiet", "--tags", address, "+refs/heads/*:refs/remotes/origin/*", cwd=directory)
        git("checkout", "--quiet", "--detach", version, cwd=directory)
    else:
        git("checkout", "--quiet", "--detach", "FETCH_HEAD", cwd=directory)
    git("submodule", "--quiet", "update", "--init", "--recursive", cwd=directory)
    return git("rev-parse", "HEAD", cwd=directory).strip()


def require_submodules(directory: Path) -> None:
    """Refuse a source whose submodules are missing: git and archives leave empty directories in their place."""
    modules = directory / ".gitmodules"
    if not modules.is_file():
        return
    for line in git("config", f"--file={modules}", "--get-regexp", r"^submodule\..*\.path$").splitlines():
        path = directory / line.partition(" ")[2]
        if not path.is_dir() or not any(path.iterdir()):
            raise Unusable(f"The submodule {path} is empty: run 'git submodule update --init --recursive' there.")


def extract(archive: Path, directory: Path) -> Path:
    """Unpack `archive` into `directory`; return the project's root: the single top folder, if there is one."""
    try:
        if archive.suffix == ".zip":
            shutil.unpack_archive(archive, directory)
        else:
            # GNU tar keeps every file inside the directory; tarfile does so only since Python 3.11.4.
            command = ["tar", "--extract", "--no-same-owner", f"--file={archive}", f"--directory={directory}"]
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError, shutil.ReadError) as error:
        raise Unusable(f"{archive} can't be unpacked: {error}") from error
    entries = list(directory.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else directory


def files_of(directory: Path) -> list[Path]:
    """The files below `directory` that its .gitignore files don't exclude, relative and sorted."""
    with tempfile.TemporaryDirectory() as scratch:
        # A separate repository, so that the same rules apply inside and outside the user's repository.
        git("init", "--quiet", "--bare", scratch)
        place = ["-c", "core.excludesFile=/dev/null", f"--git-dir={scratch}", f"--work-tree={directory}"]
        rules = ["--exclude-standard", *(f"--exclude={pattern}" for pattern in NEVER)]
        listed = git(*place, "ls-files", "-z", "--others", *rules, cwd=directory)
    if (directory / ".git").exists():
        # Files that the user's repository tracks belong to the source, even if .gitignore excludes them now.
        tracked = git("-c", "safe.directory=*", "ls-files", "-z", "--cached", cwd=directory).split("\0")
        listed += "\0" + "\0".join(name for name in tracked if (directory / name).is_file())
    paths = set()
    for name in filter(None, listed.split("\0")):
        # A repository inside this one, a submodule for instance, is listed as a directory.
        inside = [Path()] if not name.endswith("/") else files_of(directory / name)
        paths |= {Path(name, path) for path in inside}
    return sorted(path for path in paths if ".git" not in path.parts)


def write_bundle(directory: Path, files: list[Path], file: io.BufferedIOBase) -> dict[str, str]:
    """Write these files of `directory` to a tar archive; return {path: SHA-256 of its content, or its link's target}.

    Names are sorted; owners, times and all mode bits except the executable bit are left out, so that the same files
    always give the same bytes.
    """
    sources = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in files:
            status = (directory / path).lstat()
            entry = tarfile.TarInfo(path.as_posix())
            if stat.S_ISLNK(status.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, str((directory / path).readlink())
                if not (directory / path).resolve().is_relative_to(directory.resolve()):
                    raise Unusable(f"{directory / path} links to {entry.linkname}, outside the source: copy it in.")
                archive.addfile(entry)
                sources[entry.name] = f"-> {entry.linkname}"
            elif stat.S_ISREG(status.st_mode):
                content = (directory / path).read_bytes()
                if content.startswith(LFS_POINTER):
                    raise Unusable(f"{directory / path} is a Git LFS pointer: run 'git lfs install' and 'git lfs pull' there.")
                entry.size, entry.mode = len(content), 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                archive.addfile(entry, io.BytesIO(content))
                sources[entry.name] = hashlib.sha256(content).hexdigest() + ("+x" if entry.mode == 0o755 else "")
    return sources


def bundle(
    source: str,
    version: str,
    project_dir: str,
    requirements: str,
    place: Path,
    pythons: dict[str, str],
    build: Build | None = None,
) -> dict:
    """Bundle `source` into a file in `place`; `pythons` are the versions that the hosts would run it with, by host name.

    With `build`, what is bundled is the result of its commands. Returns `path`, `digest`, `sources`, `source` (its address and
    version), and the facts of its requirements.
    """
    with tempfile.TemporaryDirectory() as scratch:
        origin = {"address": re.sub(r"//[^/]*@", "//", source), "version": version}
        directory = Path(source).expanduser()
        if is_git_address(source):
            directory = Path(scratch, "checkout")
            origin["version"] = f"{version} {fetch(source, version, directory)[:12]}"
        elif source.endswith(ARCHIVES):
            directory = extract(directory, Path(scratch))
        elif not directory.is_dir():
            raise Unusable(f"django_asgi_source {source} is not a directory, git address or archive on this machine.")
        require_submodules(directory)
        project = directory / project_dir
        if not (project / "manage.py").is_file():
            raise Unusable(f"There is no manage.py in {project}: set django_asgi_project_dir to its directory.")
        require_python(directory, project, pythons)
        files, buffer = files_of(directory), io.BytesIO()
        if build and build.commands:
            write_bundle(directory, files, buffer)
            directory = built(buffer.getvalue(), build, cache_directory())
            files, buffer = files_of_result(directory, set(files)), io.BytesIO()
        # After the build, which may write the file.
        facts = requirements_of(directory, directory / project_dir, requirements)
        sources = write_bundle(directory, files, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = place / f"bundle-{digest[:16]}.tar.gz"
    path.write_bytes(gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0))
    return {"changed": False, "path": str(path), "digest": digest, "sources": sources, "source": origin, **facts}


class ActionModule(ActionBase):
    """Bundles the source; arguments: source, version, project_dir, requirements, pythons, build (the fields of `Build`)."""

    _TEXTS = ("source", "version", "project_dir", "requirements")
    _VALID_ARGS = frozenset((*_TEXTS, "pythons", "build"))

    def run(self, tmp=None, task_vars=None):
        """Return what `bundle` returns, or fail with its reason."""
        super().run(tmp, task_vars)
        arguments = {name: str(self._task.args.get(name, "")) for name in self._TEXTS}
        given = self._task.args["build"]
        build = Build(
            commands=list(given["commands"]),
            environment={name: str(value) for name, value in given["environment"].items()},
            seconds=int(given["seconds"]),
            excludes=list(given["excludes"]),
        )
        try:
            # Ansible removes this directory when the play ends.
            place = Path(constants.DEFAULT_LOCAL_TMP)
            return bundle(**arguments, place=place, pythons=self._task.args.get("pythons") or {}, build=build)
        except Unusable as error:
            raise AnsibleActionFail(str(error)) from error
