"""Where a project's source comes from: a git repository, an archive or a directory; and which of its files count."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from ansible_collections.django_asgi.site.plugins.module_utils.requirements import Unusable

NEVER = ("__pycache__/", "*.py[co]", ".venv/", "node_modules/")
# What every project ignores and no release misses.
THROWN_AWAY = (
    *("__pycache__", "*.py[co]", ".venv", "venv", "node_modules", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
    *(".DS_Store", ".idea", ".vscode"),
)
OTHERS = ("ls-files", "-z", "--others")
GIT_PLACES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"}
# What git prints after the line that states the reason.
GIT_EPILOGUE = ("fatal: Could not read from remote repository.", "Please make sure you have", "and the repository exists.")
# gitcredentials(7): git runs it with the operation as its argument.
CREDENTIAL_HELPER = (
    """!f() { test "$1" = get && printf 'username=%s\\npassword=%s\\n' "$DJANGO_ASGI_USER" "$DJANGO_ASGI_TOKEN"; }; f"""
)
HINTS = {
    r"Host key verification failed|host key is known": (
        "Put the host's lines of known_hosts, which 'ssh-keyscan' prints, into django_asgi_git_known_hosts once you have compared "
        "them with what the host's owner publishes."
    ),
    r"Permission denied \([\w,-]*publickey": "Set django_asgi_git_key to a private SSH key that may read it and has no passphrase.",
    r"could not read (Username|Password)|Authentication failed": (
        "Put a token that may read it into django_asgi_source, https://user:token@host/…, or set an SSH address and "
        "django_asgi_git_key."
    ),
}


class GitFailed(Unusable):
    """A failed run of git; `printed` is all that it printed about it, and `reason` the line that states why."""

    def __init__(self, command: str, printed: str) -> None:
        """Take the reason from what git printed, without credentials."""
        self.printed = redacted(printed)
        lines = [line for line in self.printed.splitlines() if line.strip() and not line.startswith(GIT_EPILOGUE)]
        self.reason = (lines or ["it printed nothing"])[-1].strip()
        super().__init__(f"git {command} failed: {self.reason}")


def redacted(text: str) -> str:
    """Return a text without the users and passwords of the addresses in it."""
    # A password may hold a slash by mistake; what follows a colon and is no port is a password.
    return re.sub(r"//(?:[^/\s]*@|[^/\s:@]*:(?!\d+/)\S*@)", "//", text)


def git(*arguments: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run git without prompts and return its output; `environment` is added to its own. Raises GitFailed."""
    command = ["git", "-c", "core.quotePath=off", *arguments]
    # In a git hook, which may start a deploy, these name the hook's own repository.
    variables = {name: value for name, value in os.environ.items() if name not in GIT_PLACES}
    variables |= {"GIT_TERMINAL_PROMPT": "0", **(environment or {})}
    settings = {"cwd": cwd, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "env": variables}
    result = subprocess.run(command, check=False, **settings)
    if result.returncode:
        raise GitFailed(arguments[0], result.stderr)
    return result.stdout


def is_git_address(source: str) -> bool:
    """Return whether `source` names a repository to clone rather than a path."""
    return bool(re.match(r"(\w+://|git@|[\w.-]+@[\w.-]+:)", source)) or source.endswith(".git")


def git_access(address: str, key: str, known_hosts: str, place: Path) -> tuple[str, dict[str, str]]:
    """Return an address without its credentials, and the environment variables with which git may read it.

    `key` is the path of a private SSH key, `known_hosts` the only host keys to accept, as text; either may be empty. The
    directory `place` has to exist as long as git runs. Raises Unusable if the key is no file.
    """
    if key and not Path(key).is_file():
        raise Unusable(f"django_asgi_git_key {key} is not a file on this machine.")
    try:
        own = git("config", "core.sshCommand").strip()
    except GitFailed:
        own = ""
    ssh = [os.environ.get("GIT_SSH_COMMAND") or own or "ssh", "-o BatchMode=yes"]
    if key:
        ssh.append(f"-i {shlex.quote(key)} -o IdentitiesOnly=yes")
    if known_hosts.strip():
        file = place / "known_hosts"
        file.touch(mode=0o600)
        file.write_text(known_hosts.strip() + "\n")
        only = shlex.quote(f'UserKnownHostsFile="{file}"')
        ssh.append(f"-o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o {only}")
    environment = {"GIT_SSH_COMMAND": " ".join(ssh)}
    credentials = re.match(r"(https?://)([^/]*)@([^/@]+)", address)
    if not credentials:
        return address, environment
    # Every user of this machine can read the arguments of git and of what it starts, so they get an address without the token.
    scheme, given, host = credentials.groups()
    user, colon, token = given.partition(":")
    settings = [("username", unquote(user))]
    if colon:
        # The empty helper removes those of the user, who may have another account there.
        settings += [("helper", ""), ("helper", CREDENTIAL_HELPER)]
        environment |= {"DJANGO_ASGI_USER": unquote(user), "DJANGO_ASGI_TOKEN": unquote(token)}
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    for number, (name, value) in enumerate(settings, first):
        environment |= {
            f"GIT_CONFIG_KEY_{number}": f"credential.{scheme}{host}.{name}",
            f"GIT_CONFIG_VALUE_{number}": value,
        }
    environment["GIT_CONFIG_COUNT"] = str(first + len(settings))
    return f"{scheme}{host}{address[credentials.end() :]}", environment


def fetch(address: str, version: str, directory: Path, environment: dict[str, str] | None = None, part: str = "") -> str:
    """Check out `version` (branch, tag or commit) of a repository into `directory`, with its submodules; return its commit.

    `environment` is that of `git_access`; `part` is the directory of the repository that is wanted, which saves submodules.
    Raises Unusable with the address, git's reason and the variable that may help.
    """
    # Files of Git LFS come all at once at the end.
    environment = {**(environment or {}), "GIT_LFS_SKIP_SMUDGE": "1"}
    what = version
    git("init", "--quiet", str(directory))
    # Submodules may have addresses that are relative to this one.
    git("remote", "add", "origin", address, cwd=directory)
    try:
        try:
            git("fetch", "--quiet", "--depth", "1", address, version, cwd=directory, environment=environment)
        except GitFailed:
            # Some servers serve no commit by its hash, or no part of the history; then fetch everything.
            everything = ("--tags", address, "+refs/heads/*:refs/remotes/origin/*", "+HEAD:refs/remotes/origin/HEAD")
            git("fetch", "--quiet", *everything, cwd=directory, environment=environment)
            branch = git("for-each-ref", f"refs/remotes/origin/{version}", cwd=directory)
            wanted = f"origin/{version}" if branch else version
            git("checkout", "--quiet", "--detach", wanted, cwd=directory, environment=environment)
        else:
            git("checkout", "--quiet", "--detach", "FETCH_HEAD", cwd=directory, environment=environment)
        what = "the submodules"
        if paths := submodules_of(directory, part):
            update = ("submodule", "--quiet", "update", "--init", "--recursive", "--", *paths)
            git(*update, cwd=directory, environment=environment)
        what = "the files in Git LFS"
        if shutil.which("git-lfs"):
            # It writes no files into a repository that it is not installed for.
            install = "lfs install --local --skip-repo"
            git(*install.split(), cwd=directory, environment=environment)
            git("lfs", "pull", *([f"--include={part}"] if part else []), cwd=directory, environment=environment)
            each = ("submodule", "--quiet", "foreach", "--recursive", f"git {install} && git lfs pull")
            git(*each, cwd=directory, environment=environment)
    except GitFailed as failed:
        hint = next((f" {text}" for pattern, text in HINTS.items() if re.search(pattern, failed.printed)), "")
        raise Unusable(f"git can't fetch {what} of {redacted(address)}: {failed.reason.rstrip('.')}.{hint}") from failed
    return git("rev-parse", "HEAD", cwd=directory).strip()


def submodules_of(directory: Path, part: str = "") -> list[str]:
    """Return the paths of a source's submodules that lie in its directory `part`, or hold it."""
    modules = directory / ".gitmodules"
    if not modules.is_file():
        return []
    listed = git("config", f"--file={modules}", "--get-regexp", r"^submodule\..*\.path$").splitlines()
    paths = [Path(line.partition(" ")[2]) for line in listed]
    return [str(path) for path in paths if path.is_relative_to(part) or Path(part).is_relative_to(path)]


def require_submodules(directory: Path, part: str = "") -> None:
    """Refuse a source whose submodules are missing: git and archives leave empty directories in their place."""
    for path in (directory / name for name in submodules_of(directory, part)):
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


def part_of(directory: Path, part: str) -> Path:
    """Return the directory `part` of a source; raises Unusable if it leads outside or does not exist."""
    found = directory / part
    if Path(part).is_absolute() or ".." in Path(part).parts or not found.resolve().is_relative_to(directory.resolve()):
        raise Unusable(f"django_asgi_source_subdirectory {part} leads outside the source: set a directory inside it.")
    if not found.is_dir():
        there = sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name != ".git")
        raise Unusable(
            f"The source has no directory {part}: set django_asgi_source_subdirectory to one of its directories"
            f"{'; at the top are ' + ', '.join(there) if there else ', of which it has none'}."
        )
    return found


def require_module(names: list[str], module: str) -> None:
    """Refuse `module` (dotted.name:variable) if its package is among the source's files and lacks it; raises Unusable."""
    path = module.partition(":")[0].replace(".", "/")
    is_own = any(f"/{path.partition('/')[0]}/" in f"/{name}" for name in names)
    if is_own and not any(f"/{name}".endswith((f"/{path}.py", f"/{path}/__init__.py")) for name in names):
        others = [name for name in names if name.rpartition("/")[2] == "asgi.py"]
        has = (
            f"it has {', '.join(others)}" if others else "it has no asgi.py; Django's documentation shows the three lines of one"
        )
        raise Unusable(f"django_asgi_module is {module}, but the source has no {path}.py: {has}.")


class Files(NamedTuple):
    """The files of a source: paths that are part of it, what .gitignore excludes, and patterns that match nothing."""

    taken: list[str]
    left_out: list[str]
    unmatched: list[str]


def files_of(directory: Path, source: Path | None = None, include: Sequence[str] = (), whole: bool = False) -> Files:
    """Return the files below `directory`, relative and sorted, without those that .gitignore files exclude.

    `source` is the whole that the directory is a part of, whose .gitignore counts too. `include` has glob patterns of files that
    are taken although they are ignored. With `whole`, .gitignore excludes nothing.
    """
    top = next(folder for folder in (directory, *directory.parents) if folder == (source or directory) or _is_repository(folder))
    never = [f"--exclude={pattern}" for pattern in NEVER]
    with _separate_repository(directory, top) as run:
        taken = set(run(*OTHERS, *never, *(() if whole else ("--exclude-standard",))))
        unmatched = []
        for pattern in () if whole else include:
            named = [f"--exclude={name}" for name in NEVER if name.rstrip("/") not in pattern.split("/")]
            found = run(*OTHERS, *named, "--", f":(glob){pattern}")
            taken.update(found)
            unmatched += [] if found else [pattern]
        if _is_repository(top):
            # Files that the user's repository tracks belong to the source, even if .gitignore excludes them now.
            tracked = git("-c", "safe.directory=*", "ls-files", "-z", "--cached", cwd=directory).split("\0")
            taken.update(name for name in filter(None, tracked) if name not in taken and (directory / name).is_file())
        left_out = [] if whole else _left_out(run, "" if directory == top else f"{directory.relative_to(top)}/", taken)
    for name in [name for name in taken if name.endswith("/")]:
        # A repository inside this one, a submodule for instance, is listed as a directory.
        taken.remove(name)
        taken.update(name + inside for inside in files_of(directory / name, whole=whole).taken)
    # The host builds its own environment; the links of this one lead out of the source.
    environments = tuple(name.removesuffix("pyvenv.cfg") for name in taken if name.endswith("/pyvenv.cfg"))
    taken = {name for name in taken if not name.startswith(environments)} if environments else taken
    return Files(
        sorted((name for name in taken if ".git" not in name.split("/")), key=lambda name: name.split("/")), left_out, unmatched
    )


def _is_repository(directory: Path) -> bool:
    return (directory / ".git").exists()


@contextmanager
def _separate_repository(directory: Path, top: Path) -> Iterator[Callable[..., list[str]]]:
    """Yield a function that runs git in `directory` by the rules of `top`, the same inside and outside the user's repository."""
    with tempfile.TemporaryDirectory() as scratch:
        git("init", "--quiet", "--bare", "--template=", scratch)
        place = ["-c", "core.excludesFile=/dev/null", f"--git-dir={scratch}", f"--work-tree={top}"]
        yield lambda *command: list(filter(None, git(*place, *command, cwd=directory).split("\0")))


def _left_out(run: Callable[..., list[str]], within: str, taken: set[str]) -> list[str]:
    """Return what .gitignore excludes in the folder `within`: a directory counts as one, what is thrown away not at all."""
    # ls-files has no way to show a directory as one and to look into the others.
    lines = run("status", "--porcelain", "-z", "--ignored=matching", "--untracked-files=all", "--", ".")
    found = []
    for name in (line.removeprefix("!! ").removeprefix(within) for line in lines if line.startswith("!! ")):
        if _is_thrown_away(name):
            continue
        if name.endswith("/") and any(path.startswith(name) for path in taken):
            found += run(*OTHERS, "--ignored", "--exclude-standard", "--", f":(literal){name}")
        else:
            found.append(name)
    return sorted(name for name in found if name not in taken and not _is_thrown_away(name))


def _is_thrown_away(name: str) -> bool:
    return any(fnmatch(part, pattern) for part in name.split("/") for pattern in THROWN_AWAY)
