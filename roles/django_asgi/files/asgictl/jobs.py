"""Celery beside the web instance: workers of the release, and the fleet's one beat.

Workers of two releases may run at the same time: the new ones take new tasks from the moment they start, the old ones
finish what they have (Celery's warm shutdown on SIGTERM). Only one beat may run, so the old one stops first.
"""

import subprocess
import time

from asgictl.as_app import as_app
from asgictl.errors import Refused
from asgictl.release import Release
from asgictl.systemd import Instance, journal, systemctl

PING_SECONDS = 2
# The program that pings loads the whole app first.
PROGRAM_SECONDS = 60


def start_worker(release: Release, timeout: float) -> None:
    """Start the release's Celery worker, if it has one; return when it answers. Refused after `timeout` seconds.

    If its former process still finishes its tasks, the worker starts after that, and nothing waits for it.
    """
    instance = Instance(release.app, release.id)
    unit = instance.job("celery")
    if not unit:
        return
    began = time.time()
    ends = instance.property("ActiveState", unit) == "deactivating"
    systemctl("start", "--no-block", unit)
    while not ends and not _answers(release):
        if time.time() - began > timeout or systemctl("is-failed", unit, check=False).strip() == "failed":
            raise Refused(
                f"{unit} does not answer; check that the broker runs, and the unit's last log lines.",
                details=release.redact(journal(unit, since=began)),
            )


def _answers(release: Release) -> bool:
    """Whether the release's own worker answers a ping through the broker."""
    command = [release.directory / "venv/bin/python", "-m", "celery", "--app", release.manifest["celery_app"], "inspect"]
    node = f"{release.app.name}-{release.id}@{_host()}"
    ping = [*command, "ping", "--destination", node, "--timeout", str(PING_SECONDS)]
    try:
        return as_app(release.app, ping, **release.process_settings(), seconds=PROGRAM_SECONDS).returncode == 0
    except Refused:
        return False


def _host() -> str:
    """The host's name as systemd's %H gives it."""
    return subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()


def run_beat(instance: Instance, wanted: bool) -> None:
    """Start the instance's beat now and at each boot, or stop and disable it."""
    if unit := instance.job("beat"):
        systemctl("enable" if wanted else "disable", "--quiet", "--now", unit, check=wanted)


def stop_jobs(instance: Instance) -> None:
    """Stop an instance's beat now, and its worker when it has finished its tasks."""
    run_beat(instance, wanted=False)
    if celery := instance.job("celery"):
        systemctl("stop", "--no-block", celery, check=False)
