"""Keep the modules that Ansible has packed for the next run of a playbook, in the directory that LAB_MODULES names."""

import os
from pathlib import Path

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: modules
type: notification
short_description: Keeps packed modules from one run of a playbook to the next
description: Ansible packs each module with what it imports, which costs the controller CPU, and forgets it at the run's end.
"""


class CallbackModule(CallbackBase):
    """Lays the kept modules where Ansible looks for those of this run; without LAB_MODULES it does nothing."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "modules"

    def __init__(self, *arguments, **options):
        """Come before the first module: callbacks are loaded when a run starts."""
        super().__init__(*arguments, **options)
        # ansible.executor.module_common keeps them there, by name; the arguments of a call are not among them.
        packed = Path(C.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
        if (kept := os.environ.get("LAB_MODULES")) and not packed.exists():
            Path(kept).mkdir(parents=True, exist_ok=True)
            packed.symlink_to(kept)
