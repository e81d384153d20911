"""Action: turn a directory, a git reference or an archive into one deterministic tar archive, on the controller."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.django_asgi.site.plugins.module_utils.build import Build, built, files_of_result, user_cache
from ansible_collections.django_asgi.site.plugins.module_utils.requirements import Unusable, require_python, requirements_of
from ansible_collections.django_asgi.site.plugins.module_utils.source import (
    extract,
    fetch,
    files_of,
    git_access,
    is_git_address,
    part_of,
    redacted,
    require_module,
    require_submodules,
)

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
KEPT_BUNDLES = 5
SHOWN_LEFT_OUT = 5


def write_bundle(directory: Path, names: list[str], file: io.BufferedIOBase) -> dict[str, str]:
    """Write files of `directory` to a tar archive; return {path: SHA-256 of its content, or its link's target}.

    Owners, times and all mode bits except the executable bit are left out, so that the same files in the same
    order always give the same bytes.
    """
    sources = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            path = directory / name
            status = path.lstat()
            entry = tarfile.TarInfo(name)
            if stat.S_ISLNK(status.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                if not path.resolve().is_relative_to(directory.resolve()):
                    raise Unusable(f"{path} links to {entry.linkname}, outside the source: copy it in.")
                archive.addfile(entry)
                sources[entry.name] = f"-> {entry.linkname}"
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
                if content.startswith(LFS_POINTER):
                    raise Unusable(f"{path} is a Git LFS pointer: run 'git lfs install' and 'git lfs pull' there.")
                entry.size, entry.mode = len(content), 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                archive.addfile(entry, io.BytesIO(content))
                sources[entry.name] = hashlib.sha256(content).hexdigest() + ("+x" if entry.mode == 0o755 else "")
    return sources


def compressed(content: bytes, digest: str) -> bytes:
    """Return a tar archive compressed by gzip; compressing is the slowest step, so the user's cache keeps the latest results."""
    folder = user_cache() / "bundles"
    file = folder / f"bundle-{digest}.tar.gz"
    try:
        kept = file.read_bytes()
        if gzip.decompress(kept) == content:
            os.utime(file)
            return kept
    except (OSError, EOFError, zlib.error):
        pass
    made = gzip.compress(content, compresslevel=6, mtime=0)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="new-", delete=False) as new:
            new.write(made)
        Path(new.name).replace(file)
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_BUNDLES]:
            old.unlink(missing_ok=True)
    except OSError:
        # Without a cache, the next bundle only takes longer.
        pass
    return made


def bundle(
    source: str,
    version: str,
    project_dir: str,
    requirements: str,
    place: Path,
    pythons: dict[str, str],
    subdirectory: str = "",
    include: Sequence[str] = (),
    git_key: str = "",
    git_known_hosts: str = "",
    build: Build | None = None,
    module: str = "",
) -> dict:
    """Bundle `source`, or its `subdirectory`, into a file in `place`; with `build`, the result of its commands.

    `pythons` are the versions that the hosts would run it with, by host name; `include` has patterns of ignored files that are
    taken all the same; `module` is the application that it has to hold; `git_key` (a path) and `git_known_hosts` (text) give access to a git address. Returns `path`, `digest`,
    `sources`, `source` (its address and version), `left_out` (what .gitignore excludes: `count` and the first `names`), and the
    facts of its requirements. Raises Unusable.
    """
    with tempfile.TemporaryDirectory() as scratch:
        origin = {"address": redacted(source), "version": version}
        whole, is_archive = Path(source).expanduser(), False
        if is_git_address(source):
            whole = Path(scratch, "checkout")
            address, environment = git_access(source, git_key, git_known_hosts, Path(scratch))
            origin["version"] = f"{version} {fetch(address, version, whole, environment, subdirectory)[:12]}"
        elif source.endswith(ARCHIVES):
            whole, is_archive = extract(whole, Path(scratch)), True
        elif not whole.is_dir():
            raise Unusable(f"django_asgi_source {redacted(source)} is not a directory, git address or archive on this machine.")
        directory = part_of(whole, subdirectory)
        require_submodules(whole, subdirectory)
        project = directory / project_dir
        if not (project / "manage.py").is_file():
            raise Unusable(f"There is no manage.py in {project}: set django_asgi_project_dir to its directory.")
        require_python(directory, project, pythons)
        files, buffer = files_of(directory, whole, include, is_archive), io.BytesIO()
        names = files.taken
        if build and build.commands:
            write_bundle(directory, names, buffer)
            directory = built(buffer.getvalue(), build, user_cache() / "builds")
            names, buffer = files_of_result(directory, set(names)), io.BytesIO()
        # After the build, which may write the file.
        if module:
            require_module(names, module)
        facts = requirements_of(directory, directory / project_dir, requirements)
        sources = write_bundle(directory, names, buffer)
    facts["warnings"] += [f"django_asgi_source_include has {pattern}, which matches no file." for pattern in files.unmatched]
    left_out = {"count": len(files.left_out), "names": files.left_out[:SHOWN_LEFT_OUT]}
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = place / f"bundle-{digest[:16]}.tar.gz"
    path.write_bytes(compressed(buffer.getvalue(), digest))
    made = {"path": str(path), "digest": digest, "sources": sources, "source": origin, "left_out": left_out}
    return {"changed": False, **made, **facts}


class ActionModule(ActionBase):
    """Bundles the source; the arguments are those of `bundle` without `place`, `build` as the fields of `Build`."""

    _TEXTS = frozenset(
        ("source", "version", "project_dir", "requirements", "subdirectory", "git_key", "git_known_hosts", "module")
    )
    _VALID_ARGS = _TEXTS | {"pythons", "include", "build"}

    def run(self, tmp=None, task_vars=None):
        """Return what `bundle` returns, or fail with its reason."""
        super().run(tmp, task_vars)
        arguments = {name: str(self._task.args.get(name, "")) for name in self._TEXTS}
        arguments |= {"pythons": self._task.args.get("pythons") or {}, "include": self._task.args.get("include") or []}
        given = self._task.args["build"]
        arguments["build"] = Build(
            commands=list(given["commands"]),
            environment={name: str(value) for name, value in given["environment"].items()},
            seconds=int(given["seconds"]),
            excludes=list(given["excludes"]),
        )
        try:
            # Ansible removes this directory when the play ends.
            return bundle(**arguments, place=Path(constants.DEFAULT_LOCAL_TMP))
        except Unusable as error:
            raise AnsibleActionFail(str(error)) from error
