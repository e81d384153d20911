"""The identity of this process: host, process id and release."""

import os
import socket

from django.conf import settings

HOST = socket.gethostname()


def identity():
    """Return host, worker (process id) and release. Read each time: a fork has another id."""
    return {"host": HOST, "worker": os.getpid(), "release": settings.RELEASE}
