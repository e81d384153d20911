"""The app's programs: limited in time, and killed with everything that they have started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from asgictl.app import App
from asgictl.as_app import as_app
from asgictl.errors import Refused

# A wait that takes longer than these seconds is a hang.
PATIENCE = 60
FILES = Path(__file__).resolve().parents[1] / "roles/django_asgi/files"
STRAGGLER = "(sleep 600 & echo $! >child); echo started"


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(file: Path) -> None:
    """Wait until the process whose number is in the file has ended."""
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and file.read_text().strip() and gone(int(file.read_text()))):
        assert time.monotonic() < deadline, f"{file.name} still runs"
        time.sleep(0.05)


def test_a_program_has_its_directory_environment_input_and_output(app: App, tmp_path: Path) -> None:
    result = as_app(
        app, ["/bin/sh", "-c", "cat; pwd; echo $COLOUR >&2; exit 3"], cwd=tmp_path, env={"COLOUR": "blue"}, stdin="in\n"
    )
    assert (result.returncode, result.stdout, result.stderr) == (3, f"in\n{tmp_path}\n", "blue\n")
    merged = as_app(app, ["/bin/sh", "-c", "echo out; echo err >&2"], cwd=tmp_path, env={}, merged=True)
    assert merged.stdout == "out\nerr\n"


def test_one_that_does_not_end_is_stopped_and_named_with_its_last_words(app: App, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        as_app(app, ["/bin/sh", "-c", f"echo $$ >own; {STRAGGLER}; sleep 600"], cwd=tmp_path, env={"PATH": "/bin"}, seconds=0.5)
    assert "did not end within 0.5 s and was stopped; django_asgi_program_seconds" in str(refused.value)
    assert refused.value.details == "started"
    wait_until_gone(tmp_path / "own")
    wait_until_gone(tmp_path / "child")


def test_the_hosts_policy_sets_the_limit(app: App, tmp_path: Path) -> None:
    app.policy_file.write_text('{"program_seconds": 0.3}')
    with pytest.raises(Refused, match=r"within 0\.3 s"):
        as_app(app, ["/bin/sleep", "600"], cwd=tmp_path, env={})


def test_what_a_program_leaves_running_is_killed(app: App, tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "(sleep 600 >/dev/null 2>&1 & echo $! >child)"]
    assert as_app(app, command, cwd=tmp_path, env={"PATH": "/bin"}).returncode == 0
    wait_until_gone(tmp_path / "child")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_program_ends_with_whoever_asked_for_it(app: App, tmp_path: Path, number: signal.Signals) -> None:
    """Programs in threads too, where no signal arrives."""
    program = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path.insert(0, {str(FILES)!r})
import os
os.geteuid = lambda: 1000
from asgictl.app import App
from asgictl.as_app import as_app, end_with_caller
end_with_caller()
with ThreadPoolExecutor() as pool:
    command = ["/bin/sh", "-c", {STRAGGLER + "; echo $$ >own; sleep 600"!r}]
    pool.submit(as_app, App("shop", Path({str(app.root)!r})), command, cwd=Path({str(tmp_path)!r}), env={{"PATH": "/bin"}}).result()
"""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as caller:
        deadline = time.monotonic() + PATIENCE
        while not ((tmp_path / "own").exists() and (tmp_path / "own").read_text()):
            assert time.monotonic() < deadline
            assert caller.poll() is None, caller.stderr.read()
            time.sleep(0.05)
        os.kill(caller.pid, number)
        assert f"asgictl was interrupted ({number.name})." in caller.communicate(timeout=PATIENCE)[1]
    wait_until_gone(tmp_path / "own")
    wait_until_gone(tmp_path / "child")
