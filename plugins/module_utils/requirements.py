"""A project's requirements as its files state them: Python's version, and the packages with their pins."""

import os
import re
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

REQUIREMENTS = ("uv.lock", "pylock.toml", "requirements.txt", "pyproject.toml")
# Locks that only their own tools read, with the command that writes one that uv reads too.
FOREIGN_LOCKS = {
    "poetry.lock": "poetry self add poetry-plugin-export && poetry export --output requirements.txt",
    "pdm.lock": "pdm export --format requirements --output requirements.txt",
    "Pipfile.lock": "pipenv requirements --hash > requirements.txt",
}


class Unusable(Exception):
    """A source that can't be bundled; the text states why, where and what to do."""


def requirements_of(directory: Path, project: Path, wanted: str) -> dict:
    """Return the file that lists the app's packages, its kind, its text with its includes, and a warning if it pins nothing.

    `wanted` is its path in `project`, the directory of manage.py; without it, a file of a known name is looked for there and
    then in the source's own `directory`.
    """
    if wanted:
        name = wanted
    else:
        folders = dict.fromkeys((project, directory))
        name = next((found for folder in folders if (found := _known_in(folder, project))), "")
    if Path(name).name in FOREIGN_LOCKS:
        raise Unusable(
            f"{name} in {project} is a lock that only its own tool reads: write one beside it with "
            f"'{FOREIGN_LOCKS[Path(name).name]}', and deploy that."
        )
    if not name or not (project / name).is_file():
        missing = wanted or " or ".join(REQUIREMENTS)
        raise Unusable(f"There is no {missing} in {project}: set django_asgi_requirements to the file's path there.")
    text = included_text(project / name) if name.endswith((".txt", ".in")) else (project / name).read_text()
    facts = {"requirements": name, "requirements_text": text, "warnings": []}
    if Path(name).name.startswith("pylock.") and name.endswith(".toml"):
        return facts | {"requirements_kind": "hashed", "requirements_text": hashed_text(project / name)}
    if Path(name).name == "uv.lock":
        return facts | {"requirements_kind": "uv.lock"}
    if "--hash=" in text:
        return facts | {"requirements_kind": "hashed"}
    warning = (
        f"{name} does not pin every package with a hash, so each new environment may hold other packages: "
        f"make a lock file with 'uv pip compile --generate-hashes'."
    )
    return facts | {"requirements_kind": "unpinned", "warnings": [warning]}


def _known_in(folder: Path, project: Path) -> str:
    """Return the file of a folder that lists the packages, as a path relative to `project`; empty if there is none.

    A foreign lock counts for more than a pyproject.toml beside it, which lists the same packages without their versions.
    """
    names = [*REQUIREMENTS[:-1], *FOREIGN_LOCKS, REQUIREMENTS[-1]]
    found = next((name for name in names if (folder / name).is_file()), "")
    return found and os.path.relpath(folder / found, project)


def hashed_text(lock: Path) -> str:
    """Return a pylock.toml (PEP 751) as a requirements text with a version and hashes for each package."""
    lines = []
    for package in tomllib.loads(lock.read_text()).get("packages", []):
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        hashes = sorted({f"--hash=sha256:{file['hashes']['sha256']}" for file in files if "sha256" in file.get("hashes", {})})
        marker = package.get("marker", "")
        if not hashes or "version" not in package:
            raise Unusable(
                f"{lock.name} has {package['name']} from a directory, a repository or without SHA-256: lock a release of it from a "
                f"package index, or deploy a requirements.txt."
            )
        if re.search(r"\b(extras|dependency_groups)\b", marker):
            raise Unusable(
                f"{lock.name} holds {package['name']} for some extras or groups only: write a lock for what is deployed, such as with "
                f"'uv export --no-dev --format pylock.toml --output-file {lock.name}'."
            )
        lines.append(f"{package['name']}=={package['version']}{f' ; {marker}' if marker else ''} {' '.join(hashes)}")
    return "\n".join(lines) + "\n"


def included_text(path: Path, seen: frozenset[Path] = frozenset()) -> str:
    """Return the text of a requirements file, with each file that it includes by -r inserted in place, once."""
    if path in seen:
        return ""
    lines = []
    for line in path.read_text().splitlines():
        include = re.match(r"(?:-r|--requirement)[ =]?\s*(\S+)", line)
        if include and not (path.parent / include[1]).is_file():
            raise Unusable(f"{path} includes {include[1]}, which does not exist.")
        lines.append(included_text(path.parent / include[1], seen | {path}) if include else line)
    return "\n".join(lines) + "\n"


def require_python(directory: Path, project: Path, pythons: dict[str, str]) -> None:
    """Require that the project accepts each host's Python; `pythons` has the versions by host name, empty if unknown."""
    for file in (folder / name for folder in dict.fromkeys((project, directory)) for name in ("uv.lock", "pyproject.toml")):
        content = tomllib.loads(file.read_text()) if file.is_file() else {}
        accepted = content.get("requires-python") or content.get("project", {}).get("requires-python")
        if accepted:
            unfit = {
                name: version for name, version in pythons.items() if version and not SpecifierSet(accepted).contains(version)
            }
            if unfit:
                found = ", ".join(f"{name} has {version}" for name, version in unfit.items())
                raise Unusable(
                    f"{file.relative_to(directory)} requires Python {accepted}, but {found}: set django_asgi_python to a version "
                    f"that the project accepts and the host has, such as python3.13."
                )
            return
