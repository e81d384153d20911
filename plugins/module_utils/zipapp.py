"""Pack a Python package into one executable zip archive (PEP 441), the same bytes for the same files."""

import io
import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip archive can hold


def zipapp(package: Path) -> bytes:
    """Return the executable archive of `package`, started by its `__main__.py`."""
    buffer = io.BytesIO(b"#!/usr/bin/python3\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            inside = path.name if path.name == "__main__.py" else path.relative_to(package.parent).as_posix()
            archive.writestr(zipfile.ZipInfo(inside, EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
