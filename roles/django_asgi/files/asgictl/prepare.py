"""Prepare a release's project: lead its paths to where they belong, collect its static files, and check it."""

import json
import os
import subprocess
from pathlib import Path

from asgictl import project
from asgictl.app import own_by_root, remove_tree, write_atomically
from asgictl.as_app import Conversation, as_app, give_to_app
from asgictl.errors import Refused
from asgictl.precompress import precompress
from asgictl.progress import part
from asgictl.project import Finding, Layout, Place
from asgictl.release import Release

# Settings that make one directory after another fail once for each.
MOST_PLACES = 8
# Django's own (django.core.checks).
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
MOST_LINES = 25
REPORT = "project.json"


def prepare(staging: Release, order: dict) -> dict:
    """Prepare the project of a release that is being staged.

    Returns `findings`, what an operator should know of it, a sentence each; and `pending`, the migrations that its databases
    lack, None if that was not to be found out, or can't be. `order` is that of `stage.stage`. Refused if the project can't be set up or collected, fails its checks, or could not work.
    """
    static = staging.directory / "static"
    static.mkdir(mode=0o755)
    give_to_app(staging.app, static)
    layout = Layout(
        source=(staging.directory / "src").resolve(),
        project=staging.project.resolve(),
        static=static.resolve(),
        state=staging.app.state_directory.resolve(),
        writable=tuple(map(Path, order["writable_paths"])),
    )
    made: set[Path] = set()
    while True:
        with staging.talk("prepare") as program:
            message = program.hear()
            if "facts" in message:
                return _prepare(staging, order, layout, program, message["facts"])
            place = project.place_of_failure(Path(message["path"]), layout) if message.get("path") else None
            if not place or place.path in made or len(made) == MOST_PLACES:
                raise _failed(staging, program, f"The settings of release {staging.id} can't be loaded")
            _lead(staging, place)
            made.add(place.path)


def _prepare(staging: Release, order: dict, layout: Layout, program: Conversation, facts: dict) -> dict:
    """Go on with a project whose settings load."""
    places, found = project.places(facts, layout, order["shared_paths"])
    found += project.findings(facts, staging.manifest, order)
    for finding in found:
        if finding.fatal:
            raise Refused(finding.text)
    for place in places:
        _lead(staging, place)
    collect = order["collectstatic"] and "django.contrib.staticfiles" in facts["apps"]
    databases = staging.manifest.get("databases", []) if order["migrate"] else None
    program.answer(collect=collect, static_root=str(layout.static), module=order["module"], databases=databases)
    with part(staging.app, "collectstatic"):
        if "collected" not in program.hear():
            raise _failed(staging, program, f"manage.py collectstatic failed for release {staging.id}")
    # The edge's user reads these, and the app must not change them any more, least of all while root reads them.
    own_by_root(layout.static)
    if not staging.manifest.get("prepare_commands"):
        with part(staging.app, "compressing static files"):
            precompress(layout.static, staging.app.live_link / "static")
    with part(staging.app, "check --deploy"):
        checks = program.hear().get("checks")
        if checks is None:
            raise _failed(staging, program, f"Release {staging.id} failed manage.py check --deploy")
    serious = [check["text"] for check in checks if check["level"] >= LEVELS[order["check_fail_level"]]]
    if serious:
        raise Refused(
            f"Release {staging.id} failed manage.py check --deploy.",
            details=staging.redact("\n".join(serious)),
        )
    try:
        imported = program.hear(seconds=staging.manifest["gate_timeout"])
    except subprocess.TimeoutExpired:
        raise Refused(
            f"{order['module']} was not imported within {staging.manifest['gate_timeout']} s in release {staging.id}; "
            f"django_asgi_gate_timeout sets the limit.",
            details=staging.redact("\n".join(program.output().splitlines()[-MOST_LINES:])),
        ) from None
    if "imported" not in imported:
        raise _failed(
            staging, program, f"{order['module']} can't be imported in release {staging.id}; django_asgi_module names it"
        )
    with part(staging.app, "looking for migrations"):
        pending = program.hear().get("pending")
    found += [Finding(staging.redact(f"manage.py check --deploy: {check['text']}")) for check in checks]
    texts = [finding.text for finding in found]
    write_atomically(staging.directory / REPORT, json.dumps({"facts": facts, "findings": texts}, indent=1))
    return {"findings": texts, "pending": pending}


def report_of(release: Release) -> dict:
    """What was found of a release's project when it was staged: `release`, `facts` and `findings`. Refused if nothing is recorded."""
    try:
        return {"release": release.id, **json.loads((release.directory / REPORT).read_text())}
    except FileNotFoundError:
        raise Refused(
            f"Release {release.id} has no report on its project: an older asgictl staged it. Deploy it again."
        ) from None


def _failed(staging: Release, program: Conversation, what: str) -> Refused:
    """The refusal for a program that has ended early, with what it printed last."""
    lines = staging.redact(program.last_words()).splitlines()[-MOST_LINES:]
    return Refused(f"{what}.", details="\n".join(lines))


def _lead(staging: Release, place: Place) -> None:
    """Put a link in a place of the source, which only root can write to; what the source has there is copied once."""
    path, target = place.path, place.target
    if path.is_symlink():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _as_the_app(staging, "mkdir", "--parents", "--", target.parent if place.is_file else target)
    if path.is_file():
        _as_the_app(staging, "cp", "--no-clobber", "--", path, target)
        path.unlink()
    elif path.is_dir():
        _as_the_app(staging, "cp", "--recursive", "--no-clobber", "--", f"{path}/.", target)
        remove_tree(path)
    # Relative in the release, whose directory gets its final name later.
    inside = target.is_relative_to(staging.directory.resolve())
    path.symlink_to(os.path.relpath(target, path.parent) if inside else target)


def _as_the_app(staging: Release, *command: str | Path) -> None:
    """Run a command as the app's user: root must not follow what the app may have put into its own directories."""
    result = as_app(staging.app, command, cwd=staging.app.state_directory, env={}, umask=0o022)
    if result.returncode:
        raise Refused(f"'{' '.join(map(str, command))}' failed for {staging.app.name}.", details=result.stderr)
