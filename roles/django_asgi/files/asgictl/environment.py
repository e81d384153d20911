"""Python environments: built by uv, named by what is in them, shared between releases."""

import hashlib
import json
import os
import re
from pathlib import Path

from asgictl.app import App, own_by_root, remove_tree, sync, write_atomically
from asgictl.as_app import as_app
from asgictl.errors import Refused

UV = "/usr/local/lib/uv/bin/uv"
COMPLETE = ".complete"
INTERPRETER_SECONDS = 60


def normalized(name: str) -> str:
    """A package name as the package index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def packages_in(lock: str) -> dict[str, str]:
    """The packages that a requirements text pins with ==, as {normalized name: version}."""
    pins = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)", lock, flags=re.MULTILINE)
    return {normalized(name): version for name, version in pins}


def without_packages(lock: str, names: set[str]) -> str:
    """The hashed requirements text `lock` without the packages `names` (each entry goes up to the next one)."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(entry for entry in entries if not packages_in(entry).keys() & names)


class Builder:
    """Builds the Python environment of a release as the app's user.

    `source` is the directory that holds the requirements; of `order` (see `stage.stage`) it uses `requirements`, their
    path in there, `requirements_kind` (`hashed`, `uv.lock` or `unpinned`), `server_lock`, the server packages that the
    role pins, `python`, `uv`, the path of the program, and `uv_environment`.
    """

    def __init__(self, app: App, source: Path, order: dict) -> None:
        self.app = app
        self.source = source
        self.order = order
        self.requirements = source / order["requirements"]

    def build(self) -> tuple[str, bool]:
        """Make the environment if it is not there; return its digest and whether it was made now."""
        self._give_to_app(self.app.cache_directory)
        lock = self._lock()
        digest = hashlib.sha256(json.dumps([self._interpreter(), lock]).encode()).hexdigest()[:12]
        directory = self.app.environments / digest
        if (directory / COMPLETE).exists():
            return digest, False
        remove_tree(directory)
        self._give_to_app(directory)
        self._uv("venv", "--quiet", "--allow-existing", "--python", self.order["python"], str(directory))
        self._uv(
            "pip", "sync", "--quiet", "--python", str(directory / "bin/python"), "--require-hashes",
            "--compile-bytecode", "--link-mode", "copy", "-", stdin=lock,
        )  # fmt: skip
        # From here on the app can run its environment and can't change it.
        own_by_root(directory)
        write_atomically(directory / "requirements.lock", lock)
        # After a power cut, what is marked as complete has to be.
        sync(directory)
        write_atomically(directory / COMPLETE, "")
        return digest, True

    def _lock(self) -> str:
        """Everything to install, each package with its hashes; the app's own pins win over the role's."""
        server = packages_in(self.order["server_lock"])
        if self.order["requirements_kind"] == "unpinned":
            app_lock = self._resolve([f"{name}=={version}" for name, version in server.items()])
        elif self.order["requirements_kind"] == "uv.lock":
            app_lock = self._uv(
                "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate",
                "--project", str(self.requirements.parent),
            )  # fmt: skip
        else:
            app_lock = included_text(self.requirements)
        return app_lock + "\n" + without_packages(self.order["server_lock"], set(packages_in(app_lock)))

    def _resolve(self, server: list[str]) -> str:
        """Resolve an unpinned list together with the server packages; the app's own choice of those wins."""
        path = self.requirements
        named = {normalized(name) for name in re.findall(r"^\s*([A-Za-z0-9][\w.-]*)", path.read_text(), re.MULTILINE)}
        wanted = "\n".join(pin for pin in server if normalized(pin.split("==")[0]) not in named)
        compile_ = ("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate")
        return self._uv(*compile_, "--no-emit-index-url", "--python", self.order["python"], str(path), "-", stdin=wanted)

    def _interpreter(self) -> str:
        """The path and version of the Python that the environment is for."""
        found = self._uv("python", "find", "--no-python-downloads", self.order["python"]).strip()
        version = as_app(self.app, [found, "-VV"], cwd=self.source, env={}, seconds=INTERPRETER_SECONDS).stdout.strip()
        return f"{found} {version}"

    def _give_to_app(self, directory: Path) -> None:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(directory, self.app.uid(), self.app.gid())

    def _uv(self, *arguments: str, stdin: str = "") -> str:
        """Run uv as the app's user, because a package's build code must not run as root; return what it printed."""
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.app.cache_directory),
            "UV_CACHE_DIR": str(self.app.cache_directory / "uv"),
            "UV_PYTHON_DOWNLOADS": "never",
            # uv looks at its own bundle of certificates unless told to use the system's.
            "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
            **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
            **self.order["uv_environment"],
        }
        result = as_app(self.app, [self.order["uv"], *arguments], cwd=self.source, env=variables, stdin=stdin)
        if result.returncode:
            raise Refused(
                f"The Python environment of {self.app.name} can't be built: uv {arguments[0]} failed "
                f"(Python {self.order['python']}, {self.order['requirements']}).",
                details=self._redact("\n".join(result.stderr.splitlines()[-20:])),
            )
        return result.stdout

    def _redact(self, text: str) -> str:
        """`text` without the passwords that uv has been given."""
        for name, value in self.order["uv_environment"].items():
            if re.search("PASSWORD|TOKEN|SECRET", name, re.IGNORECASE) and value:
                text = text.replace(str(value), "********")
        return text


def included_text(path: Path, seen: frozenset[Path] = frozenset()) -> str:
    """The text of a requirements file with the files that it includes by -r in their places."""
    if path in seen:
        return ""
    lines = []
    for line in path.read_text().splitlines():
        include = re.match(r"(?:-r|--requirement)[ =]\s*(\S+)", line)
        lines.append(included_text(path.parent / include[1], seen | {path}) if include else line)
    return "\n".join(lines) + "\n"
