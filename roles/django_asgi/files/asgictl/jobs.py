"""What runs beside the web instance: processes on every host or on one host of the fleet, and commands by the calendar.

Processes of two releases may run on every host at the same time: the new ones take new work from the moment they start, the old
ones finish what they have when they get SIGTERM. What runs once in the fleet stops in the old release before it starts in the
new one. A timer starts the command of the live release; systemd and a lock keep a command from running twice at once.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asgictl.app import App, write_atomically
from asgictl.errors import Refused
from asgictl.release import Release
from asgictl.systemd import BESIDE, Instance, journal, systemctl

# A process that lives as long as this has read its settings.
STEADY_SECONDS = 1
POLL_SECONDS = 0.1


def start_jobs(release: Release, timeout: float) -> None:
    """Start what the release runs on every host; return when all of it is up. Refused after `timeout` seconds.

    A Celery worker is up when it answers, unless its broker can't be asked; any other process when it has stayed up for a moment. If a unit's former process still
    finishes its work, the new one starts after that, and nothing waits for it.
    """
    instance = Instance(release.app, release.id)
    began = time.time()
    state = {unit: instance.property("ActiveState", unit) for unit in instance.jobs_on("all")}
    for unit in state:
        systemctl("start", "--no-block", unit)
    for unit in (unit for unit, before in state.items() if before not in ("active", "deactivating")):
        if unit == instance.jobs.get("celery") and release.manifest.get("celery_ping", True):
            with _pings(release) as answers:
                _wait(release, unit, answers, began, timeout, is_asked=True)
        else:
            _wait(release, unit, lambda unit=unit: _is_steady(instance, unit, began), began, timeout)


def _wait(release: Release, unit: str, is_up: Callable[[], bool], began: float, timeout: float, is_asked: bool = False) -> None:
    """Wait until a process is up, or answers if it `is_asked`; Refused if it has ended, or `timeout` seconds after `began`."""
    while not is_up():
        ended = _has_ended(Instance(release.app, release.id), unit)
        if ended or time.time() - began > timeout:
            what = (
                "answer; check that the broker runs (django_asgi_celery_ping_enabled: false for one without remote control), and"
                if is_asked and not ended
                else "stay up; see"
            )
            raise Refused(
                f"{unit} does not {what} the unit's last log lines.",
                details=release.redact(journal(unit, since=began)),
            )
        time.sleep(POLL_SECONDS)


def _is_steady(instance: Instance, unit: str, began: float) -> bool:
    return instance.property("ActiveState", unit) == "active" and time.time() - began > STEADY_SECONDS


def _has_ended(instance: Instance, unit: str) -> bool:
    """Whether a process that is to run for ever has ended."""
    return instance.property("ActiveState", unit) == "failed" or int(instance.property("NRestarts", unit) or 0) > 0


@contextmanager
def _pings(release: Release) -> Iterator[Callable[[], bool]]:
    """Ping the release's own Celery worker through the broker; yield a function that returns whether it has answered."""
    with release.talk("ping_celery") as program:
        program.answer(app=release.manifest["celery_app"], node=f"{release.app.name}-{release.id}@{_host()}")

        def answered() -> bool:
            try:
                return program.hear(POLL_SECONDS).get("answers", False)
            except subprocess.TimeoutExpired:
                return False

        yield answered


def _host() -> str:
    """The host's name as systemd's %H gives it."""
    return subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()


def run_once(instance: Instance, wanted: bool) -> None:
    """Start what the fleet runs once, now and at each boot, or stop and disable it."""
    for unit in instance.jobs_on("one"):
        # `systemctl enable` would have systemd load all units again.
        instance.start_at_boot(unit, wanted)
        is_up = instance.property("ActiveState", unit) not in ("inactive", "failed")
        if is_up != wanted:
            systemctl("start" if wanted else "stop", unit, check=wanted)


def stop_jobs(instance: Instance) -> None:
    """Stop now what the fleet runs once; every other process when it has finished its work. A timer's command goes on."""
    run_once(instance, wanted=False)
    if units := instance.jobs_on("all"):
        systemctl("stop", "--no-block", *units, check=False)


def require_calendars(timers: dict[str, str]) -> None:
    """Refuse a calendar that systemd does not understand; `timers` holds the text of each timer, by its name."""
    for name, text in timers.items():
        (calendar,) = re.findall(r"^OnCalendar=(.*)$", text, re.MULTILINE)
        checked = subprocess.run(["systemd-analyze", "calendar", "--", calendar], capture_output=True, text=True, check=False)
        if checked.returncode:
            raise Refused(
                f"django_asgi_timers: {name}: calendar is {calendar}, which systemd does not understand; expected a time such as "
                f"daily, Mon 06:00 or *:0/15 (systemd.time(7)).",
                details=checked.stderr.strip(),
            )


def run_timers(app: App, release: str | None) -> None:
    """Let exactly the timers of this release run, each with the release's command; without a release, none."""
    wanted = {}
    for name, text in (Release(app, release).timers if release else {}).items():
        wanted[f"{app.name}{BESIDE}{name}.timer"] = f"{text.rstrip()}\nUnit={app.name}{BESIDE}{name}@{release}.service\n"
    there = {file.name: file for file in app.units.glob(f"{app.name}{BESIDE}*.timer")}
    for gone in there.keys() - wanted.keys():
        systemctl("disable", "--quiet", "--now", gone, check=False)
        there[gone].unlink()
    changed = [unit for unit, text in wanted.items() if unit not in there or there[unit].read_text() != text]
    for unit in changed:
        write_atomically(app.units / unit, wanted[unit])
    if changed or there.keys() - wanted.keys():
        systemctl("daemon-reload")
    for unit in changed:
        systemctl("enable", "--quiet", unit)
        systemctl("restart", unit)


def note_end(app: App, timer: str) -> str:
    """Record how a timer's command has ended, as systemd tells it (SERVICE_RESULT in systemd.exec(5)); return a message."""
    record = {
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "result": os.environ.get("SERVICE_RESULT", "unknown"),
        "exit_status": os.environ.get("EXIT_STATUS", ""),
    }
    file = _record_of(app, timer)
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, json.dumps(record))
    return f"{timer} ended with {record['result']}."


def timers_of(app: App) -> dict[str, dict]:
    """The timers that run on this host, by name: when the `next` run starts, and how the `last` one has ended."""
    found = {}
    for file in sorted(app.units.glob(f"{app.name}{BESIDE}*.timer")):
        name = file.name.removeprefix(f"{app.name}{BESIDE}").removesuffix(".timer")
        due = systemctl("show", "--property=NextElapseUSecRealtime", "--value", file.name).strip()
        try:
            last = json.loads(_record_of(app, name).read_text())
        except FileNotFoundError:
            last = None
        found[name] = {"next": due, "last": last}
    return found


def _record_of(app: App, timer: str) -> Path:
    return app.home / "timers" / f"{timer}.json"
