"""What has to be true of the traffic and of the host after each deploy."""

import contextlib
import json
import time
from collections.abc import Iterator

from outside import Site, wait_until
from traffic import Close, Traffic

RETIRE_SECONDS = 15


class Watch:
    """Judges windows of the traffic; knows since when each release has been on its way out."""

    def __init__(self, traffic: Traffic, host, site: Site) -> None:
        self.traffic = traffic
        self.host = host
        self.site = site
        self.leaving: dict[str, float] = {}

    def live(self) -> str:
        """The live release, as the host says."""
        return self.status()["live"]["release"]

    def status(self) -> dict:
        """What asgictl says of the app."""
        return json.loads(self.host.check_output("asgictl --json status --quick"))

    @contextlib.contextmanager
    def window(self, name: str, tolerate: tuple[str, ...] = ()) -> Iterator[None]:
        """A window in which nothing may get lost.

        A WebSocket may be closed by 1012 only, and only when its release has been leaving for RETIRE_SECONDS. A text
        that crosses that close on the wire is forgiven: its sender knows that nobody has read it.
        """
        before, began = self.live(), time.time()
        with self.traffic.window(name):
            yield
        if self.live() != before:
            self.leaving[before] = began
        self.traffic.report().assert_lossless(name, close_ok=self._may_close, tolerate=("crossed", *tolerate))

    def _may_close(self, close: Close) -> bool:
        deadline = self.leaving.get(close.release, float("inf")) + RETIRE_SECONDS
        return close.code == 1012 and close.at >= deadline

    def assert_clean(self) -> None:
        """One live instance and nothing besides: no unit, process, socket, lock or half a release."""

        run = self.host.check_output

        def units() -> set[str]:
            listed = run("systemctl list-units --plain --no-legend 'sample@*' 'sample-*'")
            return {line.split()[0] for line in listed.splitlines()}

        def alone() -> bool:
            """the live instance being the only unit"""
            live = self.live()
            return units() == {f"sample@{live}.service", f"sample@{live}.socket"}

        with contextlib.suppress(AssertionError):
            wait_until(alone, RETIRE_SECONDS + 30)
        live = self.live()
        assert units() == {f"sample@{live}.service", f"sample@{live}.socket"}
        assert self.status()["live"]["state"] == "active"
        assert run("ls /run/sample") == f"{live}.sock"
        assert run("ls --almost-all /opt/sample/incoming") == ""
        assert run("find /opt/sample/releases -maxdepth 1 -name '.*'") == ""
        assert not self.host.file("/opt/sample/deploy.json").exists
        group = run("systemctl show --property=ControlGroup --value sample@%s.service", live)
        inside = run("cat /sys/fs/cgroup%s/cgroup.procs", group).split()
        assert sorted(run("pgrep --uid sample").split()) == sorted(inside)
        assert self.site.release() == live
