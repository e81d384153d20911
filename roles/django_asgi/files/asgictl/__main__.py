"""Entry point of the zip archive that the role installs as /usr/local/bin/asgictl."""

import sys

from asgictl.cli import main

sys.exit(main())
