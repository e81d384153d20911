"""Python environments: built by uv, named by their contents, shared between releases."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

from asgictl.app import App, own_by_root, remove_tree, sync, write_atomically
from asgictl.as_app import as_app, give_to_app
from asgictl.errors import Refused
from asgictl.pins import Pins, normalized, packages_in, require_server, sorted_pins, without_packages
from asgictl.progress import part

UV = "/usr/local/lib/uv/bin/uv"
COMPLETE = ".complete"
INTERPRETER_SECONDS = 60


def _installed_in(environment: Path) -> str:
    """How many packages an environment has so far; uv downloads and builds all of them before it installs the first."""
    number = len(list(environment.glob("lib/*/site-packages/*.dist-info")))
    return f"{number} so far" if number else "downloading and building them"


def advice_on(output: str) -> str:
    """A sentence on the Python that is missing or the package that uv could not compile, with a space before it; or empty."""
    if "No interpreter found" in output:
        return (
            " The host has no such Python: set django_asgi_python to one that it has, or django_asgi_python_downloads to let uv "
            "install it."
        )
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
    versions that it works with), `python`, `uv` (a path), `uv_environment`, `python_downloads` (whether uv may install the Python
    if the host lacks it), `python_downloads_json` and `python_mirror` (where from, both empty for uv's own).
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
        pins = self._pins()
        # The app's own pins win over the role's.
        server = without_packages(self.order["server_lock"], set(packages_in(pins.hashed)))
        lock = f"{pins.hashed}\n{server}"
        folders = {path: self._digest(path) for path in pins.folders}
        named = [self._interpreter(), lock, *([pins.repositories, folders] if pins.repositories or folders else [])]
        digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:12]
        directory = self.app.environments / digest
        if (directory / COMPLETE).exists():
            return digest, False
        remove_tree(directory)
        directory.mkdir()
        give_to_app(self.app, directory)
        self._uv("venv", "--quiet", "--allow-existing", "--python", self.order["python"], str(directory))
        with part(self.app, "installing packages", lambda: _installed_in(directory)):
            self._install(directory, pins, server)
        # From here on the app can run its environment but not change it.
        own_by_root(directory)
        write_atomically(directory / "requirements.lock", "\n".join([lock, *pins.repositories, *pins.folders]))
        # What is marked as complete must be complete after a power cut too.
        sync(directory)
        write_atomically(directory / COMPLETE, "")
        return digest, True

    def _install(self, directory: Path, pins: Pins, server: str) -> None:
        """Install everything into the empty environment in `directory`."""
        quietly = ("--quiet", "--python", str(directory / "bin/python"), "--compile-bytecode", "--link-mode", "copy")
        if self.order["requirements_kind"] == "uv.lock":
            # uv knows which of several indexes each package is from.
            self._uv(
                "sync", *quietly, "--frozen", "--no-dev", "--inexact", "--no-install-workspace", "--no-install-local",
                *self._chosen(), "--project", str(self.requirements.parent),
                UV_PROJECT_ENVIRONMENT=str(directory),
            )  # fmt: skip
            self._uv("pip", "install", *quietly, "--no-deps", "--require-hashes", "--requirements", "-", stdin=server)
        else:
            self._uv("pip", "sync", *quietly, "--require-hashes", "-", stdin=f"{pins.hashed}\n{server}")
            if pins.repositories:
                self._uv("pip", "install", *quietly, "--no-deps", *pins.repositories)
        with tempfile.TemporaryDirectory(dir=self.app.cache_directory) as scratch:
            give_to_app(self.app, Path(scratch))
            for number, path in enumerate(pins.folders):
                # A build may write beside its source.
                copy = str(Path(scratch, str(number)))
                copied = as_app(self.app, ["cp", "--recursive", self._folder(path), copy], cwd=self.source, env={})
                if copied.returncode:
                    raise Refused(f"{path} can't be copied to be installed.", details=copied.stderr)
                self._uv("pip", "install", *quietly, "--no-deps", copy)

    def _folder(self, path: str) -> Path:
        """The place of a package in the source; Refused if the source lacks it."""
        # uv writes paths relative to its lock.
        start = self.requirements.parent if self.order["requirements_kind"] == "uv.lock" else self.source
        place = (start / path.removeprefix("file://")).resolve()
        if not place.exists():
            raise Refused(
                f"{self.order['requirements']} names {path}, which the source does not hold: django_asgi_source has to be the "
                f"directory that holds both, with django_asgi_project_dir for that of manage.py."
            )
        return place

    def _digest(self, path: str) -> str:
        """A digest of a package in the source, because another content is another environment."""
        place, found = self._folder(path), hashlib.sha256()
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                found.update(f"{file.relative_to(place.parent)}\0".encode() + file.read_bytes())
        return found.hexdigest()

    def _pins(self) -> Pins:
        """Everything that the app itself wants installed."""
        self._require_server(self.order["requirements_text"])
        if self.order["requirements_kind"] == "unpinned":
            text = self._resolve()
        elif self.order["requirements_kind"] == "uv.lock":
            text = self._uv(
                "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate",
                *self._chosen(), "--project", str(self.requirements.parent),
            )  # fmt: skip
        else:
            # A hashed list pins everything, so constraints add nothing; uv would look for their files.
            text = re.sub(r"^(?:-c|--constraint)\b.*$", "", self.order["requirements_text"], flags=re.MULTILINE)
        self._require_server(text)
        return sorted_pins(text, self.order["requirements"])

    def _require_server(self, text: str) -> None:
        """Refuse server packages in a requirements text that are too old for the role's own worker class."""
        if self.order.get("drains", True):
            require_server(packages_in(text), self.order["requirements"])

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
        """The path and version of the Python that the environment is for; it is installed first if that is wanted and needed."""
        # What an installation has left that was cut short may belong to the app.
        if not (self._python_directory / COMPLETE).exists():
            remove_tree(self._python_directory)
        find = ("python", "find", "--no-python-downloads", self.order["python"])
        try:
            found = self._uv(*find).strip()
        except Refused:
            if not self.order["python_downloads"]:
                raise
            self._install_python()
            found = self._uv(*find).strip()
        version = as_app(self.app, [found, "-VV"], cwd=self.source, env={}, seconds=INTERPRETER_SECONDS).stdout.strip()
        return f"{found} {version}"

    @property
    def _python_directory(self) -> Path:
        """Where uv installs the wanted Python: a directory for each wish, so that no later one changes what is in use."""
        wish = json.dumps([self.order[name] for name in ("python", "uv", "python_downloads_json")])
        return self.app.pythons / hashlib.sha256(wish.encode()).hexdigest()[:12]

    def _install_python(self) -> None:
        """Let uv download the wanted Python, as the app's user; then the app can run it but not change it."""
        directory = self._python_directory
        directory.parent.mkdir(exist_ok=True)
        directory.mkdir()
        give_to_app(self.app, directory)
        self._uv("python", "install", "--no-bin", self.order["python"], UV_PYTHON_DOWNLOADS="manual")
        own_by_root(directory)
        sync(directory)
        write_atomically(directory / COMPLETE, "")

    def _python_settings(self) -> dict[str, str]:
        """The variables of uv for Pythons that it installs: the host's come first, and only what is asked for is downloaded."""
        if not self.order["python_downloads"]:
            return {"UV_PYTHON_DOWNLOADS": "never"}
        wanted = {
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_PYTHON_PREFERENCE": "system",
            "UV_PYTHON_INSTALL_DIR": str(self._python_directory),
            "UV_PYTHON_DOWNLOADS_JSON_URL": self.order["python_downloads_json"],
            "UV_PYTHON_INSTALL_MIRROR": self.order["python_mirror"],
        }
        return {name: value for name, value in wanted.items() if value}

    def _uv(self, *arguments: str, stdin: str = "", **settings: str) -> str:
        """Run uv as the app's user, because a package's build code must not run as root; return what it printed.

        `settings` are further environment variables.
        """
        variables = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.app.cache_directory),
            "UV_CACHE_DIR": str(self.app.cache_directory / "uv"),
            **self._python_settings(),
            # By default uv trusts its own bundle of certificates, not the system's.
            "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
            **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
            **self.order["uv_environment"],
            **settings,
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
