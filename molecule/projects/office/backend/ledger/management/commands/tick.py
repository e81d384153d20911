import os
import time
from pathlib import Path

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """A worker that is no web server: it lives until it is stopped."""

    def add_arguments(self, parser):
        parser.add_argument("name")

    def handle(self, *, name, **options):
        file = Path(os.environ["STATE_DIRECTORY"], f"{name}-{os.getpid()}.txt")
        while True:
            file.write_text(os.environ["APP_RELEASE"])
            time.sleep(1)
