"""Django's command line for the project of `make bench`."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "measured.settings")
execute_from_command_line(sys.argv)
