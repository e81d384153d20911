"""Checks of the traffic and the host after each deploy."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator

from outside import Site, wait_until
from traffic import Close, Report, Traffic


class Watch:
    """Checks windows of the traffic; tracks when each release started to retire and how long that may take."""

    def __init__(self, traffic: Traffic, host, site: Site, retire_seconds: float) -> None:
        self.traffic = traffic
        self.retire_seconds = retire_seconds
        self.host = host
        self.site = site
        self.leaving: dict[str, float] = {}
        self.verdicts: list[Callable[[Report], None]] = []

    def live(self) -> str:
        """Return the host's live release."""
        return self.host.check_output("basename $(readlink /opt/sample/live)")

    def status(self) -> dict:
        """Return asgictl's status of the app."""
        return json.loads(self.host.check_output("asgictl --json status --quick"))

    @contextlib.contextmanager
    def window(self, name: str, tolerate: tuple[str, ...] = ()) -> Iterator[None]:
        """Open a window in which nothing may be lost; `judge` checks it.

        A WebSocket may be closed only with 1012, and only after its release has been retiring for `retire_seconds`. A
        text that crosses that close on the wire is tolerated: its sender can tell that it was not read.
        """
        before = self.leaves()
        with self.traffic.window(name):
            yield
        # A copy, because a release may be live again when the window is checked.
        stays, leaving = before == self.live(), dict(self.leaving)

        def may_close(close: Close) -> bool:
            since = leaving.get(close.release, float("inf"))
            left = close.release != before or not stays
            return close.code == 1012 and left and close.at >= since + self.retire_seconds

        forgiven = ("crossed", *tolerate)
        self.verdicts.append(lambda report: report.assert_lossless(name, close_ok=may_close, tolerate=forgiven))

    def judge(self) -> None:
        """Fail if a window since the last call lost something; wait once for outstanding answers."""
        verdicts, self.verdicts = self.verdicts, []
        if verdicts:
            report = self.traffic.report()
            for verdict in verdicts:
                verdict(report)

    def leaves(self) -> str:
        """Note that the live release may retire from now on; return it."""
        live = self.live()
        self.leaving[live] = time.time()
        return live

    def assert_clean(self) -> None:
        """Fail if anything except the live and retiring instances remains: unit, process, socket, lock, partial release."""
        found: dict[str, set[str]] = {}

        def clean() -> bool:
            """The host is clean."""
            found.update(self._left_over())
            return not any(found.values())

        with contextlib.suppress(AssertionError):
            wait_until(clean)
        assert not any(found.values()), found
        assert self.status()["live"]["state"] == "active"
        assert self.site.release() == self.live()

    def assert_alone(self) -> None:
        """Wait until every old instance is gone, check that nothing was lost, and assert a clean host."""
        name = f"retirements until {time.monotonic():.0f}"

        def counted() -> bool:
            """Every kind of load has been answered since."""
            return all(self.traffic.report().summary(name).counts[kind] for kind in ("get", "post", "stream", "echo"))

        with self.window(name):
            wait_until(lambda: not self.status()["retiring"])
            wait_until(counted)
        self.assert_clean()
        assert self.status()["retiring"] == []

    def _left_over(self) -> dict[str, set[str]]:
        """Return, by kind, what belongs to no instance and what the live instance lacks."""

        def lines(command: str, *arguments: str) -> set[str]:
            return set(self.host.run(command, *arguments).stdout.split("\n")) - {""}

        status = self.status()
        live = status["live"]["release"]
        units = {line.split()[0] for line in lines("systemctl list-units --plain --no-legend 'sample@*' 'sample-*'")}
        instances = {live} | {
            one["release"]
            for one in status["retiring"]
            if one["state"] == "deactivating" or f"sample.retire-{one['release']}.service" in units
        }
        kinds = ("sample@{}.service", "sample@{}.socket", "sample.retire-{}.service")
        groups = " ".join(
            f"/sys/fs/cgroup/$(systemctl show -P ControlGroup sample@{one}.service)/cgroup.procs" for one in instances
        )
        return {
            "units": units - {kind.format(one) for kind in kinds for one in instances},
            "missing": {kind.format(live) for kind in kinds[:2]} - units,
            "sockets": lines("ls /run/sample") - {f"{one}.sock" for one in instances},
            "half releases": lines("find /opt/sample/releases -mindepth 1 -maxdepth 1 -name '.*'"),
            "incoming": lines("ls --almost-all /opt/sample/incoming"),
            "lock": lines("ls /opt/sample/deploy.json"),
            "processes": lines("pgrep --uid sample") - lines(f"cat {groups}"),
        }
