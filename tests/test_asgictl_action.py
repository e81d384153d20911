"""The action that carries out a step: what reaches the host's asgictl, and what becomes of its answer."""

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from ansible.utils.display import Display

ROLE = Path(__file__).resolve().parents[1] / "roles/django_asgi"
Plugin = Callable[[str], ModuleType]


class Host:
    """A host in a directory, whose shell runs here; `ran` has each command that it got, `inputs` what came with it."""

    def __init__(self, directory: Path) -> None:
        self.program = directory / "asgictl"
        self.ran: list[str] = []
        self.inputs: list[bytes] = []

    def execute(self, command: str, in_data: bytes | None = None) -> dict:
        """Run a command as Ansible does."""
        self.ran.append(command)
        self.inputs.append(in_data or b"")
        done = subprocess.run(["sh", "-c", command], input=in_data or b"", capture_output=True, check=False)
        output, errors = done.stdout.decode(), done.stderr.decode()
        return {
            "rc": done.returncode,
            "stdout": output,
            "stdout_lines": output.splitlines(),
            "stderr": errors,
            "stderr_lines": errors.splitlines(),
        }

    def says(self, text: str, code: int = 0) -> None:
        """Let asgictl print `text` and exit with `code`."""
        self.program.write_text(f"#!/bin/sh\ncat >/dev/null\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        self.program.chmod(0o755)

    def request(self) -> tuple[dict, bytes]:
        """Return the last request and what followed it."""
        length, _, rest = self.inputs[-1].partition(b"\n")
        return json.loads(rest[: int(length)]), rest[int(length) :]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose asgictl answers that nothing has changed."""
    host = Host(tmp_path)
    host.says('{"changed": false}')
    return host


@pytest.fixture
def step(plugin: Plugin, host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Carry out a step; return the task's result."""
    module = plugin("action/asgictl.py")
    monkeypatch.setattr(module, "PROGRAM", str(host.program))
    monkeypatch.setattr(module, "token_of", lambda _pid: "t")

    def run(check: bool = False, **arguments: object) -> dict:
        action = object.__new__(module.ActionModule)
        action._task = SimpleNamespace(args={"app": "shop", **arguments}, check_mode=check, async_val=0, environment=None)
        action._connection = SimpleNamespace(exec_command=lambda *_, **__: (1, b"", b""))
        action._low_level_execute_command = host.execute
        monkeypatch.setattr(module.ActionBase, "run", lambda *_: {})
        return action.run(None, {"inventory_hostname": "web1"})

    return run


def test_the_step_its_arguments_and_the_token_reach_asgictl(step: Callable, host: Host) -> None:
    assert step(do="ready", arguments={"release": "a" * 12}) == {"changed": False}
    assert host.request() == ({"do": "ready", "release": "a" * 12, "token": "t"}, b"")
    assert "--app shop call" in host.ran[-1]


def test_secrets_and_key_are_put_into_the_order_and_the_bundle_follows(step: Callable, host: Host, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"\0tar\n")
    order = {"arguments": {"order": {"release": "r"}}, "secrets": {"A": "hidden"}, "key": "k"}
    step(do="stage", bundle=str(tmp_path / "bundle"), **order)
    request, bundle = host.request()
    assert request["order"] == {"release": "r", "secrets": {"A": "hidden"}, "key": "k", "bundle": "-"}
    assert bundle == b"\0tar\n"
    step(do="stage", **order)
    assert host.request()[0]["order"]["bundle"] is None


def test_nothing_that_was_sent_is_in_a_command_or_in_the_result(step: Callable, host: Host) -> None:
    order = {"release": "r", "uv_environment": {"UV_INDEX_PASSWORD": "hidden"}}
    result = step(do="stage", arguments={"order": order}, secrets={"A": "hidden"}, key="hidden")
    assert "hidden" not in f"{result} {host.ran}"


def test_what_could_not_be_finished_is_a_warning(step: Callable, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    warned = []
    monkeypatch.setattr(Display, "warning", lambda _self, text: warned.append(text))
    host.says('{"changed": true, "warnings": ["The history can not be written."]}')
    assert step(do="commit") == {"changed": True}
    assert warned == ["The history can not be written."]


@pytest.mark.parametrize("do", ["facts", "status"])
def test_what_only_reads_has_no_token_and_runs_in_check_mode(step: Callable, host: Host, do: str) -> None:
    step(do=do, check=True)
    assert host.request()[0] == {"do": do}


@pytest.mark.parametrize("do", ["begin", "stage", "migrate", "ready", "switch", "commit", "abort", "remove"])
def test_in_check_mode_what_changes_is_not_run(step: Callable, host: Host, do: str) -> None:
    assert step(do=do, check=True) == {"changed": True}
    assert not host.ran


def test_a_host_without_asgictl_has_nothing_in_check_mode_and_is_refused_otherwise(step: Callable, host: Host) -> None:
    host.program.unlink()
    there = step(do="facts", check=True)
    assert (there["live"], there["previous"], there["order"], there["serves"]) == (None, None, [], False)
    result = step(do="ready")
    assert result["failed"]
    assert "run playbooks/deploy.yml first" in result["msg"]


def test_what_asgictl_refuses_fails_with_the_sentence_first_and_details_after(step: Callable, host: Host) -> None:
    host.says(json.dumps({"failed": True, "msg": "The gate said no.", "details": "Traceback", "locked": {"token": "x"}}), 1)
    assert step(do="ready") == {
        "failed": True,
        "msg": "The gate said no.\nTraceback",
        "locked": {"token": "x"},
    }


def test_a_traceback_of_asgictl_is_a_failure_that_names_the_step(step: Callable, host: Host) -> None:
    host.says("Traceback (most recent call last):\nKeyError: 'x'", 1)
    result = step(do="ready")
    assert result["failed"]
    assert result["msg"].splitlines()[0] == "asgictl stopped in the step ready: KeyError: 'x'"


def test_a_dead_deploys_lock_is_taken_over(step: Callable, host: Host, plugin: Plugin) -> None:
    dead = f"{plugin('action/asgictl.py').machine()}/999999999/1"
    host.says(json.dumps({"failed": True, "msg": "It is held.", "locked": {"token": dead}}), 1)
    step(do="begin", arguments={"release": "r"})
    assert host.request()[0]["takeover"] == dead


# --- The program ----------------------------------------------------------------------------------------------------
@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A program that answers with the version in it, and compiles itself as asgictl does."""
    package = tmp_path / "source/program"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "version.py").write_text("version = 1\n")
    (package / "compiled.py").write_text((ROLE / "files/asgictl/compiled.py").read_text())
    (package / "__main__.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom program import compiled, version\n"
        "if sys.argv[1] == 'compile':\n    compiled.compile_archive(Path(sys.argv[0]), sys.argv[2])\n"
        "else:\n    sys.stdin.read()\n"
        '    print(\'{"changed": false, "version": %d, "from": "%s"}\' % (version.version, version.__cached__))\n'
    )
    return package


def test_the_host_gets_the_controllers_program_once(step: Callable, host: Host, package: Path) -> None:
    host.program.unlink()
    first, second = (step(do="facts", install=str(package)) for _ in range(2))
    assert (first["changed"], first["version"]) == (True, 1)
    assert not second["changed"]
    assert len(host.ran) == 4, "tried, installed, called; then called"
    assert host.program.stat().st_mode & 0o777 == 0o755
    (package / "version.py").write_text("version = 2\n")
    third = step(do="facts", install=str(package))
    assert (third["changed"], third["version"]) == (True, 2)
    assert {file.name for file in host.program.parent.iterdir()} == {"asgictl", "source"}, "nothing temporary is left"


def test_in_check_mode_the_host_keeps_its_program(step: Callable, host: Host, package: Path) -> None:
    step(do="facts", install=str(package))
    (package / "version.py").write_text("version = 2\n")
    result = step(do="facts", install=str(package), check=True)
    assert (result["changed"], result["version"]) == (True, 1)
    host.program.unlink()
    assert step(do="facts", install=str(package), check=True)["live"] is None


def test_a_host_that_cannot_take_the_program_says_why(step: Callable, host: Host, package: Path) -> None:
    host.program.unlink()
    (package / "compiled.py").write_text("raise SystemExit('No space left on device')\n")
    with pytest.raises(Exception, match="can't be written on this host: No space left on device"):
        step(do="facts", install=str(package))
    assert [file.name for file in host.program.parent.iterdir()] == ["source"]


def test_the_installed_program_is_not_compiled_at_each_start(role: Path, plugin: Plugin, tmp_path: Path) -> None:
    program = tmp_path / "asgictl"
    program.write_bytes(plugin("module_utils/zipapp.py").zipapp(role / "files/asgictl"))
    subprocess.run([sys.executable, program, "compile", "d" * 64], check=True)
    assert program.read_bytes().endswith(b"d" * 64)
    entries = zipfile.ZipFile(io.BytesIO(program.read_bytes()))
    with zipfile.ZipFile(program, "w") as archive:
        for name in entries.namelist():
            archive.writestr(name, b"raise SystemExit('compiled again')" if name.endswith(".py") else entries.read(name))
    ran = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, check=True)
    assert "asgictl rollback" in ran.stdout


# --- Its input and output ---------------------------------------------------------------------------------------------
CALL = """
import json, sys
sys.path.insert(0, {files!r})
from asgictl import as_app, cli
cli.call = lambda app, request: {work}
sys.argv = ["asgictl", "--app", "shop", "call"]
sys.exit(cli.main())
"""


def call(role: Path, work: str, **options: object) -> subprocess.Popen:
    """Start asgictl's `call` with `work`, an expression, in place of the step."""
    program = CALL.format(files=str(role / "files"), work=work)
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, **options)


def test_a_bundle_is_left_for_the_step_to_read(role: Path) -> None:
    work = "{'request': request, 'bundle': len(__import__('subprocess').run(['cat'], capture_output=True).stdout)}"
    request, bundle = b'{"do": "stage"}', bytes(3_000_000)
    with call(role, work, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(b"%d\n%s%s" % (len(request), request, bundle), timeout=60)
    assert json.loads(output) == {"request": {"do": "stage"}, "bundle": 3_000_000}


def test_a_refusal_arrives_although_the_bundle_was_not_read(role: Path) -> None:
    work = "(_ for _ in ()).throw(cli.Refused('It is held.'))"
    request, bundle = b'{"do": "stage"}', bytes(3_000_000)
    with call(role, work, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(b"%d\n%s%s" % (len(request), request, bundle), timeout=60)
    assert process.returncode == 1
    assert json.loads(output)["msg"] == "It is held."


@pytest.mark.parametrize("reader", [True, False], ids=["controller-waits", "controller-has-gone"])
def test_a_step_ends_when_nobody_waits_for_its_answer(role: Path, tmp_path: Path, reader: bool) -> None:
    work = f"__import__('pathlib').Path({str(tmp_path)!r}, 'began').touch() or __import__('time').sleep(3600)"
    process = call(role, work, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        process.stdin.write(b'15\n{"do": "ready"}')
        process.stdin.close()
        deadline = time.monotonic() + 60
        while not (tmp_path / "began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if reader:
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        else:
            process.stdout.close()
        assert b"asgictl was interrupted (SIGTERM)" in process.stderr.read()
        assert process.wait(60) == 1
