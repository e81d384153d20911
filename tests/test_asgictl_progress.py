"""What asgictl reports while it works."""

import re
import threading

import pytest
from asgictl import progress
from asgictl.app import App
from fake_host import A, Systemd, deploy


def test_a_part_has_a_line_when_it_begins_and_one_with_its_seconds(app: App) -> None:
    progress.restart(app)
    with progress.part(app, "unpack"):
        assert progress.file_of(app).read_text() == "unpack …\n"
    assert re.fullmatch(r"unpack …\nunpack: \d+\.\d s\n", progress.file_of(app).read_text())


def test_a_long_part_says_how_far_it_is(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = threading.Event()
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.01)
    progress.restart(app)

    def count() -> str:
        counted.set()
        return "3 so far"

    with progress.part(app, "installing packages", count):
        assert counted.wait(60)
    assert "installing packages: 3 so far\n" in progress.file_of(app).read_text()


def test_each_step_begins_a_new_report_that_everyone_may_read(app: App, systemd: Systemd) -> None:
    deploy(app, A)
    file = progress.file_of(app)
    assert file.stat().st_mode & 0o777 == 0o644
    assert "edge" not in file.read_text(), "the last step was commit"


def test_outside_a_step_nothing_is_written(app: App) -> None:
    with progress.part(app, "gate"):
        pass
    assert not progress.file_of(app).exists()
