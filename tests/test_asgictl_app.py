"""asgictl's view of a host: which release is live, which was before, and how one file replaces another."""

import os
import stat
from pathlib import Path

import pytest
from asgictl.app import DEFAULT_POLICY, App, installed_apps, link_atomically, write_atomically
from asgictl.errors import Refused
from fake_host import A, B, put_release


def test_half_staged_releases_are_not_listed(app: App) -> None:
    (app.releases / A).mkdir()
    (app.releases / f".{B}").mkdir()
    assert app.staged() == [A]


@pytest.mark.parametrize("prefix", ["aaaa", A])
def test_a_release_is_named_by_how_its_id_begins(app: App, prefix: str) -> None:
    put_dirs(app, A, B)
    assert app.release_named(prefix) == A


def put_dirs(app: App, *names: str) -> None:
    """Create empty releases."""
    for name in names:
        (app.releases / name).mkdir()


@pytest.mark.parametrize(("prefix", "found"), [("f", "no releases 'f'"), ("ab", "2 releases 'ab'")])
def test_a_name_of_none_or_several_releases_is_refused(app: App, prefix: str, found: str) -> None:
    put_dirs(app, "ab" * 6, "abc" * 4)
    with pytest.raises(Refused, match=found):
        app.release_named(prefix)


def test_the_policy_has_defaults_that_the_host_overrides(app: App) -> None:
    app.policy_file.write_text('{"retire_max": 9}')
    assert app.policy() == DEFAULT_POLICY | {"retire_max": 9}
    app.policy_file.unlink()
    assert app.policy()["retire_max"] == 3


def test_the_apps_of_a_host_are_those_with_a_policy(app: App) -> None:
    (app.policy_file.parent / "blog.json").write_text("{}")
    app.key_file.write_text("key")
    assert installed_apps(app.root) == ["blog", "shop"]


def test_a_link_is_replaced_without_a_moment_without_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    put_dirs(app, A, B)
    link_atomically(app.live_link, f"releases/{A}")
    rename, seen = Path.rename, []

    def watched(path: Path, target: Path) -> None:
        seen.append(app.live())
        rename(path, target)
        seen.append(app.live())

    monkeypatch.setattr(Path, "rename", watched)
    link_atomically(app.live_link, f"releases/{B}")
    assert seen == [A, B], "one rename leads from one to the other"
    assert [path.name for path in app.home.iterdir() if path.name.startswith(".live")] == []


def test_a_link_left_half_made_by_a_killed_process_is_no_obstacle(app: App) -> None:
    put_dirs(app, A)
    (app.home / f".live.{os.getpid()}").symlink_to("releases/nowhere")
    link_atomically(app.live_link, f"releases/{A}")
    assert app.live() == A


def test_a_file_is_replaced_whole_with_the_mode_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    file.chmod(0o644)
    previous = os.umask(0o077)
    try:
        write_atomically(file, "after", mode=0o640)
    finally:
        os.umask(previous)
    assert file.read_text() == "after"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("before")

    def full(_descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, "after")
    assert file.read_text() == "before"


def test_the_live_links_target_is_relative(app: App) -> None:
    put_release(app, A)
    link_atomically(app.live_link, f"releases/{A}")
    assert app.live_link.readlink() == Path("releases", A)
