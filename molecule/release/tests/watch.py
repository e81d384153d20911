"""What has to be true of the traffic and of the host after each deploy."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator

from outside import Site, wait_until
from traffic import Close, Report, Traffic


class Watch:
    """Judges windows of the traffic; knows since when each release has been on its way out, and how long it may be."""

    def __init__(self, traffic: Traffic, host, site: Site, retire_seconds: float) -> None:
        self.traffic = traffic
        self.retire_seconds = retire_seconds
        self.host = host
        self.site = site
        self.leaving: dict[str, float] = {}
        self.verdicts: list[Callable[[Report], None]] = []

    def live(self) -> str:
        """The live release, as the host says."""
        return self.host.check_output("basename $(readlink /opt/sample/live)")

    def status(self) -> dict:
        """What asgictl says of the app."""
        return json.loads(self.host.check_output("asgictl --json status --quick"))

    @contextlib.contextmanager
    def window(self, name: str, tolerate: tuple[str, ...] = ()) -> Iterator[None]:
        """A window in which nothing may get lost; `judge` looks whether it was.

        A WebSocket may be closed by 1012 only, and only when its release has been leaving for `retire_seconds`. A text
        that crosses that close on the wire is forgiven: its sender knows that nobody has read it.
        """
        before = self.leaves()
        with self.traffic.window(name):
            yield
        # A copy: by the time of the verdict a release may be live again.
        stays, leaving = before == self.live(), dict(self.leaving)

        def may_close(close: Close) -> bool:
            since = leaving.get(close.release, float("inf"))
            left = close.release != before or not stays
            return close.code == 1012 and left and close.at >= since + self.retire_seconds

        forgiven = ("crossed", *tolerate)
        self.verdicts.append(lambda report: report.assert_lossless(name, close_ok=may_close, tolerate=forgiven))

    def judge(self) -> None:
        """Fail where a window since the last time has lost something; the last answers are waited for once."""
        verdicts, self.verdicts = self.verdicts, []
        if verdicts:
            report = self.traffic.report()
            for verdict in verdicts:
                verdict(report)

    def leaves(self) -> str:
        """Note that the live release may be on its way out from now on; return it."""
        live = self.live()
        self.leaving[live] = time.time()
        return live

    def assert_clean(self) -> None:
        """Besides the live instance there is nothing but those that retire: no unit, process, socket, lock, half a release."""
        found: dict[str, set[str]] = {}

        def clean() -> bool:
            """the host being clean"""
            found.update(self._left_over())
            return not any(found.values())

        with contextlib.suppress(AssertionError):
            wait_until(clean)
        assert not any(found.values()), found
        assert self.status()["live"]["state"] == "active"
        assert self.site.release() == self.live()

    def assert_alone(self) -> None:
        """The same once the last old instance is gone, and the end of each lost nothing."""
        name = f"retirements until {time.monotonic():.0f}"

        def counted() -> bool:
            """every kind of load having had an answer since"""
            return all(self.traffic.report().summary(name).counts[kind] for kind in ("get", "post", "stream", "echo"))

        with self.window(name):
            wait_until(lambda: not self.status()["retiring"])
            wait_until(counted)
        self.assert_clean()
        assert self.status()["retiring"] == []

    def _left_over(self) -> dict[str, set[str]]:
        """What is there and belongs to no instance, or is not there and belongs to the live one."""

        def lines(command: str, *arguments: str) -> set[str]:
            return set(self.host.run(command, *arguments).stdout.split("\n")) - {""}

        status = self.status()
        live = status["live"]["release"]
        units = {line.split()[0] for line in lines("systemctl list-units --plain --no-legend 'sample@*' 'sample-*'")}
        instances = {live} | {
            one["release"]
            for one in status["retiring"]
            if one["state"] == "deactivating" or f"sample-retire-{one['release']}.service" in units
        }
        kinds = ("sample@{}.service", "sample@{}.socket", "sample-retire-{}.service")
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
