"""One lab: a mount and a PID namespace of its own, in which its podman, its conmons and its hosts live.

Two labs share only the base images, which are read-only to them, and the machine's network. A lab's first process holds
its namespaces: when it is killed, the kernel ends every process of the lab and removes its mounts, whatever state podman
was in. remains() lists everything that a lab can leave behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import network

PACKAGE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("ASGI_LAB_STATE") or "/var/lib/asgilab")
IDENT = "[0-9a-f]" * 8
SECONDS = 120  # for one call of podman, or for the end of a lab


class LabError(Exception):
    """The lab cannot be provided; the text states why and what to do."""


class BrokenError(Exception):
    """What is left of the lab is unusable and must be rebuilt; the text gives the reason."""


@contextlib.contextmanager
def locked(name: str, wait: bool = True) -> Iterator[bool]:
    """Hold a lock of this machine; without waiting, yield False if another process holds it."""
    path = STATE / "locks" / name
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            # The removal of the last lab's state also removes the file that this process waited for.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield True
                return


def arguments_of(process: Path) -> list[str]:
    """Return the command line of a process, given its directory in a /proc; empty if it is gone."""
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def status_of(process: Path) -> dict[str, str]:
    """Return the fields of a process's status; empty if it is gone."""
    with contextlib.suppress(OSError):
        return dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    return {}


def processes(proc: Path = Path("/proc")) -> list[Path]:
    """Return the directories of all processes in a /proc."""
    return [path for path in proc.iterdir() if path.name.isdigit()]


def is_first(process: Path) -> bool:
    """Return whether a process is number 1 of a PID namespace."""
    return status_of(process).get("NSpid", "").endswith("\t1")


class Lab:
    """The lab with this id; the id `images` stands for the store of base images while it is written to."""

    def __init__(self, ident: str) -> None:
        """Set the names and paths of the lab; nothing is looked up or created."""
        self.ident = ident
        self.name = f"asgilab-{ident}"
        self.directory = STATE / "labs" / ident
        self.storage = STATE / "images" if ident == "images" else self.directory / "storage"
        self.network = network.Network(self.name, f"asgilab{ident}", STATE / "networks")

    def is_first(self, process: Path) -> bool:
        """Return whether this is a first process of the lab, by its command line and its number 1 in a namespace."""
        return arguments_of(process)[-3:] == ["init", str(STATE), self.ident] and is_first(process)

    def first(self) -> Path | None:
        """Return the /proc directory of the lab's first process; None if the lab does not run."""
        with contextlib.suppress(OSError):
            process = Path("/proc", (self.directory / "first").read_text())
            if self.is_first(process):
                return process
        return None

    def start(self) -> None:
        """Create the lab's namespaces and start its first process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        first = [sys.executable, "-B", PACKAGE, "init", STATE, self.ident]
        process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--propagation", "slave", "--", *first],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            text=True,
        )
        line = process.stdout.readline()
        if line != "ready\n":
            raise LabError(
                f"The lab's namespaces cannot be created, which requires root with all capabilities: {line}{process.stdout.read()}"
            )

    def run_first(self) -> None:
        """Run as the lab's first process: set up its namespaces and hold them until killed."""
        # This is still the machine's /proc, so this is the process's number on the machine.
        number = str(Path("/proc/self").readlink())
        mount("-t", "proc", "proc", "/proc")
        if output("stat", "-fc", "%T", "/sys/fs/cgroup").strip() != "cgroup2fs":
            # systemd boots in a container only below cgroup v2; the machine's own /sys/fs/cgroup stays as it is.
            output("umount", "-R", "/sys/fs/cgroup")
            mount("-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
        # podman's data about running containers (state, addresses, networks, locks) belongs to the lab and ends with it.
        for directory in ("/run/containers", "/run/netns", "/dev/shm"):
            Path(directory).mkdir(parents=True, exist_ok=True)
            mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory)
        if os.environ.get("ASGI_LAB_MEMORY") and self.ident != "images" and driver() == "overlay":
            # What the hosts write lives in memory, and ends with the lab: on a disk, deleting it may take minutes.
            self.storage.mkdir(parents=True, exist_ok=True)
            mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.storage)
        # Leave the user's session, which systemd may end.
        cgroup = Path("/sys/fs/cgroup", "asgilab", self.ident, "first")
        cgroup.mkdir(parents=True, exist_ok=True)
        (cgroup / "cgroup.procs").write_text("0")
        (self.directory / "first").write_text(number)
        # Nothing waits for conmons: the kernel reaps them.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready", flush=True)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        while True:
            signal.pause()

    def inside(self, *command: str) -> list[str]:
        """Return the command line that runs a command in the lab's namespaces."""
        first = self.first()
        if not first:
            raise BrokenError("its namespaces are gone")
        return ["nsenter", f"--mount={first}/ns/mnt", f"--pid={first}/ns/pid", "--", *command]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of podman inside the lab."""
        images = [] if self.ident == "images" else ["--storage-opt", f"{driver()}.imagestore={STATE}/images"]
        return [
            *("podman", "--root", str(self.storage), "--storage-driver", driver(), *images),
            *("--runroot", "/run/containers/storage", "--tmpdir", "/run/containers/libpod"),
            *("--volumepath", f"{self.directory}/volumes", "--network-config-dir", f"{STATE}/networks"),
            *("--cgroup-manager", "cgroupfs", "--runtime", "runc", *arguments),
        ]

    def podman(self, *arguments: str) -> str:
        """Run the lab's podman and return its output; raise BrokenError if it fails or hangs."""
        try:
            return output(*self.inside("timeout", "--kill-after=5", str(SECONDS), *self.command(*arguments)))
        except subprocess.CalledProcessError as error:
            raise BrokenError(f"podman {' '.join(arguments[:2])}: {error.stderr.strip() or 'it hangs'}") from error

    def remove(self, forget: bool = True) -> list[str]:
        """Remove everything of the lab; return what could not be removed.

        A lab that is not forgotten keeps its empty directory, which keeps the base images.
        """
        for process in processes():
            self.end(process)
        self.network.clear()
        # None is expected here, but deleting the directory must not delete mounted files.
        for point in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        tidy = 'umount -R "$0" && mount -t cgroup2 cgroup2 "$0" && { find "$0/asgilab/$1" -depth -type d -exec rmdir {} +; rmdir "$0/asgilab"; }'
        deadline = time.monotonic() + 10
        while True:
            if not self.mounts():
                self.empty(forget)
            # In a private mount of cgroup2, because the machine may have none, or one in any place.
            isolated = ["unshare", "--mount", "sh", "-c", tidy, "/sys/fs/cgroup", self.ident]
            subprocess.run(isolated, capture_output=True, check=False)
            left = self.remains(forget)
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def empty(self, forget: bool) -> None:
        """Delete the lab's files as far as possible; remains() reports the rest."""
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        path.unlink()
        with contextlib.suppress(OSError):
            if forget:
                self.directory.rmdir()

    def end(self, process: Path) -> None:
        """Kill a process if it is a first one of the lab, and wait until the lab has ended with it."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(int(process.name))
            try:
                # Only now, because the number could have passed to another process before.
                if self.is_first(process):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], SECONDS)
            finally:
                os.close(handle)

    def mounts(self) -> list[str]:
        """Return the mount points below the lab's directory that the machine itself sees."""
        points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return sorted(point for point in points if Path(point).is_relative_to(self.directory))

    def remains(self, forget: bool = True) -> list[str]:
        """Describe everything that exists of the lab: processes with their containers, mounts, addresses, rules, files."""
        left = [f"process {process.name} and all that runs below it" for process in processes() if self.is_first(process)]
        left += [f"mount {point}" for point in self.mounts()]
        left += self.network.remains()
        kept = self.directory.exists() and (forget or any(self.directory.iterdir()))
        return [*left, f"directory {self.directory}"] if kept else left


@functools.cache
def driver() -> str:
    """Return the storage driver of podman that works here: overlays cannot be stacked on one another."""
    return "vfs" if output("stat", "-fc", "%T", STATE).strip() == "overlayfs" else "overlay"


def remove(lab: Lab, forget: bool = True) -> None:
    """Remove the lab; raise LabError if something is left."""
    left = lab.remove(forget)
    if left:
        raise LabError(f"Lab {lab.name} could not be removed completely; remove the rest by hand: {'; '.join(left)}.")


def mount(*arguments: str | Path) -> None:
    """Run mount with these arguments."""
    output("mount", *arguments)


def output(*command: str | Path) -> str:
    """Run a command and return its output."""
    words = [str(word) for word in command]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
