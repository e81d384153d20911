"""Run check --deploy through the project's own manage.py; then print the URLs of the project's files.

Argument: the lowest level at which a finding is an error.
"""

import json
import runpy
import sys

sys.argv = ["manage.py", "check", "--deploy", "--fail-level", sys.argv[1]]
code = 0
try:
    runpy.run_path("manage.py", run_name="__main__")
except SystemExit as end:
    code = end.code
if not code and "django.conf" in sys.modules:
    settings = sys.modules["django.conf"].settings
    print(json.dumps({name: getattr(settings, name) for name in ("STATIC_URL", "MEDIA_URL")}))
sys.exit(code)
