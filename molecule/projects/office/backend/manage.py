"""manage.py of a project with class-based settings: it names the class too."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "office.settings")
    os.environ.setdefault("DJANGO_CONFIGURATION", "Production")
    from configurations.management import execute_from_command_line

    execute_from_command_line(sys.argv)
