"""A report read from the event log: counts by window, a table, and assertions that name the first failures."""

import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from .model import Close, Exchange, Window, clock

KINDS = ("get", "post", "stream", "handshake", "echo")
_MOST_NAMED = 10
# How long a text and a close that cross may both be in transit if echoes are quick; and which echoes count for that.
_CROSSING_SECONDS = 0.25
_ROUND_SECONDS = 2


@dataclass(slots=True)
class Seen:
    """When a release answered: its first and last response head, and the start of the last request it answered."""

    first: float
    last: float
    last_begun: float
    count: int = 0


@dataclass(slots=True)
class Summary:
    """The counts of one window: everything in flight at any time of the window counts.

    counts: exchanges by kind, failed ones included; failures: by class, all kinds together; times: sorted seconds of
    successful GET and POST; echo_times: the same for echoes; longest_down: seconds a client needed to connect again;
    lag: the most seconds by which the generator was late, also because too many requests were in flight
    """

    name: str
    begin: float
    end: float
    counts: Counter = field(default_factory=Counter)
    failures: Counter = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    echo_times: list[float] = field(default_factory=list)
    unanswered: int = 0
    closes: list[Close] = field(default_factory=list)
    releases: dict[str, Seen] = field(default_factory=dict)
    longest_down: float = 0.0
    lag: float = 0.0

    def quantile(self, share: float, times: list[float] | None = None) -> float:
        """Return the seconds within which that share (0..1) of GET and POST succeeded; 0 if there were none."""
        times = self.times if times is None else times
        return times[min(int(share * len(times)), len(times) - 1)] if times else 0.0

    @property
    def echoes(self) -> tuple[int, int, int]:
        """The numbers of texts (sent, answered, unanswered)."""
        return self.counts["echo"], self.counts["echo"] - self.unanswered, self.unanswered

    def see(self, exchange: Exchange) -> None:
        """Count the response to an HTTP request or handshake for the release that sent it."""
        if exchange.head is None or exchange.kind == "echo":
            return
        at = exchange.started + exchange.head
        seen = self.releases.setdefault(exchange.release, Seen(at, at, exchange.started))
        seen.first, seen.last = min(seen.first, at), max(seen.last, at)
        seen.last_begun = max(seen.last_begun, exchange.started)
        seen.count += 1


class Report:
    """The content of an event log; refresh() reads the lines added since.

    exchanges, closes, marks ((time, name) pairs), windows by name; settled_until: everything begun before that instant
    is in the log with its outcome; stopped: why the generator ended ("" = it runs, or it crashed); settings: the
    generator's; processor_seconds: the processor time it used
    """

    def __init__(self, path: str) -> None:
        """Read the log at path. Raises OSError if there is none."""
        self.path = path
        self.exchanges: list[Exchange] = []
        self.closes: list[Close] = []
        self.marks: list[tuple[float, str]] = []
        self.windows: dict[str, Window] = {}
        self.settings: dict = {}
        self.started = self.settled_until = self.processor_seconds = 0.0
        self.stopped = ""
        self._lags: list[tuple[float, float]] = []
        self._read = 0
        self.refresh()

    def refresh(self) -> Self:
        """Read the lines added since the last time; return the report itself."""
        with Path(self.path).open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # its rest is not written yet, or never will be
                self._read += len(line)
                self._take(json.loads(line))
        return self

    def _take(self, event: dict) -> None:
        """Store one event."""
        match event.pop("event"):
            case "exchange":
                self.exchanges.append(Exchange(**event))
            case "close":
                self.closes.append(Close(**event))
            case "settled":
                self.settled_until = event["until"]
            case "mark":
                self.marks.append((event["at"], event["name"]))
            case "begin":
                self.windows[event["name"]] = Window(event["name"], event["at"])
            case "end":
                self.windows[event["name"]].end = event["at"]
            case "lag":
                self._lags.append((event["at"], event["seconds"]))
            case "start":
                self.started, self.settings = event["at"], event["settings"]
            case "stop":
                self.stopped, self.processor_seconds = event["reason"], event["processor_seconds"]

    @property
    def failures(self) -> list[Exchange]:
        """Every failed exchange of the run, by the time it failed."""
        return self.failures_in()

    @property
    def releases(self) -> dict[str, Seen]:
        """When each release answered, over the whole run."""
        return self.summary().releases

    def span(self, name: str | None = None) -> tuple[float, float]:
        """Return (begin, end) of a window, or of the whole run. Raises KeyError for an unknown window."""
        if name is None:
            return self.started, self.settled_until
        window = self.windows[name]
        return window.begin, self.settled_until if window.end is None else window.end

    def exchanges_in(self, name: str | None = None) -> list[Exchange]:
        """Return the exchanges in flight at any time of a window, or all of the run."""
        if name is None:
            return self.exchanges
        begin, end = self.span(name)
        return [exchange for exchange in self.exchanges if exchange.started <= end and exchange.ended >= begin]

    def failures_in(self, name: str | None = None) -> list[Exchange]:
        """Return the failed ones of exchanges_in(), by the time they failed."""
        failed = (exchange for exchange in self.exchanges_in(name) if exchange.failure)
        return sorted(failed, key=lambda exchange: exchange.ended)

    def closes_in(self, name: str | None = None) -> list[Close]:
        """Return the WebSockets that were closed in a window, or in all of the run."""
        begin, end = self.span(name)
        return [close for close in self.closes if name is None or begin <= close.at <= end]

    def summary(self, name: str | None = None) -> Summary:
        """Return the counts of a window, or of the whole run."""
        begin, end = self.span(name)
        summary = Summary(name or "whole run", begin, end, closes=self.closes_in(name))
        for exchange in self.exchanges_in(name):
            summary.counts[exchange.kind] += 1
            summary.see(exchange)
            if exchange.failure:
                summary.failures[exchange.failure] += 1
                summary.unanswered += exchange.kind == "echo"
            elif exchange.kind in ("get", "post"):
                summary.times.append(exchange.seconds)
            elif exchange.kind == "echo":
                summary.echo_times.append(exchange.seconds)
            summary.longest_down = max(summary.longest_down, exchange.down or 0.0)
        summary.times.sort()
        summary.echo_times.sort()
        summary.lag = max((lag for at, lag in self._lags if begin <= at <= end), default=0.0)
        return summary

    def assert_lossless(
        self,
        *names: str,
        close_ok: Callable[[Close], bool] = lambda close: False,
        tolerate: Collection[str] = (),
    ) -> None:
        """Raise AssertionError if anything was lost in the named windows, or (without names) in the whole run.

        close_ok returns whether a close is expected (by default none is); tolerate names failure classes to ignore, such as
        "stale_reuse", or "crossed", which is ignored only if the text was in transit no longer than a text and a close
        may take to cross on this machine at that time. A window that proves nothing raises too: if its log is
        incomplete, or no exchange of some kind succeeded.
        """
        for name in names or (None,):
            self._assert_proves(name)
            failures = [failure for failure in self.failures_in(name) if not self._forgiven(failure, tolerate)]
            closes = [close for close in self.closes_in(name) if not close_ok(close)]
            self._raise_if([*failures, *closes], f"{self._called(name)} lost something")

    def assert_only_in_flight(self, instant: float, *names: str) -> None:
        """Raise AssertionError if a request, handshake or text begun after the instant failed, or a WebSocket opened
        after it was closed, in the named windows or in the whole run. Seconds since 1970."""
        for name in names or (None,):
            self._assert_settled(name)
            failures = [failure for failure in self.failures_in(name) if failure.started > instant]
            closes = [close for close in self.closes_in(name) if close.opened > instant]
            what = f"{self._called(name)} lost something begun after {clock(instant)}"
            self._raise_if([*failures, *closes], what)

    def assert_answers_only_from(self, release: str, after: float, name: str | None = None) -> None:
        """Raise AssertionError if another release answered a request or handshake begun after the instant, or if this
        one answered none. Without a window, check what is recorded so far, also during the load."""
        if name:
            self._assert_settled(name)
        later = [
            exchange
            for exchange in self.exchanges_in(name)
            if exchange.head is not None and exchange.kind != "echo" and exchange.started > after
        ]
        others = [exchange for exchange in later if exchange.release != release]
        self._raise_if(others, f"{self._called(name)} was answered by releases other than {release} after {clock(after)}")
        if not later:
            raise AssertionError(f"{self._called(name)}: no response at all after {clock(after)}")

    def table(self) -> str:
        """Return a table of the windows and the whole run, followed by failures and closes by class, and the marks."""
        head = "window|seconds|get|post|stream|ws|echoes|failed|closes|p50 ms|p99 ms|max ms|echo max|down s|releases"
        rows = [head.split("|")]
        remarks = []
        for name in [*self.windows, None]:
            summary = self.summary(name)
            rows.append(_row(summary))
            closes = Counter(f"close {close.code}" for close in summary.closes)
            odd = Counter({"generator late ms": round(summary.lag * 1000)})
            found = [f"{what} x{count}" for what, count in (summary.failures + closes + odd).items()]
            remarks += [f"  {summary.name}: {', '.join(found)}"] if found else []
        remarks += [f"  {clock(at)} {name}" for at, name in self.marks]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines = [line.rstrip() for line in lines]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *remarks])

    def _assert_settled(self, name: str | None) -> None:
        """Raise AssertionError if the window's log is incomplete."""
        complete = self.stopped if name is None else self.span(name)[1] <= self.settled_until
        if not complete or (name and self.windows[name].end is None):
            state = self.stopped or f"it is running or crashed, see {self.path}.err"
            raise AssertionError(f"{self._called(name)} is recorded only until {clock(self.settled_until)} (generator: {state})")

    def _assert_proves(self, name: str | None) -> None:
        """Raise AssertionError unless the window is complete and each kind of load succeeded in it."""
        self._assert_settled(name)
        done = Counter(exchange.kind for exchange in self.exchanges_in(name) if not exchange.failure)
        wanted = KINDS[:3] if self.settings["rate"] else ()
        wanted += ("echo",) if self.settings["websockets"] else ()
        missing = [kind for kind in wanted if not done[kind]]
        if missing:
            raise AssertionError(
                f"{self._called(name)} proves nothing: no success of {missing}\n"
                + "\n".join(map(str, self.failures_in(name)[:_MOST_NAMED]))
            )

    def _forgiven(self, failure: Exchange, tolerate: Collection[str]) -> bool:
        """Return whether the caller tolerates the failure; a text that waited too long did not cross the close."""
        if failure.failure != "crossed" or failure.failure not in tolerate:
            return failure.failure in tolerate
        begin, end = failure.started - _ROUND_SECONDS, failure.ended + _ROUND_SECONDS
        echoes = [
            exchange.seconds
            for exchange in self.exchanges
            if exchange.kind == "echo" and not exchange.failure and exchange.ended >= begin and exchange.started <= end
        ]
        return failure.seconds <= max(_CROSSING_SECONDS, 2 * max(echoes, default=0))

    @staticmethod
    def _called(name: str | None) -> str:
        """Return a window's name for a message."""
        return "the whole run" if name is None else f"window {name!r}"

    @staticmethod
    def _raise_if(losses: list[Exchange | Close], what: str) -> None:
        """Raise AssertionError that names the first losses, if there are any."""
        if losses:
            named = "\n".join(f"  {loss}" for loss in losses[:_MOST_NAMED])
            raise AssertionError(f"{what}, {len(losses)} in all:\n{named}")


def _row(summary: Summary) -> list[str]:
    """Return the cells of one line of the table."""
    sent, answered, _ = summary.echoes
    milliseconds = (summary.quantile(0.5), summary.quantile(0.99), summary.quantile(1))
    echo_longest = summary.quantile(1, summary.echo_times)
    return [
        summary.name,
        f"{summary.end - summary.begin:.1f}",
        *(str(summary.counts[kind]) for kind in KINDS[:4]),
        f"{answered}/{sent}",
        str(sum(summary.failures.values())),
        str(len(summary.closes)),
        *(f"{value * 1000:.0f}" for value in (*milliseconds, echo_longest)),
        f"{summary.longest_down:.2f}",
        " ".join(f"{release or '-'}:{seen.count}" for release, seen in summary.releases.items()),
    ]
