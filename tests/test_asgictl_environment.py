"""asgictl's Python environments: what a lock pins, whose pin wins, and how many workers fit."""

import json
import sys
from pathlib import Path

import pytest
from asgictl import environment
from asgictl.app import App
from asgictl.environment import Builder
from asgictl.errors import Refused
from asgictl.pins import normalized, packages_in, packages_of_uv_lock, sorted_pins, without_packages

LOCK = """\
# made by a tool
--index-url https://packages.example.org/simple
asgiref==3.8.1 \\
    --hash=sha256:11 \\
    --hash=sha256:22
    # via django
Django[argon2]==5.2.8 ; python_version >= "3.10" \\
    --hash=sha256:33
zope.interface==7.0 --hash=sha256:44
"""
SERVER = """\
gunicorn==27.0.0 \\
    --hash=sha256:aa
uvicorn==0.54.0 \\
    --hash=sha256:bb
    # via uvicorn-worker
uvicorn-worker==0.4.0 \\
    --hash=sha256:cc
"""

# Stands in for uv: records its calls, creates what the Builder looks for, and fails on request.
UV = f"""#!{sys.executable}
import json, os, pathlib, sys
with open({{log!r}}, "a") as log:
    given = dict(os.environ)
    if "--output-file" in sys.argv:
        given["PREFERRED"] = pathlib.Path(sys.argv[sys.argv.index("--output-file") + 1]).read_text()
    print(json.dumps([sys.argv[1:], sys.stdin.read(), given]), file=log)
command = sys.argv[1:3]
if os.environ.get("FAIL") == sys.argv[1]:
    sys.exit("line 1\\n" + os.environ.get("BECAUSE", "No matching distribution found for nonsense"))
if command[0] == "venv":
    directory = pathlib.Path(sys.argv[-1], "bin")
    directory.mkdir()
    (directory / "python").symlink_to(sys.executable)
elif command == ["python", "find"]:
    installed = list(pathlib.Path(os.environ.get("UV_PYTHON_INSTALL_DIR", "/nowhere")).glob("*/bin/python3"))
    if "LACKS" in os.environ and not installed:
        sys.exit("error: No interpreter found for Python 3.14")
    print(installed[0] if installed else sys.executable)
elif command == ["python", "install"]:
    directory = pathlib.Path(os.environ["UV_PYTHON_INSTALL_DIR"], "cpython-3.14.2", "bin")
    directory.mkdir(parents=True)
    (directory / "python3").symlink_to(sys.executable)
    sys.exit(os.environ.get("INTERRUPTED", 0))
elif command == ["pip", "compile"] or command[0] == "export":
    print("django==5.2.8 \\\\\\n    --hash=sha256:33")
    print(os.environ.get("EXPORTED", ""))
"""


class Uv:
    """The program that stands in for uv, and its calls."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "uv.log"
        self.path = directory / "uv"
        self.path.write_text(UV.format(log=str(self.log)))
        self.path.chmod(0o755)

    def calls(self, command: str) -> list[tuple[list[str], str, dict]]:
        """The arguments, input and environment of the calls that begin with `command`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [call for call in map(json.loads, lines) if " ".join(call[0]).startswith(command)]


@pytest.fixture
def uv(tmp_path: Path) -> Uv:
    """A program that stands in for uv."""
    return Uv(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project with a lock."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "requirements.txt").write_text(LOCK)
    return directory


def order(uv: Uv, **changes: object) -> dict:
    """The part of an order that a Builder uses."""
    return {
        "requirements": "requirements.txt",
        "requirements_kind": "hashed",
        "requirements_text": LOCK,
        "requirements_extras": [],
        "requirements_groups": [],
        "server_lock": SERVER,
        "server_requirements": "# the server\ngunicorn>=27.0,<28\nuvicorn>=0.54\nuvicorn-worker>=0.4\n",
        "python": "3.13",
        "uv": str(uv.path),
        "uv_environment": {},
        "python_downloads": False,
        "python_downloads_json": "",
        "python_mirror": "",
        **changes,
    }


def test_pins_are_found_with_extras_markers_and_odd_names() -> None:
    assert packages_in(LOCK) == {"asgiref": "3.8.1", "django": "5.2.8", "zope-interface": "7.0"}


@pytest.mark.parametrize("name", ["Foo.Bar_baz", "foo-bar-baz", "FOO--bar__baz"])
def test_names_are_compared_as_the_index_does(name: str) -> None:
    assert normalized(name) == "foo-bar-baz"


def test_packages_are_taken_out_with_their_hashes() -> None:
    rest = without_packages(SERVER, {"uvicorn"})
    assert packages_in(rest) == {"gunicorn": "27.0.0", "uvicorn-worker": "0.4.0"}
    assert "sha256:bb" not in rest
    assert "sha256:aa" in rest
    assert "sha256:cc" in rest


def test_taking_nothing_out_changes_nothing() -> None:
    assert without_packages(LOCK, {"gunicorn"}) == LOCK


def test_an_environment_is_built_once_and_then_reused(app: App, uv: Uv, source: Path) -> None:
    digest, made = Builder(app, source, order(uv)).build()
    assert made
    assert Builder(app, source, order(uv)).build() == (digest, False)
    assert len(uv.calls("pip sync")) == 1


def test_hashes_are_required_and_python_is_not_downloaded(app: App, uv: Uv, source: Path) -> None:
    Builder(app, source, order(uv)).build()
    ((arguments, _, environment),) = uv.calls("pip sync")
    assert "--require-hashes" in arguments
    assert environment["UV_PYTHON_DOWNLOADS"] == "never"


LACKS = {"LACKS": "yes"}


def test_a_python_that_the_host_lacks_is_installed_once_in_a_directory_of_the_app(app: App, uv: Uv, source: Path) -> None:
    wanted = {"python": "3.14", "python_downloads": True, "python_mirror": "https://mirror.example.org", "uv_environment": LACKS}
    wish = order(uv, **wanted, python_downloads_json="/srv/list.json")
    first, _ = Builder(app, source, wish).build()
    assert Builder(app, source, wish).build() == (first, False)
    Builder(app, source, wish | {"requirements_text": LOCK.replace("5.2.8", "5.2.9")}).build()
    ((arguments, _, environment),) = uv.calls("python install")
    assert arguments[-2:] == ["--no-bin", "3.14"]
    assert environment["UV_PYTHON_DOWNLOADS"] == "manual"
    assert environment["UV_PYTHON_DOWNLOADS_JSON_URL"] == "/srv/list.json"
    assert environment["UV_PYTHON_INSTALL_MIRROR"] == "https://mirror.example.org"
    assert Path(environment["UV_PYTHON_INSTALL_DIR"]).parent == app.home / "pythons"
    ((_, _, building), _) = uv.calls("pip sync")
    assert (building["UV_PYTHON_DOWNLOADS"], building["UV_PYTHON_PREFERENCE"]) == ("never", "system")
    Builder(app, source, wish | {"python": "3.14.2"}).build()
    assert len(list(app.pythons.iterdir())) == 2, "a Python that environments use must not change"


def test_the_hosts_own_python_is_not_downloaded(app: App, uv: Uv, source: Path) -> None:
    Builder(app, source, order(uv, python_downloads=True)).build()
    assert not uv.calls("python install")
    assert not app.pythons.exists()


def test_without_leave_a_python_that_the_host_lacks_is_refused(app: App, uv: Uv, source: Path) -> None:
    with pytest.raises(Refused, match="django_asgi_python_downloads"):
        Builder(app, source, order(uv, uv_environment=LACKS)).build()
    assert not uv.calls("python install")


@pytest.mark.parametrize("fails", [{"INTERRUPTED": "checksum mismatch"}, {}], ids=["in-uv", "after-uv"])
def test_a_python_whose_installation_was_cut_short_is_installed_again(
    app: App, uv: Uv, source: Path, monkeypatch: pytest.MonkeyPatch, fails: dict
) -> None:
    def sync(_directory: Path) -> None:
        raise Refused("checksum mismatch")

    wish = order(uv, python="3.14", python_downloads=True, uv_environment=LACKS)
    with monkeypatch.context() as patched, pytest.raises(Refused) as refused:
        patched.setattr(environment, "sync", sync)
        Builder(app, source, wish | {"uv_environment": LACKS | fails}).build()
    assert "checksum mismatch" in f"{refused.value} {refused.value.details}"
    assert Builder(app, source, wish).build()[1]
    assert len(uv.calls("python install")) == 2


def test_the_server_packages_come_along_unless_the_app_pins_them(app: App, uv: Uv, source: Path) -> None:
    text = LOCK + "-c constraints.txt\ngunicorn==26.0.0 --hash=sha256:99\n"
    digest, _ = Builder(app, source, order(uv, requirements_text=text)).build()
    packages = packages_in((app.environments / digest / "requirements.lock").read_text())
    assert packages["gunicorn"] == "26.0.0"
    assert packages["uvicorn"] == "0.54.0"
    assert packages["django"] == "5.2.8"
    ((_, installed, _),) = uv.calls("pip sync")
    assert "constraints.txt" not in installed


def test_another_lock_or_python_is_another_environment(app: App, uv: Uv, source: Path) -> None:
    first, _ = Builder(app, source, order(uv)).build()
    other_server, _ = Builder(app, source, order(uv, server_lock=SERVER.replace("27.0.0", "27.1.0"))).build()
    other_app, _ = Builder(app, source, order(uv, requirements_text=LOCK.replace("5.2.8", "5.2.9"))).build()
    assert len({first, other_server, other_app}) == 3


def test_a_build_that_was_cut_short_is_done_again(app: App, uv: Uv, source: Path) -> None:
    digest, _ = Builder(app, source, order(uv)).build()
    (app.environments / digest / ".complete").unlink()
    (app.environments / digest / "junk").touch()
    assert Builder(app, source, order(uv)).build() == (digest, True)
    assert not (app.environments / digest / "junk").exists()


@pytest.mark.parametrize(
    "text", ["django>=5.2\nUvicorn==0.53\n", '[project]\ndependencies = ["django", "uvicorn[standard]>=0.50"]\n']
)
def test_an_unpinned_list_is_resolved_with_the_server_packages_that_it_does_not_name(
    app: App, uv: Uv, source: Path, text: str
) -> None:
    Builder(app, source, order(uv, requirements_kind="unpinned", requirements_text=text)).build()
    ((arguments, wanted, environment),) = uv.calls("pip compile")
    assert "--generate-hashes" in arguments
    assert wanted.splitlines() == ["gunicorn>=27.0,<28", "uvicorn-worker>=0.4"]
    assert environment["PREFERRED"] == SERVER


def test_a_uv_locks_packages_are_those_of_the_project_with_the_extras_and_groups_that_are_named() -> None:
    lock = """
[[package]]
name = "shop"
source = { virtual = "." }
dependencies = [{ name = "django" }]
[package.dev-dependencies]
dev = [{ name = "pytest" }]
[package.optional-dependencies]
s3 = [{ name = "boto3" }]
[[package]]
name = "boto3"
version = "1.40"
[[package]]
name = "django"
version = "5.2.8"
dependencies = [{ name = "sqlparse" }]
[[package]]
name = "sqlparse"
version = "0.5"
[[package]]
name = "pytest"
version = "9.0"
"""
    assert packages_of_uv_lock(lock) == {"django": "5.2.8", "sqlparse": "0.5"}
    chosen = packages_of_uv_lock(lock, extras=["s3"], groups=["dev"])
    assert chosen == {"django": "5.2.8", "sqlparse": "0.5", "boto3": "1.40", "pytest": "9.0"}


def test_a_uv_lock_is_installed_by_uv_itself_and_the_server_packages_after_it(app: App, uv: Uv, source: Path) -> None:
    (source / "uv.lock").touch()
    Builder(app, source, order(uv, requirements="uv.lock", requirements_kind="uv.lock")).build()
    ((arguments, _, environment),) = uv.calls("sync")
    assert "--frozen" in arguments
    assert arguments[arguments.index("--project") + 1] == str(source)
    assert Path(environment["UV_PROJECT_ENVIRONMENT"]).parent == app.environments
    ((_, installed, _),) = uv.calls("pip install")
    assert packages_in(installed) == packages_in(SERVER)


COMMIT = "0123456789" * 4
UNHASHED = f"""
-e ./packages/money
tools @ git+https://git.example.org/tools@{COMMIT}
-e git+https://git.example.org/more.git@{COMMIT}#egg=more
./wheels/odd-1.0-py3-none-any.whl ; python_version > "3"
"""


def test_packages_without_hashes_are_those_of_a_commit_and_those_of_the_source() -> None:
    pins = sorted_pins(LOCK + UNHASHED, "requirements.txt")
    assert packages_in(pins.hashed) == packages_in(LOCK)
    assert "--index-url https://packages.example.org/simple" in pins.hashed
    assert pins.repositories == (
        f"tools @ git+https://git.example.org/tools@{COMMIT}",
        f"git+https://git.example.org/more.git@{COMMIT}#egg=more",
    )
    assert pins.folders == ("./packages/money", "./wheels/odd-1.0-py3-none-any.whl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("django==5.2", "requirements.txt has hashes, but none for django==5.2: add its hashes"),
        ("tools @ git+https://git.example.org/tools@main", "without a full commit"),
        (f"tools @ git+https://git.example.org/tools@{COMMIT[:12]}", "without a full commit"),
    ],
)
def test_a_package_that_may_be_another_one_tomorrow_is_refused(line: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        sorted_pins(f"{LOCK}{line}\n", "requirements.txt")


@pytest.mark.parametrize(("kind", "hash"), [("unpinned", ""), ("hashed", " --hash=sha256:99")])
def test_a_server_package_that_is_too_old_is_refused_with_the_least_version(
    app: App, uv: Uv, source: Path, kind: str, hash: str
) -> None:
    old = order(uv, requirements_kind=kind, requirements_text=f"django==5.2.8{hash}\nuvicorn==0.29.0{hash}\n")
    with pytest.raises(Refused, match=r"requirements.txt pins uvicorn==0.29.0, but .* needs uvicorn>=0.52"):
        Builder(app, source, old).build()


def test_a_server_package_that_the_resolution_makes_too_old_is_refused_too(app: App, uv: Uv, source: Path) -> None:
    capped = order(
        uv,
        requirements_kind="unpinned",
        requirements_text="old\n",
        uv_environment={"EXPORTED": "uvicorn==0.40.0 --hash=sha256:99"},
    )
    with pytest.raises(Refused, match=r"pins uvicorn==0.40.0"):
        Builder(app, source, capped).build()


def test_packages_of_the_source_are_installed_from_a_copy_and_their_content_counts(app: App, uv: Uv, source: Path) -> None:
    package = source / "packages/money"
    package.mkdir(parents=True)
    (package / "money.py").write_text("rate = 1")
    mixed = order(uv, requirements_text=LOCK + "-e ./packages/money\n")
    first, _ = Builder(app, source, mixed).build()
    ((arguments, _, _),) = uv.calls("pip install")
    assert not Path(arguments[-1]).is_relative_to(source), "a build may write beside its source"
    assert Builder(app, source, mixed).build() == (first, False)
    (package / "money.py").write_text("rate = 2")
    assert Builder(app, source, mixed).build()[0] != first


def test_a_uv_locks_paths_start_at_the_lock(app: App, uv: Uv, source: Path) -> None:
    (source / "packages/money").mkdir(parents=True)
    (source / "backend").mkdir()
    (source / "uv.lock").touch()
    locked = order(uv, requirements="../uv.lock", requirements_kind="uv.lock", uv_environment={"EXPORTED": "-e ./packages/money"})
    assert Builder(app, source / "backend", locked).build()[1]
    assert len(uv.calls("pip install")) == 2


def test_a_package_that_the_source_lacks_is_named(app: App, uv: Uv, source: Path) -> None:
    with pytest.raises(Refused, match=r"requirements.txt names ../elsewhere, which the source does not hold"):
        Builder(app, source, order(uv, requirements_text=LOCK + "-e ../elsewhere\n")).build()


def test_the_users_uv_settings_reach_uv(app: App, uv: Uv, source: Path) -> None:
    Builder(app, source, order(uv, uv_environment={"UV_FIND_LINKS": "/srv/wheels"})).build()
    assert all(environment["UV_FIND_LINKS"] == "/srv/wheels" for _, _, environment in uv.calls(""))


def test_a_failed_build_tells_uvs_last_lines_and_is_not_taken_for_complete(app: App, uv: Uv, source: Path) -> None:
    with pytest.raises(Refused) as refused:
        Builder(app, source, order(uv, uv_environment={"FAIL": "pip"})).build()
    assert "uv pip failed (Python 3.13, requirements.txt)" in str(refused.value)
    assert "No matching distribution found for nonsense" in refused.value.details
    assert Builder(app, source, order(uv)).build()[1]


@pytest.mark.parametrize(("kind", "command"), [("uv.lock", "export"), ("unpinned", "pip compile")])
def test_extras_and_groups_of_the_project_are_installed_if_they_are_named(
    app: App, uv: Uv, source: Path, kind: str, command: str
) -> None:
    chosen = {"requirements_extras": ["s3", "sentry"], "requirements_groups": ["prod"]}
    Builder(app, source, order(uv, requirements="uv.lock", requirements_kind=kind, **chosen)).build()
    ((arguments, _, _),) = uv.calls(command)
    assert [option for option in arguments if option.startswith(("--extra", "--group"))] == [
        "--extra=s3",
        "--extra=sentry",
        "--group=prod",
    ]


@pytest.mark.parametrize("line", ["Failed to build `psycopg-c==3.2.1`", "  x Failed to download and build `psycopg-c==3.2.1`"])
def test_a_package_that_cannot_be_compiled_is_named_with_the_variables_that_help(
    app: App, uv: Uv, source: Path, line: str
) -> None:
    with pytest.raises(Refused, match=r"psycopg-c==3\.2\.1 has no ready-made wheel") as refused:
        Builder(app, source, order(uv, uv_environment={"FAIL": "pip", "BECAUSE": line})).build()
    assert "django_asgi_build_packages" in str(refused.value)
    assert "django_asgi_system_packages" in str(refused.value)
