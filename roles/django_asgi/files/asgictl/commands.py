"""The inventory's own commands around a release: those that complete it on each host, and those that follow the cut-over."""

import os
import subprocess
from pathlib import Path

from asgictl.app import App, own_by_root
from asgictl.as_app import as_app
from asgictl.errors import Refused
from asgictl.precompress import precompress
from asgictl.release import Release

MOST_LINES = 25


def complete(staging: Release, commands: list[str]) -> None:
    """Run the commands that complete a release that is being staged; its source and static files are the app's meanwhile.

    Refused, with the last lines, if one fails or does not end in time. The static files have no compressed copies yet: some of
    those are the live release's own files, linked.
    """
    source, static = staging.directory / "src", staging.directory / "static"
    for directory in (source, static):
        _give_all_to_app(staging.app, directory)
    try:
        for command in commands:
            _run(staging, command, "django_asgi_prepare_commands")
    finally:
        own_by_root(source, only=staging.app)
        own_by_root(static)
    precompress(static, staging.app.live_link / "static")


def follow(release: Release, commands: list[str]) -> list[str]:
    """Run commands in a live release, each whether or not the one before has failed; return a warning for each that fails."""
    warnings = []
    for command in commands:
        try:
            _run(release, command, "django_asgi_after_commands")
        except Refused as refused:
            lines = refused.details.strip().splitlines()
            warnings.append(f"{str(refused).rstrip('.')}: {lines[-1]}" if lines else str(refused))
    return warnings


def _run(release: Release, command: str, variable: str) -> None:
    """Run a command as the app's user; Refused, with its last lines and without secrets, unless it succeeds."""
    try:
        result = as_app(release.app, release.argv(command), **release.process_settings(), merged=True)
    except Refused as late:
        late.details = release.redact(late.details)
        raise
    except OSError as error:
        raise Refused(
            f"'{command}' in {variable} can't be started in release {release.id}: {error.strerror}; its first word has to be "
            f"manage.py, a program of the release's environment or an absolute path."
        ) from error
    if result.returncode:
        lines = release.redact(result.stdout).splitlines()[-MOST_LINES:]
        raise Refused(
            f"'{command}' in {variable} failed in release {release.id} with exit code {result.returncode}.",
            details="\n".join(lines),
        )


def _give_all_to_app(app: App, directory: Path) -> None:
    """Make the app the owner of a directory and its contents; don't follow links."""
    if os.geteuid() == 0:
        owner = f"{app.uid()}:{app.gid()}"
        subprocess.run(["chown", "--recursive", "--no-dereference", owner, directory], check=True)
