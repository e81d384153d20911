"""Ping one Celery worker until it answers, with one start of the app for all attempts.

Argument: the descriptor for messages, {"answers": true or false} on a line after each attempt. It reads an object from standard
input: `app`, as for celery --app, and `node`, the worker's name.
"""

import json
import os
import sys
import time
from pathlib import Path

from celery.app.utils import find_app

messages = os.fdopen(int(sys.argv[1]), "w", buffering=1)
PING_SECONDS = 0.5

wanted = json.loads(sys.stdin.readline())
# As `python -m celery` does.
sys.path.insert(0, str(Path.cwd()))
app = find_app(wanted["app"])
answers = False
while not answers:
    try:
        answers = bool(app.control.ping(destination=[wanted["node"]], timeout=PING_SECONDS))
    except Exception as error:  # noqa: BLE001 (each broker has errors of its own)
        print(f"{type(error).__name__}: {error}", flush=True)
        time.sleep(PING_SECONDS)
    messages.write(json.dumps({"answers": answers}) + "\n")
