"""The host's own record of every deploy and rollback, one JSON object a line, only ever appended to."""

import json
import os
import time

from asgictl.app import App


def record(app: App, **entry: object) -> None:
    """Append `entry` to the app's history with the time it was written."""
    app.history_file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry}) + "\n"
    with app.history_file.open("ab+") as file:
        # A line that a crash cut short must not take this one with it.
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            line = "\n" + line
        file.write(line.encode())


def entries(app: App, last: int) -> list[dict]:
    """The last `last` entries, oldest first; a line that a crash cut short is left out."""
    try:
        lines = app.history_file.read_text().splitlines()[-last:]
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
