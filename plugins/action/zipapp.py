"""Action: pack a Python package into one executable zip archive (PEP 441), the same bytes for the same files."""

import io
import zipfile
from pathlib import Path

from ansible import constants
from ansible.plugins.action import ActionBase

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


class ActionModule(ActionBase):
    """Packs the package in the directory `package`; returns the archive's `path`."""

    _VALID_ARGS = frozenset(("package",))

    def run(self, tmp=None, task_vars=None):
        """Write the archive where Ansible removes it when the play ends."""
        super().run(tmp, task_vars)
        package = Path(self._task.args["package"])
        path = Path(constants.DEFAULT_LOCAL_TMP) / package.name
        path.write_bytes(zipapp(package))
        return {"changed": False, "path": str(path)}
