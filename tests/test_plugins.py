"""The role's other plugins: the program's archive, the release's name, and the holders of locks."""

import io
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

KEY = "0123456789abcdef" * 2
Plugin = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def zipapp(plugin: Plugin) -> Callable[[Path], bytes]:
    """The function that packs a package."""
    return plugin("module_utils/zipapp.py").zipapp


@pytest.fixture(scope="module")
def release_name(plugin: Plugin) -> Callable[[object, dict, str], str]:
    """The filter that names a release."""
    return plugin("filter/django_asgi.py").FilterModule().filters()["release_name"]


@pytest.fixture(scope="module")
def caller(plugin: Plugin) -> ModuleType:
    """The action plugin that names the caller."""
    return plugin("action/asgictl.py")


def test_the_archive_is_the_same_bytes_from_another_copy(zipapp: Callable, role: Path, tmp_path: Path) -> None:
    copy = tmp_path / "asgictl"
    package = role / "files/asgictl"
    for file in sorted(package.rglob("*.py"), reverse=True):
        target = copy / file.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    (copy / "__pycache__").mkdir()
    (copy / "notes.txt").touch()
    packed = zipapp(copy)
    assert packed == zipapp(role / "files/asgictl")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_changed_file_is_another_archive(zipapp: Callable, tmp_path: Path) -> None:
    package = tmp_path / "program"
    package.mkdir()
    (package / "__main__.py").write_text("print('one')\n")
    one = zipapp(package)
    (package / "__main__.py").write_text("print('two')\n")
    assert zipapp(package) != one


def test_the_archive_runs(zipapp: Callable, role: Path, tmp_path: Path) -> None:
    program = tmp_path / "asgictl"
    program.write_bytes(zipapp(role / "files/asgictl"))
    program.chmod(0o755)
    assert program.read_bytes().startswith(b"#!/usr/bin/python3\n")
    ran = subprocess.run([sys.executable, "-I", program, "--help"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "asgictl rollback" in ran.stdout


def test_a_release_is_named_by_12_hexadecimal_digits(release_name: Callable) -> None:
    name = release_name(["digest", {"workers": 2}], {"PASSWORD": "horse"}, KEY)
    assert len(name) == 12
    assert int(name, 16) >= 0


def test_the_order_of_settings_does_not_change_the_name(release_name: Callable) -> None:
    one = release_name([{"a": 1, "b": {"c": 2, "d": 3}}], {"X": "1", "Y": "2"}, KEY)
    assert one == release_name([{"b": {"d": 3, "c": 2}, "a": 1}], {"Y": "2", "X": "1"}, KEY)


@pytest.mark.parametrize(
    ("parts", "secrets", "key"),
    [
        (["digest", {"workers": 3}], {"PASSWORD": "horse"}, KEY),
        (["other", {"workers": 2}], {"PASSWORD": "horse"}, KEY),
        ([{"workers": 2}, "digest"], {"PASSWORD": "horse"}, KEY),
        (["digest", {"workers": "2"}], {"PASSWORD": "horse"}, KEY),
        (["digest", {"workers": 2}], {"PASSWORD": "horses"}, KEY),
        (["digest", {"workers": 2}], {"PASSPHRASE": "horse"}, KEY),
        (["digest", {"workers": 2}], {}, KEY),
        (["digest", {"workers": 2}], {"PASSWORD": "horse"}, KEY[::-1]),
    ],
)
def test_every_part_secret_and_key_changes_the_name(release_name: Callable, parts: list, secrets: dict, key: str) -> None:
    assert release_name(parts, secrets, key) != release_name(["digest", {"workers": 2}], {"PASSWORD": "horse"}, KEY)


def test_a_warning_names_its_hosts_unless_all_have_found_it(plugin: Plugin) -> None:
    deploy_warnings = plugin("filter/django_asgi.py").FilterModule().filters()["deploy_warnings"]
    staged = {"web1": {"findings": ["DEBUG is on.", "Both."]}, "web2": {"findings": ["Both."]}}
    assert deploy_warnings(["The source has changes."], staged) == ["The source has changes.", "web1: DEBUG is on.", "Both."]
    assert deploy_warnings([], {"web1": {}, "web2": {}}) == []
    assert deploy_warnings(["DEBUG is on."], {}, ["'warm' failed."]) == ["DEBUG is on.", "'warm' failed."]


def test_a_process_that_runs_is_not_dead(caller: ModuleType) -> None:
    running = subprocess.Popen(["sleep", "60"])
    token = caller.token_of(running.pid)
    assert not caller.is_dead(token)
    running.kill()
    running.wait()
    assert caller.is_dead(token)


def test_a_process_id_that_was_given_to_another_process_is_dead(caller: ModuleType) -> None:
    running = subprocess.Popen(["sleep", "60"])
    machine, boot, pid, started = caller.token_of(running.pid).split("/")
    assert caller.is_dead(f"{machine}/{boot}/{pid}/{int(started) - 1}")
    running.kill()
    running.wait()


def test_of_another_machine_or_another_boot_nothing_is_known(caller: ModuleType) -> None:
    machine, boot, _pid, _started = caller.token_of(1).split("/")
    assert not caller.is_dead(f"elsewhere/{boot}/999999999/1")
    assert not caller.is_dead(f"{machine}/00000000/999999999/1")


def test_a_process_of_a_container_is_not_dead_for_another_one(caller: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers may share the name and the boot of their machine, and each has its own process numbers."""
    token = f"{caller.machine()}/999999999/1"
    assert caller.is_dead(token)
    monkeypatch.setattr(caller.Path, "readlink", lambda _path: Path("pid:[42]"))
    assert not caller.is_dead(token)


@pytest.mark.parametrize("token", ["", "operator@host:123:456.7", "a/b", "a/b/c/d"])
def test_a_token_of_another_kind_is_not_dead(caller: ModuleType, token: str) -> None:
    assert not caller.is_dead(token)


# --- The fleet ------------------------------------------------------------------------------------------------------
def reported(live: str = "b", *order: str, previous: str | None = "a", serves: bool = True, leader: bool = False) -> dict:
    """Return what a host reports; short names are enough here."""
    return {"live": live, "order": list(order or ("a", "b")), "previous": previous, "serves": serves, "leader": leader}


@pytest.mark.parametrize(
    ("fleet", "releases", "leader", "behind"),
    [
        ({"web1": reported(), "web2": reported()}, {"web1": "b", "web2": "b"}, "", []),
        ({"web1": reported(), "web2": reported()}, {"web1": "b", "web2": "c"}, "", ["web2"]),
        ({"web1": reported("b"), "web2": reported("c")}, {"web1": "b", "web2": "c"}, "", []),
        ({"web1": reported(), "web2": reported(serves=False)}, {"web1": "b", "web2": "b"}, "", ["web2"]),
        ({"web1": reported(leader=True), "web2": reported()}, {"web1": "b", "web2": "b"}, "web1", []),
        ({"web1": reported(leader=True), "web2": reported()}, {"web1": "b", "web2": "b"}, "web2", ["web1", "web2"]),
    ],
    ids=["all-is-done", "another-release", "hosts-that-differ", "one-is-down", "leader-is-there", "leader-moves"],
)
def test_hosts_are_behind_with_another_release_or_leader(plugin: Callable, fleet, releases, leader, behind) -> None:
    assert plugin("filter/django_asgi.py").hosts_behind(fleet, releases, leader) == behind


@pytest.mark.parametrize(
    ("fleet", "wanted", "release", "fault"),
    [
        ({"web1": reported(), "web2": reported()}, "", "a", ""),
        ({"web1": reported("c", "a1", "b", "c"), "web2": reported("c", "a1", "c")}, "a", "a1", ""),
        (
            {"web1": reported(), "web2": reported("b", "b")},
            "a",
            "",
            "No single release that begins with a has been live on web2. web1 has: a, b.",
        ),
        ({"web1": reported("c", "a1", "a2", "c")}, "a", "", "No single release that begins with a has been live on web1"),
        ({"web1": reported("b", "b", previous=None)}, "", "", "No host has a release before the live one. web1 has: b."),
        (
            {"web1": reported(), "web2": reported("b", "b", previous=None)},
            "",
            "",
            "The hosts do not agree on the release before the live one: web1 would return to a; web2 would return to none.",
        ),
    ],
    ids=["agreed", "named", "missing", "ambiguous", "first", "disagreement"],
)
def test_the_fleet_goes_back_to_one_release_or_none(plugin: Callable, fleet, wanted, release, fault) -> None:
    found = plugin("filter/django_asgi.py").way_back(fleet, wanted)
    assert found["release"] == release
    assert found["fault"].startswith(fault)
    assert bool(found["fault"]) != bool(release)


@pytest.mark.parametrize(
    ("fleet", "key"),
    [
        ([("", None)], ""),
        ([("aa", None), ("bb", None)], "aa"),
        ([("aa", None), ("bb", "0123456789ab"), ("cc", "0123456789ab")], "bb"),
        ([("", None), ("bb", None)], "bb"),
    ],
)
def test_the_key_of_the_first_host_with_a_release_names_the_fleets_releases(plugin: Plugin, fleet: list, key: str) -> None:
    hosts = {f"web{number}": {"key": own, "live": live} for number, (own, live) in enumerate(fleet)}
    assert plugin("filter/django_asgi.py").fleet_key(hosts) == key


def test_a_package_counts_as_installed_only_when_dpkg_says_so(plugin: Plugin) -> None:
    output = "openssl installed\ncertbot config-files\nnginx half-installed\n"
    assert plugin("action/packages.py").installed(output) == {"openssl"}


def test_a_package_that_the_hosts_sources_lack_is_reported_with_what_to_do(plugin: Plugin) -> None:
    explained = plugin("action/packages.py").explained
    assert explained("No package matching 'valkey-server' is available", "set redis_server_flavour to redis") == (
        "This host's package sources have no valkey-server: set redis_server_flavour to redis, or enable a source that has it, such"
        " as Ubuntu's universe."
    )
    assert explained("No package matching 'mtail' is available", "").endswith(
        "no mtail: enable a source that has it, such as Ubuntu's universe."
    )
    assert explained("dpkg was interrupted", "wait") == "dpkg was interrupted"


# --- What runs beside the web service -------------------------------------------------------------------------------
PROGRAMS = "/opt/shop/releases/%i/venv/bin"
NO_CELERY = {"app": ""}


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("manage.py runworker mail", f"{PROGRAMS}/python manage.py runworker mail"),
        ("dramatiq tasks --processes 2", f"{PROGRAMS}/dramatiq tasks --processes 2"),
        ("/usr/bin/env true", "/usr/bin/env true"),
        ("rq worker 'two words' 100% $HOME", f'{PROGRAMS}/rq worker "two words" 100%% "$$HOME"'),
        (r'huey "a \"quote\" and a \\"', rf'{PROGRAMS}/huey "a \"quote\" and a \\"'),
    ],
)
def test_a_command_reaches_its_program_as_it_is_written(plugin: Callable, command: str, line: str) -> None:
    (job,) = plugin("filter/django_asgi.py").jobs([{"name": "a", "command": command}], [], PROGRAMS, NO_CELERY)
    assert job["command"] == line


def test_several_processes_of_a_kind_are_numbered(plugin: Callable) -> None:
    processes = [
        {"name": "mail", "command": "x", "number": "2", "stop_seconds": 5},
        {"name": "bot", "command": "x", "hosts": "one"},
    ]
    found = plugin("filter/django_asgi.py").jobs(processes, [], PROGRAMS, NO_CELERY)
    assert [(job["name"], job["on"], job["stop_seconds"]) for job in found] == [
        ("mail-1", "all", 5),
        ("mail-2", "all", 5),
        ("bot", "one", 30),
    ]


@pytest.mark.parametrize(("queues", "expected"), [([], False), (["mail", "slow"], True)])
def test_celery_is_two_jobs_and_gets_queues_only_if_they_are_named(plugin: Callable, queues: list[str], expected: bool) -> None:
    celery = {"app": "config", "name": "shop", "concurrency": 2, "queues": queues, "stop_seconds": 60, "log_level": "info"}
    worker, beat = plugin("filter/django_asgi.py").jobs([], [], PROGRAMS, celery | {"beat": True})
    assert (worker["name"], worker["on"], beat["name"], beat["on"]) == ("celery", "all", "beat", "one")
    assert (" --queues mail,slow " in worker["command"]) == expected
    assert len(plugin("filter/django_asgi.py").jobs([], [], PROGRAMS, celery | {"beat": False})) == 1


# --- Progress of a long step ----------------------------------------------------------------------------------------
def test_the_lines_of_a_long_step_are_shown_as_they_come_and_silence_is_broken(plugin: Callable, monkeypatch) -> None:
    module, shown, report, clock = plugin("module_utils/progress.py"), [], [""], [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    progress = module.Progress(lambda offset: report[0].encode()[offset:].decode(), shown.append)
    report[0] = "unpack …\nunpack: 0.4 s\nenviron"
    progress.poll()
    assert shown == ["unpack …", "unpack: 0.4 s"], "a line that is half written waits"
    report[0] += "ment …\n"
    progress.poll()
    assert shown[2:] == ["environment …"]
    clock[0] = 7
    progress.poll()
    assert len(shown) == 3
    clock[0] = 9
    progress.poll()
    assert shown[3:] == ["environment, for 9 s now"]


def test_a_long_command_shows_its_begin_a_sign_of_life_and_its_seconds_even_if_it_fails(plugin: Callable, monkeypatch) -> None:
    module, shown, alive = plugin("module_utils/progress.py"), [], threading.Event()
    for name in ("SILENT_SECONDS", "POLL_SECONDS", "MOST_SILENT_SECONDS"):
        monkeypatch.setattr(module, name, 0.01)

    def show(line: str) -> None:
        shown.append(line)
        if " now" in line:
            alive.set()

    with pytest.raises(OSError), module.announced("backup", show):
        assert shown == ["backup …"]
        assert alive.wait(60)
        raise OSError
    assert shown[1] == "backup, for 0 s now"
    assert re.fullmatch(r"backup: \d+\.\d s", shown[-1])


def test_a_report_that_cannot_be_read_ends_the_progress_and_not_the_step(plugin: Callable, monkeypatch) -> None:
    module, shown, told = plugin("module_utils/progress.py"), [], threading.Event()
    monkeypatch.setattr(module, "SILENT_SECONDS", 0)

    def read(_offset: int) -> str:
        raise OSError("no route to host")

    def show(line: str) -> None:
        shown.append(line)
        told.set()

    with module.Progress(read, show).while_running():
        assert told.wait(60)
    assert shown == ["(no progress is shown: no route to host)"]
