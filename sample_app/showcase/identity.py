"""Who is speaking: the host, the process and the release of this code."""

import os
import socket

from django.conf import settings

HOST = socket.gethostname()


def identity():
    """Return host, worker (process id) and release. Asked each time: a fork has another id."""
    return {"host": HOST, "worker": os.getpid(), "release": settings.RELEASE}
