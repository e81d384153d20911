"""The program's own archive, with its modules compiled for the host's Python."""

import importlib.util
import io
import marshal
import zipfile
from pathlib import Path

# Hash-based bytecode that is not checked against its source (PEP 552).
UNCHECKED = (1).to_bytes(4, "little")


def compile_archive(path: Path, digest: str) -> None:
    """Write the program at `path`, a zip archive (PEP 441), again with each module's bytecode beside its source.

    Otherwise Python would compile every module at each start, which takes longer than what most commands do. Another version of
    Python uses the source. The file then ends with `digest`, by which the role knows what it was made from.
    """
    buffer = io.BytesIO(b"#!/usr/bin/python3\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            text = source.read(entry)
            code = marshal.dumps(compile(text, entry.filename, "exec", dont_inherit=True))
            head = importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(text)
            target.writestr(entry, text)
            target.writestr(zipfile.ZipInfo(f"{entry.filename}c", entry.date_time), head + code, zipfile.ZIP_DEFLATED)
        target.comment = digest.encode()
    path.write_bytes(buffer.getvalue())
