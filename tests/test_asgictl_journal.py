"""What asgictl reads from a journal, with a fake journalctl."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.systemd import Instance, journal

# Shows what was synced, as systemd 252 does: with --since, --lines counts from the beginning.
JOURNALCTL = """#!PYTHON
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("matches", nargs="*")
for name in ("--sync", "--no-pager", "--quiet", "--all"):
    parser.add_argument(name, action="store_true")
for name in ("--output", "--output-fields", "--unit", "--since", "--lines"):
    parser.add_argument(name)
options = parser.parse_args()
given, stored = (pathlib.Path(__file__).with_name(name) for name in ("given", "stored"))
if options.sync:
    given.replace(stored)
    raise SystemExit
entries = [json.loads(line) for line in stored.read_text().splitlines()]
if options.unit:
    options.matches = [f"_SYSTEMD_UNIT={options.unit}"]
wanted = [dict(match.split("=", 1) for match in group.split()) for group in " ".join(options.matches).split(" + ")]
entries = [entry for entry in entries if any(group.items() <= entry.items() for group in wanted)]
if options.since:
    since = float(options.since.removeprefix("@")) * 1e6
    entries = [entry for entry in entries if int(entry["__REALTIME_TIMESTAMP"]) >= since][: int(options.lines)]
for entry in entries[-int(options.lines) :]:
    print(json.dumps(entry, ensure_ascii=False) if options.output == "json" else entry["MESSAGE"])
"""

# A unit whose next attempt begins as soon as somebody has seen that one failed.
SYSTEMCTL = """#!/bin/sh
[ "$1" != show ] || { printf 'ActiveState=activating\\n'; cat "$0.attempt"; printf 'SubState=start\\nInvocationID=two\\n' > "$0.attempt"; }
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that logs messages, a millisecond apart from `when` on, and the journalctl that shows them."""
    (tmp_path / "journalctl").write_text(JOURNALCTL.replace("PYTHON", sys.executable, 1))
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def log(messages: Iterable[object], when: float, **fields: str) -> None:
        with (tmp_path / "given").open("a") as file:
            for number, message in enumerate(messages):
                entry = {"__REALTIME_TIMESTAMP": f"{when * 1e6 + 1000 * number:.0f}", "MESSAGE": message}
                file.write(json.dumps(entry | {"_SYSTEMD_UNIT": "shop@1.service"} | fields) + "\n")

    return log


def test_the_last_messages_are_read_however_many_came_before_them(log: Callable[..., None]) -> None:
    now = time.time()
    log((f"frame {number}" for number in range(500)), now)
    log(["RuntimeError: the reason"], now + 1)
    log(["another unit's"], now + 2, _SYSTEMD_UNIT="shop@2.service")
    last = [*(f"frame {number}" for number in range(401, 500)), "RuntimeError: the reason"]
    assert journal("shop@1.service", since=now).splitlines() == last
    assert journal("shop@1.service", lines=1) == "RuntimeError: the reason"


def test_what_an_earlier_attempt_has_said_is_left_out(log: Callable[..., None]) -> None:
    now = time.time()
    log(["the former reason"], now - 0.1)
    log(["the reason"], now + 0.1)
    assert journal("shop@1.service", since=now) == "the reason"
    assert journal("shop@1.service") == "the former reason\nthe reason"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("two\nlines", "two\nlines"),
        ("one\u2028line\x85", "one\u2028line\x85"),
        ([*b"\xff\xc3\xbc\x1b[31m"], "\N{REPLACEMENT CHARACTER}ü\x1b[31m"),
        (["said", [*b"twice"]], "said\ntwice"),
        ("x" * 100_000, "x" * 100_000),
        (None, ""),
    ],
)
def test_whatever_a_message_is_made_of_it_is_text(log: Callable[..., None], message: object, text: str) -> None:
    log([message, "the reason"], time.time())
    assert journal("shop@1.service") == f"{text}\nthe reason".strip()


def test_a_unit_that_said_nothing_has_no_last_messages(log: Callable[..., None]) -> None:
    log([], time.time())
    assert journal("shop@1.service", since=time.time()) == ""


def test_of_a_failed_start_its_own_messages_are_shown_and_not_the_next_ones(
    app: App, log: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "systemctl.attempt").write_text("SubState=auto-restart\nInvocationID=one\n")
    now = time.time()
    log(["RuntimeError: the reason"], now + 1, _SYSTEMD_INVOCATION_ID="one")
    log(["Failed with result 'exit-code'."], now + 2, _PID="1", INVOCATION_ID="one", _SYSTEMD_UNIT="init.scope")
    log((f"the next attempt's frame {number}" for number in range(40)), now + 3, _SYSTEMD_INVOCATION_ID="two")
    with pytest.raises(Refused, match="did not start") as refused:
        Instance(app, "1").start(timeout=20)
    assert refused.value.details.splitlines() == ["RuntimeError: the reason", "Failed with result 'exit-code'."]
