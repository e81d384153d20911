"""asgictl's compressed copies of static files, and its maintenance flag."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
from asgictl.app import App
from asgictl.cli import maintenance
from asgictl.precompress import precompress


@pytest.fixture
def static(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "site.css").write_text("a { color: red }\n" * 200)
    (folder / "small.css").write_text("a {}")
    (folder / "photo.jpg").write_bytes(b"x" * 5000)
    (folder / "own.js").write_text("let a = 1;\n" * 200)
    (folder / "own.js.gz").write_bytes(b"the project's own")
    return folder


def test_text_that_shrinks_is_copied_and_nothing_else(static: Path) -> None:
    precompress(static)
    assert gzip.decompress((static / "site.css.gz").read_bytes()) == (static / "site.css").read_bytes()
    assert {file.name for file in static.glob("*.gz")} == {"site.css.gz", "own.js.gz"}
    assert (static / "own.js.gz").read_bytes() == b"the project's own"


def test_the_same_files_give_the_same_bytes(static: Path) -> None:
    precompress(static)
    first = (static / "site.css.gz").read_bytes()
    (static / "site.css.gz").unlink()
    precompress(static)
    assert (static / "site.css.gz").read_bytes() == first
    assert (static / "site.css.gz").stat().st_mtime == (static / "site.css").stat().st_mtime


def test_what_has_not_changed_since_the_former_release_is_not_compressed_again(static: Path, tmp_path: Path) -> None:
    precompress(static)
    (static / "site.css.gz").write_bytes(b"of the former release")
    current = tmp_path / "current"
    current.mkdir()
    shutil.copy(static / "site.css", current)
    (current / "own.js").write_text("let a = 2;\n" * 200)
    precompress(current, static)
    assert (current / "site.css.gz").read_bytes() == b"of the former release"
    assert gzip.decompress((current / "own.js.gz").read_bytes()) == (current / "own.js").read_bytes()
    precompress(current, tmp_path / "nowhere")


def test_brotli_is_used_where_the_host_has_it(static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    run = subprocess.CompletedProcess([], 0, stdout=b"smaller")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: run)
    precompress(static)
    assert (static / "site.css.br").read_bytes() == b"smaller"
    assert not (static / "photo.jpg.br").exists()


def test_maintenance_is_a_file_that_the_edge_sees(tmp_path: Path) -> None:
    app = App("shop", tmp_path)
    app.home.mkdir(parents=True)
    assert maintenance(app, None) == {"app": "shop", "maintenance": False, "changed": False}
    assert maintenance(app, "on")["changed"] is True
    assert maintenance(app, "on")["changed"] is False
    assert maintenance(app, "off") == {"app": "shop", "maintenance": False, "changed": True}
