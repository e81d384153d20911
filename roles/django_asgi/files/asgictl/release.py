"""A release on disk: its manifest, its environment variables, and its manage.py."""

import json
import re
import shlex
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asgictl.app import App
from asgictl.as_app import Conversation, as_app, talking
from asgictl.errors import Refused
from asgictl.programs import text_of

BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}

# What a value of the inventory may name of its release; in double braces it stands for itself.
PLACEHOLDER = re.compile(r"\{\{(release|static_root|state|source)\}\}|\{(release|static_root|state|source)\}")


def quote(value: str) -> str:
    """Quote `value` for systemd's EnvironmentFile= (systemd.exec(5)): double quotes, backslash escapes."""
    escaped = "".join("\\" + char if char in '"\\$`' else char for char in value)
    return f'"{escaped}"'


def environment_file(variables: dict[str, str]) -> str:
    """The text of an EnvironmentFile= that holds `variables`, sorted by name."""
    return "".join(f"{name}={quote(value)}\n" for name, value in sorted(variables.items()))


def read_environment_file(text: str) -> dict[str, str]:
    """The variables in a text that `environment_file` made."""
    pairs = re.findall(r'^(\w+)="((?:[^"\\]|\\.)*)"$', text, flags=re.MULTILINE | re.DOTALL)
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in pairs}


@dataclass(frozen=True)
class Release:
    """The release `id` of `app`; `directory` differs from its final place only while it is staged."""

    app: App
    id: str
    staging: bool = False

    @property
    def directory(self) -> Path:
        """The release's current directory."""
        return self.app.releases / (f".{self.id}" if self.staging else self.id)

    @property
    def final_directory(self) -> Path:
        """The release's directory once it is staged."""
        return self.app.releases / self.id

    @property
    def project(self) -> Path:
        """The directory of manage.py."""
        return self.project_in(self.directory)

    def project_in(self, directory: Path) -> Path:
        """The directory of manage.py if the release is in `directory`."""
        return directory / "src" / self.manifest["project_dir"]

    @property
    def socket(self) -> Path:
        """The path of the instance's socket."""
        return self.app.socket_directory / f"{self.id}.sock"

    @cached_property
    def manifest(self) -> dict:
        """The settings that the release was made with (release.json)."""
        try:
            return json.loads((self.directory / "release.json").read_text())
        except FileNotFoundError:
            raise Refused(f"Release {self.id} of {self.app.name} is not on this host; deploy it again.") from None

    @cached_property
    def timers(self) -> dict[str, str]:
        """The texts of the release's timers, by name."""
        try:
            return json.loads((self.directory / "timers.json").read_text())
        except FileNotFoundError:
            return {}

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The app's secret variables, with what their placeholders stand for; only root can read them."""
        # As bytes: reading text would turn a value's \r\n into \n, and the service would see another value.
        return read_environment_file((self.directory / "secrets").read_bytes().decode())

    def filled(self, values: dict[str, str], directory: Path) -> dict[str, str]:
        """`values` of the inventory with their placeholders replaced, for a release that is in `directory`."""
        known = {
            "release": self.id,
            "static_root": str(directory / "static"),
            "state": str(self.app.state_directory),
            "source": str(self.project_in(directory)),
        }

        def replacement(found: re.Match) -> str:
            return f"{{{found[1]}}}" if found[1] else known[found[2]]

        return {name: PLACEHOLDER.sub(replacement, value) for name, value in values.items()}

    def variables(self, directory: Path | None = None) -> dict[str, str]:
        """The app's environment without secrets: the role's variables, then the inventory's.

        `directory` is where the release will be, by default where it is.
        """
        directory = directory or self.directory
        prefix = self.manifest.get("path_prefix")
        return {
            "DJANGO_SETTINGS_MODULE": self.manifest["settings_module"],
            "STATIC_ROOT": str(directory / "static"),
            "STATE_DIRECTORY": str(self.app.state_directory),
            "APP_RELEASE": self.id,
            "WEB_CONCURRENCY": str(self.manifest["worker_count"]),
            # Python finds sitecustomize.py there, which reads the prefix.
            **({"APP_PATH_PREFIX": prefix, "PYTHONPATH": str(directory)} if prefix else {}),
            **self.filled(self.manifest["env"], directory),
        }

    def redact(self, text: str) -> str:
        """`text` with every secret value replaced, for output that others may read."""
        for value in sorted(self.secrets.values(), key=len, reverse=True):
            if len(value) >= 4:
                text = text.replace(value, "********")
        return text

    def manage(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run manage.py as the app's user in the app's environment; its output is redacted and merged into `stdout`."""
        result = as_app(self.app, self.manage_command(*arguments), **self.process_settings(), merged=True)
        result.stdout = self.redact(result.stdout)
        return result

    def ask(self, program: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run one of `programs` in the release's environment, in the directory of manage.py, as the app's user."""
        command = [self.directory / "venv/bin/python", "-", *arguments]
        return as_app(self.app, command, **self.process_settings(), stdin=text_of(program))

    def talk(self, program: str) -> AbstractContextManager[Conversation]:
        """Talk with one of `programs` that runs in the release's environment, in the directory of manage.py, as the app's user."""
        return talking(self.app, [self.directory / "venv/bin/python", "-c", text_of(program)], **self.process_settings())

    def manage_command(self, *arguments: str) -> list[str]:
        """The command line of manage.py with `arguments`."""
        return [str(self.directory / "venv/bin/python"), "manage.py", *arguments]

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command line of a program of the release's environment, or of one with a path."""
        return [program if "/" in program else str(self.directory / "venv/bin" / program), *arguments]

    def argv(self, command: str) -> list[str]:
        """The command line of an inventory's command: its first word is manage.py or a program, and no shell reads it."""
        program, *arguments = shlex.split(command)
        return self.manage_command(*arguments) if program == "manage.py" else self.command(program, *arguments)

    def process_settings(self) -> dict:
        """The subprocess settings that match the service's: directory, environment and umask."""
        variables = BASE_ENVIRONMENT | {"HOME": str(self.app.state_directory)} | self.variables() | self.secrets
        return {"cwd": self.project, "env": variables, "umask": 0o027}
