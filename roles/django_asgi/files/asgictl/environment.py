"""Python environments: built by uv, named by their contents, shared between releases."""

import hashlib
import json
import os
import re
import tempfile
import tomllib
from pathlib import Path

from asgictl.app import App, own_by_root, remove_tree, sync, write_atomically
from asgictl.as_app import as_app, give_to_app
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


def packages_of_uv_lock(text: str) -> dict[str, str]:
    """The packages that a uv.lock pins for the project, as {name: version}, without development groups."""
    packages = {package["name"]: package for package in tomllib.loads(text).get("package", [])}
    wanted = [name for name, package in packages.items() if package.get("source", {}).keys() & {"editable", "virtual"}]
    roots, found = set(wanted), {}
    while wanted:
        package = packages[wanted.pop()]
        if package["name"] not in roots:
            found[normalized(package["name"])] = package.get("version", "")
        wanted += [needed["name"] for needed in package.get("dependencies", []) if normalized(needed["name"]) not in found]
    return found


def without_packages(lock: str, names: set[str]) -> str:
    """The hashed requirements text `lock` without the packages `names` (each entry goes up to the next one)."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(entry for entry in entries if not packages_in(entry).keys() & names)


def advice_on(output: str) -> str:
    """A sentence on the package that uv could not compile, with a space before it; empty if that was not the reason."""
    package = re.search(r"Failed to (?:download and )?build `([^`]+)`", output)
    if not package:
        return ""
    return (
        f" {package[1]} has no ready-made wheel for this Python and could not be compiled: name what builds it in "
        f"django_asgi_build_packages (such as build-essential, python3-dev, libpq-dev), and the libraries that it needs at "
        f"run time in django_asgi_system_packages."
    )


class Builder:
    """Builds the Python environment of a release as the app's user.

    `source` is the directory that holds the requirements. Of `order` (see `stage.stage`) it uses `requirements` (their path
    in `source`), `requirements_kind` (`hashed`, `uv.lock` or `unpinned`), `requirements_text`, `requirements_extras` and
    `requirements_groups` (of a project), `server_lock` (the server packages that the role pins), `server_requirements` (the
    versions that it works with), `python`, `uv` (a path) and `uv_environment`.
    """

    def __init__(self, app: App, source: Path, order: dict) -> None:
        self.app = app
        self.source = source
        self.order = order
        self.requirements = source / order["requirements"]

    def build(self) -> tuple[str, bool]:
        """Build the environment if it is missing; return its digest and whether it was built now."""
        self.app.cache_directory.mkdir(parents=True, exist_ok=True)
        give_to_app(self.app, self.app.cache_directory)
        lock = self._lock()
        digest = hashlib.sha256(json.dumps([self._interpreter(), lock]).encode()).hexdigest()[:12]
        directory = self.app.environments / digest
        if (directory / COMPLETE).exists():
            return digest, False
        remove_tree(directory)
        directory.mkdir()
        give_to_app(self.app, directory)
        self._uv("venv", "--quiet", "--allow-existing", "--python", self.order["python"], str(directory))
        self._uv(
            "pip", "sync", "--quiet", "--python", str(directory / "bin/python"), "--require-hashes",
            "--compile-bytecode", "--link-mode", "copy", "-", stdin=lock,
        )  # fmt: skip
        # From here on the app can run its environment but not change it.
        own_by_root(directory)
        write_atomically(directory / "requirements.lock", lock)
        # What is marked as complete must be complete after a power cut too.
        sync(directory)
        write_atomically(directory / COMPLETE, "")
        return digest, True

    def _lock(self) -> str:
        """Everything to install, each package with its hashes; the app's own pins win over the role's."""
        if self.order["requirements_kind"] == "unpinned":
            app_lock = self._resolve()
        elif self.order["requirements_kind"] == "uv.lock":
            app_lock = self._uv(
                "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate",
                *self._chosen(), "--project", str(self.requirements.parent),
            )  # fmt: skip
        else:
            # A hashed list pins everything, so constraints add nothing; uv would look for their files.
            app_lock = re.sub(r"^(?:-c|--constraint)\b.*$", "", self.order["requirements_text"], flags=re.MULTILINE)
        return app_lock + "\n" + without_packages(self.order["server_lock"], set(packages_in(app_lock)))

    def _chosen(self) -> list[str]:
        """The extras and groups of the project, as uv's options."""
        extras, groups = self.order["requirements_extras"], self.order["requirements_groups"]
        return [*(f"--extra={extra}" for extra in extras), *(f"--group={group}" for group in groups)]

    def _resolve(self) -> str:
        """Resolve an unpinned list together with the server packages; the app's own choice of those wins.

        The role's pins are only preferences, as in an earlier output of uv: the app may need other versions.
        """
        text = self.order["requirements_text"]
        named = {normalized(name) for name in re.findall(r"[A-Za-z0-9][\w.-]*", text)}
        server = re.findall(r"^[A-Za-z].*$", self.order["server_requirements"], re.MULTILINE)
        wanted = [line for line in server if normalized(re.match(r"[\w.-]+", line)[0]) not in named]
        with tempfile.TemporaryDirectory() as directory:
            preferences = Path(directory, "preferences.txt")
            preferences.write_text(self.order["server_lock"])
            for path in (preferences, preferences.parent):
                give_to_app(self.app, path)
            return self._uv(
                "pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url",
                *self._chosen(), "--python", self.order["python"], "--output-file", str(preferences),
                str(self.requirements), "-",
                stdin="\n".join(wanted),
            )  # fmt: skip

    def _interpreter(self) -> str:
        """The path and version of the Python that the environment is for."""
        found = self._uv("python", "find", "--no-python-downloads", self.order["python"]).strip()
        version = as_app(self.app, [found, "-VV"], cwd=self.source, env={}, seconds=INTERPRETER_SECONDS).stdout.strip()
        return f"{found} {version}"

    def _uv(self, *arguments: str, stdin: str = "") -> str:
        """Run uv as the app's user, because a package's build code must not run as root; return what it printed."""
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.app.cache_directory),
            "UV_CACHE_DIR": str(self.app.cache_directory / "uv"),
            "UV_PYTHON_DOWNLOADS": "never",
            # By default uv trusts its own bundle of certificates, not the system's.
            "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
            **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
            **self.order["uv_environment"],
        }
        result = as_app(self.app, [self.order["uv"], *arguments], cwd=self.source, env=variables, stdin=stdin)
        if result.returncode:
            raise Refused(
                f"The Python environment of {self.app.name} can't be built: uv {arguments[0]} failed "
                f"(Python {self.order['python']}, {self.order['requirements']}).{advice_on(result.stderr)}",
                details=self._redact("\n".join(result.stderr.splitlines()[-20:])),
            )
        return result.stdout

    def _redact(self, text: str) -> str:
        """`text` without the passwords given to uv."""
        for name, value in self.order["uv_environment"].items():
            if re.search("PASSWORD|TOKEN|SECRET", name, re.IGNORECASE) and value:
                text = text.replace(str(value), "********")
        return text
