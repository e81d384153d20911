"""The generator's settings (Settings) and records (Exchange, Close, Window)."""

import ipaddress
import time
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

_EPOCH = time.time() - time.monotonic()


def now() -> float:
    """Return the time in seconds since 1970, from a clock that is never set back while the process runs."""
    return _EPOCH + time.monotonic()


def clock(instant: float) -> str:
    """Return an instant (seconds since 1970) as local HH:MM:SS.mmm."""
    return time.strftime("%H:%M:%S", time.localtime(instant)) + f".{int(instant % 1 * 1000):03d}"


@dataclass(frozen=True, slots=True)
class Settings:
    """One run of the generator. Raises ValueError if a value is out of bounds.

    base_url: http://<private or loopback address>:<port>; log: path of the event log; host: Host header and Origin
    ("" = those of base_url); seconds: how long the run lasts; rate: HTTP requests a second, all kinds
    together; websockets: open at once; echo_every: seconds between two texts of one WebSocket; timeout: seconds for
    one whole request, handshake or echo.
    """

    base_url: str
    log: str
    host: str = ""
    seconds: float = 6 * 3600
    rate: float = 40
    websockets: int = 10
    echo_every: float = 0.2
    timeout: float = 60

    def __post_init__(self) -> None:
        """Refuse settings that could harm another machine or never end."""
        url = urlsplit(self.base_url)
        if url.scheme != "http" or url.path not in ("", "/"):
            raise ValueError(f"base_url must be http://<address>:<port>, not {self.base_url}")
        if not ipaddress.ip_address(url.hostname or "").is_private:
            raise ValueError(f"load is sent to loopback and private addresses only, not to {url.hostname}")
        for name, least, most in (
            ("seconds", 0.1, 6 * 3600),
            ("rate", 0, 500),
            ("websockets", 0, 500),
            ("echo_every", 0.02, 60),
            ("timeout", 0.1, 120),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be between {least} and {most}, not {getattr(self, name)}")

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect: (address, port)."""
        url = urlsplit(self.base_url)
        return url.hostname or "", url.port or 80

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        return self.host or urlsplit(self.base_url).netloc


@dataclass(slots=True)
class Exchange:
    """One request, WebSocket handshake or WebSocket text, with its outcome.

    kind: get, post, stream, handshake, echo, or message (an unexpected WebSocket text)
    number: the running number of the request, or that of the WebSocket client
    started: seconds since 1970; seconds: until the outcome; head: until the response head (None = never received)
    release: X-Release of the response, of the handshake for an echo ("" = none)
    failure: "" = success, else one of
        connect_refused, connect_failed, reset, closed (before the response), stale_reuse (closed or reset before any
        byte of the response to a GET on a kept-alive connection: a browser would retry), truncated, malformed,
        status_<code>, timeout, wrong_body;
        for an echo also crossed (unanswered when an orderly close arrived) and cut (unanswered when the connection
        ended otherwise)
    reused: on a kept-alive connection; down: for a handshake, seconds since this client's last WebSocket was closed
    """

    kind: str
    number: int
    started: float
    seconds: float = 0.0
    head: float | None = None
    release: str = ""
    failure: str = ""
    detail: str = ""
    reused: bool = False
    down: float | None = None

    @property
    def ended(self) -> float:
        """When the outcome was known, in seconds since 1970."""
        return self.started + self.seconds

    def __str__(self) -> str:
        """Return one sentence for a person."""
        answered = f"answered by {self.release}" if self.release else "answered by nobody"
        return (
            f"{self.kind} {self.number} begun {clock(self.started)}, {answered}: {self.failure or 'fine'} "
            f"after {self.seconds:.3f} s ({self.detail or 'no detail'})"
        )


@dataclass(slots=True)
class Close:
    """A WebSocket that ended before the generator closed it.

    at and opened: seconds since 1970; code: 1006 = without a close frame; release: the one it was connected to;
    given_up: the generator dropped it because nothing arrived for `timeout` seconds
    """

    number: int
    at: float
    opened: float
    code: int
    reason: str = ""
    release: str = ""
    given_up: bool = False

    @property
    def age(self) -> float:
        """How long the WebSocket was open, in seconds."""
        return self.at - self.opened

    def __str__(self) -> str:
        """Return one sentence for a person."""
        who = "given up by the generator" if self.given_up else "closed"
        return (
            f"WebSocket {self.number} to {self.release or 'an unnamed release'} {who} {clock(self.at)} "
            f"at the age of {self.age:.3f} s: {self.code} {self.reason}".rstrip()
        )


@dataclass(slots=True)
class Window:
    """A named span of time; end is None while it is open. Seconds since 1970."""

    name: str
    begin: float
    end: float | None = None


def to_event(record: Exchange | Close) -> dict:
    """Return a record as a dictionary for one line of the log, without fields at their default."""
    event = {"event": type(record).__name__.lower()}
    for field in fields(record):
        value = getattr(record, field.name)
        if value != field.default:
            event[field.name] = round(value, 6) if isinstance(value, float) else value
    return event
