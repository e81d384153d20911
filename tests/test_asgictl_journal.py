"""The journal's last lines, by a journalctl that cuts as the one of each Debian does."""

import sys
from pathlib import Path

import pytest
from asgictl import systemd

# systemd 252 (Debian 12) prints the first lines of --lines where there is --since, systemd 257 (Debian 13) the last ones.
JOURNALCTL = """#!{python}
import sys
if "--sync" not in sys.argv:
    lines = open({log!r}).read().splitlines()
    wanted = next((int(word.partition("=")[2]) for word in sys.argv if word.startswith("--lines=")), None)
    if wanted is not None:
        lines = lines[:wanted] if {first} and any(word.startswith("--since=") for word in sys.argv) else lines[-wanted:]
    print("\\n".join(lines))
"""


@pytest.fixture(params=[True, False], ids=["systemd 252", "systemd 257"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with what the journal holds."""
    log, program = tmp_path / "log", tmp_path / "journalctl"
    program.write_text(JOURNALCTL.format(python=sys.executable, log=str(log), first=request.param))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return log


def test_a_failed_start_shows_its_last_lines(log: Path) -> None:
    log.write_text("".join(f"line {number}\n" for number in range(100)) + "ValueError: the reason\n")
    shown = systemd.journal("shop@1.service", since=1.0).splitlines()
    assert shown[-1] == "ValueError: the reason"
    assert shown[0] == "line 71"
    assert len(shown) == 30


def test_what_a_service_has_said_may_be_large(log: Path) -> None:
    log.write_text("x" * 100 + "\n" + "y\n" * 2_000_000 + "the end\n")
    assert systemd.journal("shop@1.service", lines=2, since=1.0) == "y\nthe end"


def test_an_empty_journal_is_an_empty_text(log: Path) -> None:
    log.write_text("")
    assert systemd.journal("shop@1.service") == ""
