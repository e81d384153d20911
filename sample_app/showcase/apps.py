import atexit

from django.apps import AppConfig
from django.db import connections


class ShowcaseConfig(AppConfig):
    name = "showcase"

    def ready(self):
        atexit.register(close_pools)


def close_pools():
    """Close this thread's PostgreSQL pools.

    From Python 3.13 on, a command that ends with an open pool waits 5 s for each of its threads.
    """
    for connection in connections.all(initialized_only=True):
        if connection.vendor == "postgresql":
            connection.close_pool()
