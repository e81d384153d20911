"""The inventory's commands around a release: what they may write, what is left of that, and the words of each failure."""

import io
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from asgictl import app as apps
from asgictl import commands
from asgictl.app import App
from asgictl.commands import complete
from asgictl.deploy import Deploy
from asgictl.errors import Refused
from asgictl.release import Release
from asgictl.stage import stage
from fake_host import A, B, Systemd, deploy, manifest
from test_asgictl_deploy import MANAGE_PY, order, python_environment

# Longer than the smallest file that is compressed.
STYLE = "body {} " * 1000


@pytest.fixture(autouse=True)
def project(app: App, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project, and an environment with the tests' Python and a program `msgfmt`, on a host with an app."""
    python_environment(app, monkeypatch)
    app.state_directory.mkdir(parents=True)


def program(app: App, name: str, text: str) -> None:
    """Put a program into the environment that every release of these tests has."""
    file = app.environments / "e1/bin" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def staged(app: App, *lines: str, release: str = A) -> Release:
    """Stage a release with these commands."""
    stage(app, order(app, release, manifest=manifest(prepare_commands=list(lines))))
    return Release(app, release)


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_commands_may_write_to_the_source_and_the_static_files(app: App) -> None:
    program(app, "write", f'echo "$2" >shop/de.mo; echo "{STYLE}" >"$STATIC_ROOT/all.css"; umask >umask')
    release = staged(app, "write --text 'a  b; $HOME'")
    source = release.directory / "src"
    assert (source / "shop/de.mo").read_text() == "a  b; $HOME\n"
    assert (source / "umask").read_text() == "0027\n"
    assert (release.directory / "static/css/site.0123.css").exists(), "they run after the static files are collected"
    assert (release.directory / "static/all.css.gz").exists()
    assert (app.static_pool / "all.css").read_text() == f"{STYLE}\n"


def test_afterwards_the_app_can_read_the_source_and_others_only_the_static_files(app: App) -> None:
    program(app, "write", 'mkdir locale; touch locale/de.mo "$STATIC_ROOT/all.css"; chmod 0777 manage.py locale')
    directory = staged(app, "write").directory
    assert {name: mode(directory / name) for name in ("src", "src/locale", "src/locale/de.mo", "src/manage.py")} == {
        "src": 0o750,
        "src/locale": 0o750,
        "src/locale/de.mo": 0o640,
        "src/manage.py": 0o750,
    }
    assert mode(directory / "static/all.css") == 0o644


def test_the_first_word_may_be_manage_py(app: App) -> None:
    with pytest.raises(Refused, match=r"'manage\.py compilemessages' in django_asgi_prepare_commands failed") as refused:
        values = manifest(prepare_commands=["manage.py compilemessages"], env={"FAILS": "compilemessages"})
        stage(app, order(app, A, manifest=values))
    assert "with exit code 1" in str(refused.value)
    assert refused.value.details == "SystemCheckError in compilemessages: ******** is short"


def test_after_a_failure_no_other_command_runs_and_the_release_is_not_there(app: App) -> None:
    program(app, "fail", 'seq 40; echo "$PASSWORD"; exit 3')
    program(app, "mark", 'touch "$STATE_DIRECTORY/mark"')
    with pytest.raises(Refused, match=r"'fail' in django_asgi_prepare_commands .* with exit code 3") as refused:
        staged(app, "fail", "mark")
    assert refused.value.details.splitlines() == [*map(str, range(17, 41)), "********"]
    assert not (app.state_directory / "mark").exists()
    assert A not in app.staged()


def test_a_program_that_the_environment_lacks_is_named(app: App) -> None:
    with pytest.raises(Refused, match="'compress --force' in django_asgi_prepare_commands can't be started"):
        staged(app, "compress --force")


def test_one_that_does_not_end_is_stopped_and_shows_no_secret(app: App) -> None:
    app.policy_file.write_text('{"program_seconds": 3}')
    program(app, "hang", 'echo "$PASSWORD"; sleep 600')
    with pytest.raises(Refused, match="django_asgi_program_seconds") as refused:
        staged(app, "hang")
    assert refused.value.details == "********"


def test_what_a_command_changes_in_the_code_is_what_runs(app: App) -> None:
    program(app, "version", "echo X = 2 >shop/settings.py; mkdir -p shop/__pycache__; touch shop/__pycache__/settings.old.pyc")
    source = staged(app, "version").directory / "src"
    code = f"import sys; sys.path.insert(0, {str(source)!r}); import shop.settings; print(shop.settings.X)"
    python = app.environments / "e1/bin/python"
    ran = subprocess.run([python, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "2\n"
    assert [file.suffix for file in (source / "shop/__pycache__").iterdir()] == [".pyc"]
    assert not (source / "shop/__pycache__/settings.old.pyc").exists()


def test_root_follows_no_link_that_a_command_has_planted(app: App) -> None:
    target = app.root / "target"
    target.mkdir(mode=0o700)
    (target / "file").touch(0o600)
    program(app, "plant", f'ln -s {target} shop/__pycache__; ln -s {target} shop/all; ln -s {target}/file "$STATIC_ROOT/a.css"')
    source = staged(app, "plant").directory / "src"
    assert [path.name for path in target.iterdir()] == ["file"]
    assert (mode(target), mode(target / "file")) == (0o700, 0o600)
    assert not (source / "shop/__pycache__").is_symlink()
    assert not (app.static_pool / "a.css").exists()


def test_a_command_is_given_no_file_of_the_live_release(app: App) -> None:
    bundle = order(app, A)["bundle"]
    with tarfile.open(bundle, "w") as archive:
        text = MANAGE_PY.replace('"body {}"', repr(STYLE)).encode()
        entry = tarfile.TarInfo("manage.py")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    program(app, "look", "true")
    staged(app, "look")
    app.live_link.symlink_to(f"releases/{A}")
    program(app, "look", 'shared=$(find "$STATIC_ROOT" -type f -links +1); echo "$shared"; [ -z "$shared" ]')
    compressed = staged(app, "look", release=B).directory / "static/css/site.0123.css.gz"
    assert compressed.samefile(app.live_link / "static/css/site.0123.css.gz"), "afterwards it is linked, and root's"


def test_ownership_changes_hands_without_following_links(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for module in (apps, commands):
        monkeypatch.setattr(module.os, "geteuid", lambda: 0)
        monkeypatch.setattr(module.subprocess, "run", lambda command, **_settings: ran.append([*map(str, command)]))
    for owner in ("uid", "gid"):
        monkeypatch.setattr(App, owner, lambda _app: 1234)
    monkeypatch.setattr(commands, "precompress", lambda *_directories: None)
    complete(Release(app, A), [])
    static, source = f"{app.releases}/{A}/static", f"{app.releases}/{A}/src"
    chown = ["chown", "--recursive", "--no-dereference"]
    assert [command for command in ran if command[0] == "chown"] == [
        [*chown, "1234:1234", source],
        [*chown, "1234:1234", static],
        [*chown, "0:1234", source],
        [*chown, "0:0", static],
    ]


def test_after_the_cut_over_each_command_runs_and_a_failure_is_a_warning(app: App) -> None:
    deploy(app, A)
    program(app, "warm", 'echo warming; echo "no cache at $PASSWORD"; exit 4')
    program(app, "mark", 'touch "$STATE_DIRECTORY/$APP_RELEASE"')
    done = Deploy(app, "controller/a").after(A, ["warm --all", "missing", "mark"])
    failed, missing = done["warnings"]
    assert failed == (f"'warm --all' in django_asgi_after_commands failed in release {A} with exit code 4: no cache at ********")
    assert missing.startswith(
        f"'missing' in django_asgi_after_commands can't be started in release {A}: No such file or directory;"
    )
    assert (app.state_directory / A).exists()
    assert app.live() == A


def test_after_commands_that_succeed_warn_of_nothing(app: App) -> None:
    deploy(app, A)
    program(app, "mark", "echo done")
    assert Deploy(app, "controller/a").after(A, ["mark"]) == {"changed": True, "warnings": []}
