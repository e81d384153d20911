"""The instances of an app: its systemd units, their processes and their connections."""

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from asgictl.app import App, write_atomically
from asgictl.errors import Refused
from asgictl.release import Release

SYSTEMD_RUN = "systemd-run"
# Between the names of an app and of what runs beside its web service; no app's name contains it.
BESIDE = "."
# The jobs of a release whose manifest does not list them: an older asgictl made it, with a hyphen in the units' names.
FORMER_JOBS = {"celery": "all", "beat": "one"}


def systemctl(*arguments: str, check: bool = True) -> str:
    """Run systemctl and return what it printed; Refused if it fails and `check`."""
    result = subprocess.run(["systemctl", *arguments], check=False, capture_output=True, text=True, errors="replace")
    if check and result.returncode:
        raise Refused(f"systemctl {' '.join(arguments)} failed.", details=result.stderr.strip())
    return result.stdout


def journal(unit: str, lines: int = 100, since: float = 0, run: str = "") -> str:
    """The last `lines` messages of `unit`, of one `run` of it (its InvocationID) if given, none from before `since`.

    The default is enough for the app's traceback: each worker that fails at its start writes one, and gunicorn another.
    """
    subprocess.run(["journalctl", "--sync"], check=False, capture_output=True)
    # No --since: with it, systemd 252 counts --lines from the first message.
    command = ["journalctl", "--no-pager", "--quiet", "--all", "--output=json", "--output-fields=MESSAGE"]
    # The messages of the unit's processes, and those of systemd about the unit.
    command += [f"_SYSTEMD_INVOCATION_ID={run}", "+", "_PID=1", f"INVOCATION_ID={run}"] if run else [f"--unit={unit}"]
    command.append(f"--lines={lines}")
    shown = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace").stdout
    entries = [json.loads(line) for line in shown.split("\n") if line]
    recent = [entry for entry in entries if int(entry["__REALTIME_TIMESTAMP"]) >= since * 1_000_000]
    return "\n".join(_text(entry.get("MESSAGE")) for entry in recent).strip()


def _text(message: str | list | None) -> str:
    """The text of a message in journalctl's JSON: a text, bytes if it is not UTF-8, or a list of these."""
    if not isinstance(message, list):
        return message or ""
    if all(isinstance(part, int) for part in message):
        return bytes(message).decode(errors="replace")
    return "\n".join(map(_text, message))


@dataclass(frozen=True)
class Instance:
    """A release as systemd runs it: `<app>@<release>.socket` and `<app>@<release>.service`."""

    app: App
    release: str

    @property
    def service(self) -> str:
        """The unit that runs gunicorn."""
        return f"{self.app.name}@{self.release}.service"

    @property
    def socket(self) -> str:
        """The unit that owns the listening socket."""
        return f"{self.app.name}@{self.release}.socket"

    @property
    def retirement(self) -> str:
        """The transient unit that waits for the instance's connections to end."""
        return f"{self.app.name}{BESIDE}retire-{self.release}.service"

    @property
    def socket_path(self) -> Path:
        """The path of the instance's socket."""
        return self.app.socket_directory / f"{self.release}.sock"

    @property
    def jobs(self) -> dict[str, str]:
        """What runs beside the web service, sorted by name: {name: unit}."""
        files = self.app.units.glob(f"{self.app.name}[{BESIDE}-]*@{self.release}.service")
        return {file.name.partition("@")[0][len(self.app.name) + 1 :]: file.name for file in sorted(files)}

    def jobs_on(self, hosts: str) -> list[str]:
        """The units of the jobs that run on `all` hosts of the fleet, on `one`, or by a `timer`."""
        try:
            known = Release(self.app, self.release).manifest.get("jobs", FORMER_JOBS)
        except Refused:
            known = {}
        return [unit for name, unit in self.jobs.items() if known.get(name) == hosts]

    @property
    def units(self) -> list[str]:
        """All of the instance's units; the web service is the last one."""
        return [*self.jobs.values(), self.socket, self.service]

    def install(self, units: dict[str, str]) -> None:
        """Install the unit files and reload systemd; `units` holds the texts of `socket`, `service` and of each job, by its name.

        The service comes last, because its unit marks the release as complete.
        """
        jobs = {name: f"{self.app.name}{BESIDE}{name}@{self.release}.service" for name in units}
        for name, unit in (jobs | {"socket": self.socket, "service": self.service}).items():
            if name != "service":
                write_atomically(self.app.units / unit, units[name])
        write_atomically(self.app.units / self.service, units["service"])
        systemctl("daemon-reload")

    def uninstall(self) -> None:
        """Stop the instance and remove its unit files."""
        self.stop()
        self.enable(False)
        for unit in self.units:
            (self.app.units / unit).unlink(missing_ok=True)

    def start(self, timeout: float) -> None:
        """Start the instance; return when all its workers serve (READY=1). Refused after `timeout` seconds."""
        began = time.time()
        systemctl("reset-failed", self.service, self.socket, check=False)
        systemctl("start", self.socket)
        systemctl("start", "--no-block", self.service)
        while (attempt := self._attempt())["ActiveState"] != "active":
            ended = attempt["ActiveState"] == "failed" or attempt["SubState"] == "auto-restart"
            if ended or time.time() - began > timeout:
                raise Refused(
                    f"{self.service} {'did not start' if ended else f'did not serve within {timeout:g} s'}; "
                    f"its last log lines show why.",
                    # The next attempt begins after a second, and its messages would hide the reason.
                    details=journal(self.service, since=began, run=attempt["InvocationID"]),
                )
            time.sleep(0.05)

    def _attempt(self) -> dict[str, str]:
        """The service's ActiveState, SubState and InvocationID, all of one moment."""
        shown = systemctl("show", "--property=ActiveState,SubState,InvocationID", self.service)
        return dict(line.split("=", 1) for line in shown.splitlines())

    def stop(self, block: bool = True) -> None:
        """Stop all units; the worker ends its connections as on any SIGTERM. Without `block`, a timer's command goes on."""
        units = self.units if block else [unit for unit in self.units if unit not in self.jobs_on("timer")]
        systemctl("stop", *([] if block else ["--no-block"]), *units, check=False)
        if block:
            systemctl("reset-failed", *self.units, check=False)

    def enable(self, enabled: bool) -> None:
        """Start the instance at boot, or don't; what runs on one host only is up to `jobs.run_once`."""
        self.start_at_boot(self.service, enabled)
        self.start_at_boot(self.socket, enabled, "sockets.target")
        for unit in self.jobs_on("all") if enabled else self.jobs.values():
            self.start_at_boot(unit, enabled)

    def start_at_boot(self, unit: str, wanted: bool, target: str = "multi-user.target") -> None:
        """Let `target` start a unit at boot, or not, as `systemctl enable` does."""
        link = self.app.units / f"{target}.wants" / unit
        if wanted and not link.is_symlink():
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(self.app.units / unit)
        elif not wanted and link.is_symlink():
            link.unlink()

    def property(self, name: str, unit: str | None = None) -> str:
        """A property of the service, or of `unit`."""
        return systemctl("show", f"--property={name}", "--value", unit or self.service).strip()

    def state(self) -> str:
        """systemd's ActiveState of the service: active, activating, inactive, failed, …"""
        return self.property("ActiveState")

    def retiring(self) -> bool:
        """Whether the instance is waiting for its connections to end."""
        return self.property("ActiveState", self.retirement) in ("active", "activating")

    def start_retirement(self) -> None:
        """Start the transient unit that runs `retire`."""
        systemctl("reset-failed", self.retirement, check=False)
        command = ("/usr/local/bin/asgictl", "--app", self.app.name, "retire", self.release)
        run_transient(self.retirement, f"Retire release {self.release} of {self.app.name}", *command)

    def cancel_retirement(self) -> None:
        """Cancel the retirement, if there is one; the instance keeps running."""
        if self.retiring():
            systemctl("stop", self.retirement, check=False)

    def connections(self) -> int:
        """The open connections to the instance's socket, in the kernel's own count (/proc/net/unix, state 03)."""
        path = str(self.socket_path)
        with Path("/proc/net/unix").open() as table:
            return sum(1 for line in table if line.rstrip().endswith(" " + path) and line.split()[5] == "03")

    def workers(self) -> list[dict]:
        """The worker processes: pid, memory_mib (proportional set size, 0 if unreadable), age_seconds."""
        main = int(self.property("MainPID") or 0)
        return [process_facts(pid) for pid in children(main)] if main else []


def children(pid: int) -> list[int]:
    """The process ids of `pid`'s children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def process_facts(pid: int) -> dict:
    """Memory and age of a process."""
    try:
        memory = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        started = float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError):
        return {"pid": pid, "memory_mib": 0, "age_seconds": 0}
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    ticks_a_second = 100
    return {
        "pid": pid,
        "memory_mib": round(int(memory[1]) / 1024) if memory else 0,
        "age_seconds": round(uptime - started / ticks_a_second),
    }


def loaded_units(app: App) -> dict[str, str]:
    """The app's units that systemd has loaded, {unit: ActiveState}; one call, because one unit costs as much as all."""
    kinds = ("@*", f"{BESIDE}*@*", *(f"-{job}@*" for job in FORMER_JOBS))
    listed = systemctl("list-units", "--all", "--output=json", *(f"{app.name}{kind}" for kind in kinds))
    return {unit["unit"]: unit["active"] for unit in json.loads(listed)}


def instances(app: App) -> list[Instance]:
    """The app's instances that systemd has loaded or that have unit files."""
    names = {*loaded_units(app), *(path.name for path in app.units.glob(f"{app.name}@*.s*"))}
    return [Instance(app, release) for release in sorted(_releases(app, names, web=True))]


def releases_up(app: App, web: bool = False) -> set[str]:
    """The releases of which a unit is up, or on its way up or down; with `web`, their web service or its socket."""
    up = {unit for unit, state in loaded_units(app).items() if state not in ("inactive", "failed")}
    return _releases(app, up, web)


def _releases(app: App, units: set[str], web: bool) -> set[str]:
    job = "" if web else rf"(?:{re.escape(BESIDE)}[^@]+|-(?:{'|'.join(FORMER_JOBS)}))?"
    pattern = rf"{re.escape(app.name)}{job}@([0-9a-f]{{12}})\.(?:service|socket)"
    return {match[1] for unit in units if (match := re.fullmatch(pattern, unit))}


def sweep(app: App) -> None:
    """Remove the temporary files of killed atomic writes; the caller holds the step lock, so nothing else writes."""
    units = [f".{app.name}{job}*.[0-9]*" for job in ("@", BESIDE)]
    for stray in (*app.home.glob(".*.[0-9]*"), *(path for pattern in units for path in app.units.glob(pattern))):
        stray.unlink()


def run_transient(unit: str, description: str, *command: str) -> None:
    """Start `command` as a transient unit, which outlives its caller and is removed when it ends."""
    subprocess.run(
        [SYSTEMD_RUN, "--quiet", "--collect", f"--unit={unit}", f"--description={description}", *command],
        check=True,
        capture_output=True,
    )
