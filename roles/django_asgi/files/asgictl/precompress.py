"""Compressed copies of static files, so that the edge compresses none of them per request."""

import filecmp
import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TEXT = {".css", ".csv", ".htm", ".html", ".js", ".json", ".map", ".md", ".mjs", ".svg", ".txt", ".wasm", ".webmanifest", ".xml"}
# A smaller file fits into one packet anyway.
SMALLEST = 1024


def precompress(directory: Path, former: Path | None = None) -> None:
    """Put NAME.gz, and NAME.br if the host has the program brotli, beside each text file that gets smaller.

    The same files give the same bytes on every host, and the copies have their original's time. Copies that the
    project has made stay. If a file is the same in `former`, a directory that was compressed before, the copies are linked
    from there, because the best compression of a large script takes seconds. Raises OSError if the disk is full.
    """
    compressors: dict[str, Callable[[Path], bytes]] = {".gz": _gzip}
    if shutil.which("brotli"):
        compressors[".br"] = _brotli
    files = [
        file
        for file in directory.rglob("*")
        if file.suffix.lower() in TEXT and file.is_file() and not file.is_symlink() and file.stat().st_size >= SMALLEST
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for ending, compressor in compressors.items():

            def work(file: Path, ending: str = ending, compressor: Callable[[Path], bytes] = compressor) -> None:
                _copy(file, former and former / file.relative_to(directory), ending, compressor)

            list(pool.map(work, files))


def _copy(file: Path, former: Path | None, ending: str, compressor: Callable[[Path], bytes]) -> None:
    copy = file.with_name(file.name + ending)
    # A dangling link counts: it may be the app's, and a write would follow it.
    if os.path.lexists(copy):
        return
    done = former and former.with_name(former.name + ending)
    if done and done.is_file() and former.is_file() and filecmp.cmp(file, former, shallow=False):
        os.link(done, copy)
        return
    data = compressor(file)
    if data and len(data) < file.stat().st_size:
        copy.write_bytes(data)
        shutil.copystat(file, copy)


def _gzip(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), compresslevel=9, mtime=0)


def _brotli(file: Path) -> bytes:
    return subprocess.run(["brotli", "--best", "--stdout", file], check=True, capture_output=True).stdout
