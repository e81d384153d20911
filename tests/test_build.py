"""Building a source: in a clean copy, once for equal inputs, within its time, and with words for each failure."""

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.django_asgi.site.plugins.module_utils import build as builds
from ansible_collections.django_asgi.site.plugins.module_utils.build import Build, user_cache
from ansible_collections.django_asgi.site.plugins.module_utils.requirements import Unusable

# A wait that takes longer than these seconds is a hang.
PATIENCE = 60
FILES = {
    "manage.py": "",
    "requirements.txt": "django==5.2.8 --hash=sha256:00\n",
    "package.json": "{}",
    "web/app.js": "let one = 1\n",
    ".gitignore": "dist/\n*.log\n",
    "debug.log": "not part of the source",
}
# Stands for npm: it counts how often it runs, outside the copy.
BUNDLER = """#!/bin/sh
echo run >>"$COUNTER"
mkdir -p dist node_modules/left web/node_modules
touch node_modules/left/pad.js web/node_modules/x.js
ln -s ../left node_modules/left/bin
tr a-z A-Z <web/app.js >dist/app.js
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a user whose cache directory is the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return user_cache() / "builds"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose script `bundler` makes dist/app.js from web/app.js."""
    directory = tmp_path / "project"
    for name, text in {**FILES, "bundler": BUNDLER}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / "bundler").chmod(0o755)
    return directory


@pytest.fixture
def bundle(plugin: Callable[[str], ModuleType], project: Path, tmp_path: Path) -> Callable[..., dict]:
    """Bundle the project after some commands; return what the action returns, and the bundle's texts by their path."""
    (tmp_path / "place").mkdir()
    module = plugin("action/bundle.py")

    def make(
        *commands: str, seconds: float = PATIENCE, excludes: tuple[str, ...] = ("node_modules",), **environment: str
    ) -> dict:
        variables = {"COUNTER": str(tmp_path / "counter"), **environment}
        build = Build(list(commands), variables, seconds, list(excludes))
        made = module.bundle(str(project), "HEAD", ".", "", tmp_path / "place", {}, build=build)
        with tarfile.open(made["path"]) as archive:
            texts = {entry.name: archive.extractfile(entry).read().decode() for entry in archive if entry.isfile()}
        return made | {"texts": texts}

    return make


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[], int]:
    """Return how often the bundler has run."""
    return lambda: len((tmp_path / "counter").read_text().splitlines())


def test_what_commands_leave_behind_is_bundled_even_if_git_ignores_it(bundle: Callable, project: Path) -> None:
    made = bundle(
        "./bundler", "sh -c 'rm web/app.js; echo changed >package.json; mkdir -p x/__pycache__; touch x/__pycache__/a.pyc'"
    )
    kept = set(FILES) - {"debug.log", "web/app.js"}
    assert set(made["texts"]) == kept | {"bundler", "dist/app.js"}
    assert set(made["sources"]) == set(made["texts"])
    assert made["texts"]["dist/app.js"] == "LET ONE = 1\n"
    assert made["texts"]["package.json"] == "changed\n"
    assert (project / "package.json").read_text() == "{}", "the source itself must stay as it is"
    assert not (project / "dist").exists()


def test_commands_see_a_clean_copy_of_the_source_and_no_shell_reads_them(bundle: Callable) -> None:
    made = bundle("sh -c 'ls -A >listing'", "cp package.json '$HOME; x'")
    assert made["texts"]["listing"].split() == sorted(
        [".gitignore", "bundler", "manage.py", "package.json", "requirements.txt", "web", "listing"]
    )
    assert made["texts"]["$HOME; x"] == "{}"


def test_without_commands_nothing_is_built(bundle: Callable, cache: Path) -> None:
    assert "dist/app.js" not in bundle()["texts"]
    assert not cache.exists()


def test_a_build_may_write_the_file_that_lists_the_packages(bundle: Callable, project: Path) -> None:
    (project / "requirements.txt").unlink()
    (project / "poetry.lock").touch()
    made = bundle("sh -c 'echo django==5.2.8 --hash=sha256:00 >requirements.txt'")
    assert (made["requirements"], made["requirements_kind"]) == ("requirements.txt", "hashed")


def test_commands_get_their_own_environment_and_little_else(bundle: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", "hunter2-the-secret")
    text = bundle("sh -c 'env >environment'", NODE_ENV="production")["texts"]["environment"]
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} <= {"PATH", "HOME", "LANG", "COUNTER", "NODE_ENV"}
    assert "NODE_ENV=production" in text


def test_equal_inputs_are_built_once(bundle: Callable, runs: Callable[[], int]) -> None:
    first, second = bundle("./bundler"), bundle("./bundler")
    assert first == second
    assert runs() == 1


@pytest.mark.parametrize("changed", ["a file", "a mode", "a command", "a variable", "what is left out"])
def test_any_other_input_is_built_again(bundle: Callable, runs: Callable[[], int], project: Path, changed: str) -> None:
    bundle("./bundler")
    if changed == "a file":
        (project / "web/app.js").write_text("let two = 2\n")
    if changed == "a mode":
        (project / "manage.py").chmod(0o755)
    commands = ["./bundler", "true"] if changed == "a command" else ["./bundler"]
    environment = {"NODE_ENV": "production"} if changed == "a variable" else {}
    excludes = ("node_modules", "left") if changed == "what is left out" else ("node_modules",)
    bundle(*commands, excludes=excludes, **environment)
    assert runs() == 2


def test_a_file_outside_the_source_is_no_input(bundle: Callable, runs: Callable[[], int], project: Path) -> None:
    bundle("./bundler")
    (project / "debug.log").write_text("another line")
    bundle("./bundler")
    assert runs() == 1


def test_named_directories_are_left_out_wherever_they_are(bundle: Callable) -> None:
    assert bundle("./bundler", excludes=("node_modules", "dist"))["texts"].keys() == {*FILES, "bundler"} - {"debug.log"}
    assert "web/node_modules/x.js" in bundle("./bundler", excludes=())["texts"]


def test_a_failure_names_the_command_its_code_its_last_lines_and_the_variable(bundle: Callable, cache: Path) -> None:
    command = "sh -c 'seq 30; echo token is s3cret-token; exit 7'"
    with pytest.raises(Unusable) as refused:
        bundle(command, "touch never", NPM_TOKEN="s3cret-token")
    sentence, *lines = str(refused.value).splitlines()
    assert sentence == f"'{command}' in django_asgi_build_commands failed with exit code 7 on this machine. Its last lines:"
    assert lines == [*map(str, range(12, 31)), "token is ********"]
    assert list(cache.iterdir()) == [], "a failed build must leave nothing behind"


def test_a_failed_build_is_tried_again(bundle: Callable, runs: Callable[[], int], project: Path, tmp_path: Path) -> None:
    command = f"sh -c './bundler; test -e {tmp_path}/registry-is-up'"
    with pytest.raises(Unusable, match=r"failed with exit code 1 .* It printed nothing"):
        bundle(command)
    (tmp_path / "registry-is-up").touch()
    assert "dist/app.js" in bundle(command)["texts"]
    assert runs() == 2


def test_a_program_that_is_not_there_is_named(bundle: Callable) -> None:
    with pytest.raises(
        Unusable, match=r"'no-such-npm ci' in django_asgi_build_commands can't be started .* No such file or directory"
    ):
        bundle("no-such-npm ci")


def test_one_that_was_killed_is_named_with_its_signal(bundle: Callable) -> None:
    with pytest.raises(Unusable, match="was killed by SIGKILL"):
        bundle("sh -c 'kill -9 $$'")


def test_on_the_limit_everything_that_a_command_has_started_is_killed(bundle: Callable, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"did not end within 0\.5 s, so .* django_asgi_build_seconds sets the limit") as refused:
        bundle(f"sh -c 'sleep 600 & echo $! >{tmp_path}/child; echo waiting; sleep 600'", seconds=0.5)
    assert str(refused.value).endswith("Its last lines:\nwaiting")
    wait_until_gone(int((tmp_path / "child").read_text()))


def test_what_a_command_leaves_running_is_killed_when_it_ends(bundle: Callable, tmp_path: Path) -> None:
    bundle(f"sh -c 'sleep 600 & echo $! >{tmp_path}/child'")
    wait_until_gone(int((tmp_path / "child").read_text()))


def wait_until_gone(process: int) -> None:
    """Wait until a process has ended; a zombie counts."""
    stat, deadline = Path(f"/proc/{process}/stat"), time.monotonic() + PATIENCE
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, f"process {process} still runs"


def test_all_commands_share_the_limit(bundle: Callable) -> None:
    with pytest.raises(Unusable, match="so 'sleep 599' was stopped"):
        bundle("sleep 0.3", "sleep 599", seconds=0.6)


def test_only_the_results_that_were_used_last_are_kept(bundle: Callable, runs: Callable[[], int], cache: Path) -> None:
    bundle("./bundler", NUMBER="0")
    (first,) = cache.iterdir()
    for number in range(1, builds.MOST_KEPT):
        bundle("./bundler", NUMBER=str(number))
    for age, entry in enumerate(sorted(cache.iterdir(), key=lambda entry: entry != first)):
        os.utime(entry, (1000 + age, 1000 + age))
    bundle("./bundler", NUMBER="0")
    bundle("./bundler", NUMBER="new")
    assert len(list(cache.iterdir())) == builds.MOST_KEPT
    assert first.is_dir(), "it was used a moment ago"
    assert cache.stat().st_mode & 0o077 == 0


def test_what_a_killed_build_has_left_is_no_result_and_is_removed_later(bundle: Callable, cache: Path) -> None:
    young, old = cache / f"{builds.UNDER_WAY}young", cache / f"{builds.UNDER_WAY}old"
    for directory in (young, old):
        (directory / "source").mkdir(parents=True)
    os.utime(old, (1000, 1000))
    bundle("./bundler")
    assert young.is_dir()
    assert not old.exists()


def test_a_result_of_another_run_that_was_faster_is_used(bundle: Callable, cache: Path) -> None:
    bundle("./bundler")
    (result,) = cache.iterdir()
    builds._build(bytes(10240), Build(["touch other"]), result)
    assert "dist/app.js" in bundle("./bundler")["texts"]


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert user_cache() == tmp_path / "cache/django_asgi"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache/django_asgi"
