"""Record each run of a playbook, and its plays that had no hosts, as a line of JSON in the file that LAB_PLAYS names."""

import json
import os
from pathlib import Path

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: plays
type: notification
short_description: Records which playbooks ran and which of their plays had no hosts
description: Ansible exits with code 0 after a play without hosts. The test runner reads this record and fails.
"""


class CallbackModule(CallbackBase):
    """Records the run; does nothing without LAB_PLAYS."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "plays"

    def v2_playbook_on_start(self, playbook):
        """Begin the record of a run."""
        self.run = {"playbook": str(Path(playbook._file_name).resolve()), "check": context.CLIARGS["check"], "without_hosts": []}

    def v2_playbook_on_play_start(self, play):
        """Keep the play's name for the next event."""
        self.play = play.get_name()

    def v2_playbook_on_no_hosts_matched(self):
        """Note a play without hosts."""
        self.run["without_hosts"].append(self.play)

    def v2_playbook_on_stats(self, stats):
        """Write the record when the run ends."""
        if record := os.environ.get("LAB_PLAYS"):
            with Path(record).open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.run) + "\n")
