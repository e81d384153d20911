"""Requirement texts: which packages they pin, and how each one has to be installed."""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass

from asgictl.errors import Refused

# The oldest with which tests/test_draining_worker.py passes: an older uvicorn closes WebSockets without waiting for the client.
OLDEST = {"gunicorn": "23.0", "uvicorn": "0.52", "uvicorn-worker": "0.4"}
REPOSITORY = re.compile(r"(?:[\w.\[\],-]+ *@ *)?(?:git|hg|bzr|svn)\+\S+")
# A directory or an archive of the source: ./packages/money, .[extra], file:///…, or money @ one of these.
FOLDER = re.compile(r"(?:[\w.\[\],-]+ *@ *)?(?P<path>(?:file:/|\.|/)[^\s;\[#]*)")


@dataclass(frozen=True)
class Pins:
    """What an app installs: `hashed`, a requirements text with a hash for each package; packages without one.

    `repositories` are requirements of packages in a version control system, at a full commit; `folders` are paths of packages in
    the source, relative to the directory of manage.py.
    """

    hashed: str
    repositories: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def sorted_pins(text: str, name: str) -> Pins:
    """Sort a requirements text by how its packages are installed; Refused if one is neither hashed nor fixed otherwise.

    `name` is the file's, for the message.
    """
    hashed, repositories, folders = [], [], []
    # A line that ends in a backslash goes on in the next one.
    for entry in re.findall(r"(?:[^\n]*\\\n)*[^\n]*\n?", text):
        line = re.sub(r"\\\n\s*", " ", re.sub(r"(?:^|(?<=\s))#.*", "", entry)).strip()
        wanted = re.sub(r"^(?:-e|--editable)[ =]\s*", "", line)
        if not line or "--hash=" in line or (line.startswith("-") and wanted == line):
            hashed.append(entry)
        elif REPOSITORY.match(wanted):
            if not re.search(r"@[0-9a-f]{40}(?![0-9a-f])", wanted):
                raise Refused(
                    f"{name} names {wanted} without a full commit, so nobody can tell what it will install: "
                    f"write @ and the commit's 40 hexadecimal digits behind the address."
                )
            repositories.append(wanted)
        elif folder := FOLDER.match(wanted):
            folders.append(folder["path"])
        else:
            raise Refused(
                f"{name} has hashes, but none for {wanted}: add its hashes, as 'uv pip compile --generate-hashes' does, "
                f"or remove all hashes from the file."
            )
    return Pins("".join(hashed), tuple(repositories), tuple(folders))


def normalized(name: str) -> str:
    """A package name as the package index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages_in(lock: str) -> dict[str, str]:
    """The packages that a requirements text pins with ==, as {normalized name: version}."""
    pins = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)", lock, flags=re.MULTILINE)
    return {normalized(name): version for name, version in pins}


def packages_of_uv_lock(text: str, extras: Collection[str] = (), groups: Collection[str] = ()) -> dict[str, str]:
    """The packages that a uv.lock pins for the project with these extras and groups, as {name: version}."""
    packages = {package["name"]: package for package in tomllib.loads(text).get("package", [])}
    roots = [name for name, package in packages.items() if "." in package.get("source", {}).values()]
    wanted, found = [], {}
    for root in roots:
        chosen = [packages[root].get("optional-dependencies", {}).get(extra, []) for extra in extras]
        chosen += [packages[root].get("dev-dependencies", {}).get(group, []) for group in groups]
        wanted += [needed["name"] for needs in (packages[root].get("dependencies", []), *chosen) for needed in needs]
    while wanted:
        package = packages[wanted.pop()]
        found[normalized(package["name"])] = package.get("version", "")
        wanted += [needed["name"] for needed in package.get("dependencies", []) if normalized(needed["name"]) not in found]
    return found


def without_packages(lock: str, names: set[str]) -> str:
    """The hashed requirements text `lock` without the packages `names` (each entry goes up to the next one)."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(entry for entry in entries if not packages_in(entry).keys() & names)


def require_server(packages: dict[str, str], file: str) -> None:
    """Refuse the app's own pins of server packages, as {name: version}, that the role's worker can't do with; `file` has them."""
    for name, least in OLDEST.items():
        if name in packages and _numbers(packages[name]) < _numbers(least):
            raise Refused(
                f"{file} pins {name}=={packages[name]}, but a deploy that cuts no WebSocket short needs {name}>={least}: raise it "
                f"there, or remove it, and the role installs its own."
            )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", version)[:3]))
