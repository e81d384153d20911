"""The source: a part of a repository, private repositories, submodules and Git LFS, and what .gitignore leaves out."""

import base64
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.django_asgi.site.plugins.module_utils import source
from ansible_collections.django_asgi.site.plugins.module_utils.requirements import Unusable

SHOP = {"manage.py": "", "requirements.txt": "django==5.2.8 --hash=sha256:00\n", "config/settings.py": "DEBUG = False\n"}
TOKEN = "s3cret-token"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def write(directory: Path, files: dict[str, str]) -> Path:
    """Write files, and return their directory."""
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory of the test."""
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def committed(directory: Path) -> Path:
    """Make a repository of a directory with all its files in one commit, and return it."""
    git(directory, "init", "--quiet")
    git(directory, "add", "--all", "--force")
    git(directory, "commit", "--quiet", "--message=all")
    return directory


def program(path: Path, text: str) -> Path:
    """Write a shell script in a directory that is searched first."""
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


@pytest.fixture
def bundle(plugin: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Bundle a source into the test's directory; no settings of whoever runs the tests count."""
    for name, value in {"GLOBAL": "/dev/null", "SYSTEM": "/dev/null", "COUNT": "1"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    module = plugin("action/bundle.py")

    def make(address: object, version: str = "HEAD", project_dir: str = ".", **more: object) -> dict:
        return module.bundle(str(address), version, project_dir, "", tmp_path, {}, **more)

    return make


# --- A part of the source -------------------------------------------------------------------------------------------
@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A directory with two projects, whose top has a .gitignore."""
    files = {f"{name}/src/{path}": text for name in ("shop", "blog") for path, text in SHOP.items()}
    return write(tmp_path / "several", {".gitignore": "*.log\n/shop/local/\n", "README.md": "", **files})


def address_of(directory: Path, kind: str) -> str:
    """Return a directory as a source of some kind."""
    if kind == "git":
        return f"file://{committed(shutil.copytree(directory, directory.parent / 'repository'))}"
    return shutil.make_archive(f"{directory}", "gztar", directory.parent, directory.name) if kind == "archive" else str(directory)


@pytest.mark.parametrize("kind", ["directory", "git", "archive"])
def test_a_part_of_the_source_is_all_of_it(bundle: Callable, several: Path, kind: str) -> None:
    made = bundle(address_of(several, kind), project_dir="src", subdirectory="shop/")
    assert set(made["sources"]) == {f"src/{name}" for name in SHOP}
    assert made["requirements"] == "requirements.txt"


def test_a_change_elsewhere_is_no_new_release(bundle: Callable, several: Path) -> None:
    def digest() -> str:
        return bundle(several, project_dir="src", subdirectory="shop")["digest"]

    before = digest()
    write(several, {"blog/src/new.py": "", "new.py": ""})
    assert digest() == before
    write(several, {"shop/src/new.py": ""})
    assert digest() != before


@pytest.mark.parametrize("in_repository", [True, False], ids=["in-git", "outside-git"])
def test_the_rules_at_the_top_hold_in_a_part(bundle: Callable, several: Path, in_repository: bool) -> None:
    if in_repository:
        committed(several)
    write(several, {"shop/debug.log": "", "shop/local/notes.txt": "", "blog/debug.log": ""})
    made = bundle(several, project_dir="src", subdirectory="shop")
    assert set(made["sources"]) == {f"src/{name}" for name in SHOP}
    assert made["left_out"] == {"count": 2, "names": ["debug.log", "local/"]}


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("/srv", "django_asgi_source_subdirectory /srv leads outside the source"),
        ("shop/../..", "django_asgi_source_subdirectory shop/../.. leads outside the source"),
        ("away", "django_asgi_source_subdirectory away leads outside the source"),
        ("shpo", "The source has no directory shpo: set .* one of its directories; at the top are blog, shop"),
        ("README.md", "The source has no directory README.md"),
    ],
)
def test_a_part_that_is_not_there_is_refused(bundle: Callable, several: Path, part: str, sentence: str) -> None:
    (several / "away").symlink_to("/srv") if part == "away" else None
    with pytest.raises(Unusable, match=sentence):
        bundle(several, subdirectory=part)


# --- Private repositories -------------------------------------------------------------------------------------------
class Private(SimpleHTTPRequestHandler):
    """Serves a repository to ann with the token only."""

    def do_GET(self) -> None:
        """Answer, or require credentials."""
        expected = base64.b64encode(f"ann@home:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {expected}":
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def private(tmp_path: Path) -> Iterator[str]:
    """The host and path of a repository behind a password, which has a submodule behind it too."""
    web = tmp_path / "web"
    web.mkdir()
    theme = committed(write(tmp_path / "theme", {"theme.css": "a {}"}))
    shop = write(tmp_path / "work", SHOP)
    git(shop, "init", "--quiet")
    git(shop, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(theme), "theme")
    git(shop, "config", "--file=.gitmodules", "submodule.theme.url", "../theme.git")
    committed(shop)
    for name, work in (("shop", shop), ("theme", theme)):
        git(web, "clone", "--quiet", "--bare", str(work), f"{name}.git")
        git(web / f"{name}.git", "update-server-info")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Private, directory=str(web))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}/shop.git"
        server.shutdown()


def test_a_token_in_the_address_opens_a_repository_and_its_submodules_and_is_in_no_argument(
    bundle: Callable, private: str, tmp_path: Path
) -> None:
    real, log = shutil.which("git"), tmp_path / "log"
    # git runs its own programs, such as git-remote-http, with the address as an argument: GIT_TRACE shows them.
    program(tmp_path / "bin/git", f'echo "$@" >>{log}\nGIT_TRACE={log} exec {real} "$@"\n')
    made = bundle(f"http://ann%40home:{TOKEN}@{private}")
    assert {"manage.py", "theme/theme.css"} <= set(made["sources"])
    assert made["source"]["address"] == f"http://{private}"
    assert f"http://{private}" in log.read_text()
    assert TOKEN not in log.read_text()


@pytest.mark.parametrize("user", ["", "ann@", f"ann:{TOKEN}@", f"{TOKEN}:x@", f"ann:{TOKEN}/x@", f"{TOKEN}@"])
def test_a_refused_token_is_not_shown_and_the_variable_is(bundle: Callable, private: str, user: str) -> None:
    with pytest.raises(Unusable) as refused:
        bundle(f"http://{user}{private}")
    assert TOKEN not in str(refused.value)
    assert str(refused.value).startswith(f"git can't fetch HEAD of http://{private}: ")
    if "/" not in user:
        assert "django_asgi_source, https://user:token@host/" in str(refused.value)


def test_the_key_and_the_known_hosts_reach_ssh_and_nothing_prompts(bundle: Callable, tmp_path: Path) -> None:
    shop = committed(write(tmp_path / "shop", SHOP))
    key = tmp_path / "deploy key"
    key.touch()
    # Stands in for ssh: notes its options, then runs what it should run on the host.
    program(
        tmp_path / "bin/ssh",
        f"""for last; do
  case $last in UserKnownHostsFile=*)
    file=$(echo "${{last#*=}}" | tr -d '"'); cat "$file" >{tmp_path}/known; stat -c %a "$file" >>{tmp_path}/known
  esac
  echo "$last" >>{tmp_path}/options
done
eval "$last"
""",
    )
    made = bundle(f"git@git.example.org:{shop}", git_key=str(key), git_known_hosts="git.example.org ssh-ed25519 AAAA")
    assert set(made["sources"]) == set(SHOP)
    options = (tmp_path / "options").read_text().splitlines()
    assert {"BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null"} <= set(options)
    assert options[options.index("-i") + 1] == str(key)
    assert (tmp_path / "known").read_text() == "git.example.org ssh-ed25519 AAAA\n600\n"


@pytest.mark.parametrize("where", ["environment", "configuration"])
def test_the_users_own_ssh_command_stays_in_use(
    bundle: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    shop = committed(write(tmp_path / "shop", SHOP))
    own = program(tmp_path / "own-ssh", f'echo "$@" >{tmp_path}/options\nfor last; do :; done\neval "$last"\n')
    if where == "environment":
        monkeypatch.setenv("GIT_SSH_COMMAND", f"{own} -p 2222")
    else:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        (tmp_path / "gitconfig").write_text(f"[core]\n\tsshCommand = {own} -p 2222\n")
    assert set(bundle(f"git@git.example.org:{shop}")["sources"]) == set(SHOP)
    assert (tmp_path / "options").read_text().startswith("-p 2222 -o BatchMode=yes git@git.example.org")


@pytest.mark.parametrize(
    ("printed", "reason", "variable"),
    [
        ("No ED25519 host key is known for h.\nHost key verification failed.", "Host key verification failed", "known_hosts"),
        ("git@h: Permission denied (publickey).", r"git@h: Permission denied \(publickey\)", "key"),
        ("git@h: Permission denied (publickey,password).", r"git@h: Permission denied \(publickey,password\)", "key"),
    ],
)
def test_a_refusal_of_ssh_is_a_sentence_with_the_variable_that_helps(
    bundle: Callable, tmp_path: Path, printed: str, reason: str, variable: str
) -> None:
    program(tmp_path / "bin/ssh", f"echo '{printed}' >&2\nexit 255\n")
    with pytest.raises(Unusable, match=rf"^git can't fetch HEAD of git@h:shop\.git: {reason}\. .*django_asgi_git_{variable} "):
        bundle("git@h:shop.git")


def test_a_missing_key_is_refused(bundle: Callable) -> None:
    with pytest.raises(Unusable, match=r"django_asgi_git_key /nowhere/key is not a file on this machine"):
        bundle("git@h:shop.git", git_key="/nowhere/key")


def test_git_prompts_nobody_for_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "git", 'echo "prompt=$GIT_TERMINAL_PROMPT"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert source.git("fetch") == "prompt=0\n"


# --- Submodules and Git LFS -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("part", "wanted"), [("shop", "shop/theme"), ("shop/theme/app", "shop/theme")])
def test_only_the_submodules_of_the_part_are_fetched(bundle: Callable, tmp_path: Path, part: str, wanted: str) -> None:
    theme = committed(write(tmp_path / "theme", {f"app/{name}": text for name, text in SHOP.items()}))
    whole = write(tmp_path / "whole", {f"shop/{name}": text for name, text in SHOP.items()})
    git(whole, "init", "--quiet")
    for path in (wanted, "blog/gone"):
        git(whole, "submodule", "--quiet", "add", "--name", path, str(theme), path)
    git(whole, "config", "--file=.gitmodules", "submodule.blog/gone.url", f"file://{tmp_path}/gone")
    committed(whole)
    found = set(bundle(f"file://{whole}", subdirectory=part)["sources"])
    assert found == set(SHOP) | ({f"theme/app/{name}" for name in SHOP} if part == "shop" else set())
    with pytest.raises(Unusable, match=rf"^git can't fetch the submodules of file://{whole}: "):
        bundle(f"file://{whole}")


def test_files_of_git_lfs_come_along_if_git_lfs_is_there(bundle: Callable, tmp_path: Path) -> None:
    part = committed(write(tmp_path / "part", {"b.mp4": POINTER}))
    whole = write(tmp_path / "whole", SHOP | {"a.mp4": POINTER})
    git(whole, "init", "--quiet")
    git(whole, "submodule", "--quiet", "add", str(part), "part")
    committed(whole)
    with pytest.raises(Unusable, match=r"a\.mp4 is a Git LFS pointer: run 'git lfs install'"):
        bundle(f"file://{whole}")
    # Stands in for git-lfs, which writes no files into a repository that it is not installed for.
    program(
        tmp_path / "bin/git-lfs",
        """case $1 in
install) touch "$(git rev-parse --git-dir)/lfs-here" ;;
pull) [ -e "$(git rev-parse --git-dir)/lfs-here" ] && for file in *.mp4; do echo film >"$file"; done ;;
esac
""",
    )
    with tarfile.open(bundle(f"file://{whole}")["path"]) as archive:
        assert {archive.extractfile(name).read() for name in ("a.mp4", "part/b.mp4")} == {b"film\n"}


# --- What .gitignore leaves out -------------------------------------------------------------------------------------
@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with ignored files."""
    write(tmp_path / "shop", SHOP | {".gitignore": "dist/\n.env\nnode_modules/\nvenv/\n__pycache__/\n*.log\n"})
    return write(
        tmp_path / "shop",
        {
            "static/site.css": "",
            "static/dist/app.js": "",
            "static/dist/css/app.css": "",
            "static/dist/node_modules/x.js": "",
            ".env": "",
            "venv/bin/python": "",
            "node_modules/htmx/htmx.js": "",
            "config/__pycache__/a.pyc": "",
        },
    )


def test_what_is_left_out_is_reported_without_what_is_thrown_away(bundle: Callable, shop: Path) -> None:
    assert bundle(shop)["left_out"] == {"count": 2, "names": [".env", "static/dist/"]}
    write(shop, {f"{number}.log": "" for number in range(6)})
    left_out = bundle(shop)["left_out"]
    assert (left_out["count"], len(left_out["names"])) == (8, 5)


def test_ignored_files_that_are_named_are_taken_all_the_same(bundle: Callable, shop: Path) -> None:
    without = bundle(shop)
    made = bundle(shop, include=["static/dist/**"])
    assert set(made["sources"]) - set(without["sources"]) == {"static/dist/app.js", "static/dist/css/app.css"}
    assert made["left_out"] == {"count": 1, "names": [".env"]}
    assert made["digest"] != without["digest"]


def test_what_is_ignored_beside_a_named_file_is_still_reported(bundle: Callable, shop: Path) -> None:
    made = bundle(shop, include=["static/dist/*.js"])
    assert "static/dist/app.js" in made["sources"]
    assert made["left_out"]["names"] == [".env", "static/dist/css/app.css"]


def test_a_file_that_git_tracks_is_not_left_out(bundle: Callable, shop: Path) -> None:
    committed(shop)
    made = bundle(shop)
    assert "static/dist/app.js" in made["sources"]
    assert made["left_out"] == {"count": 0, "names": []}


def test_a_package_of_node_is_taken_if_its_folder_is_named(bundle: Callable, shop: Path) -> None:
    assert "node_modules/htmx/htmx.js" in bundle(shop, include=["node_modules/htmx/*.js"])["sources"]
    assert "node_modules/htmx/htmx.js" not in bundle(shop, include=["**/*.js"])["sources"]


def test_patterns_start_at_the_part(bundle: Callable, shop: Path) -> None:
    made = bundle(shop.parent, subdirectory="shop", include=["static/dist/*.js"])
    assert "static/dist/app.js" in made["sources"]


def test_a_pattern_that_matches_nothing_is_a_warning(bundle: Callable, shop: Path) -> None:
    assert bundle(shop, include=["dits/**", ".env"])["warnings"] == [
        "django_asgi_source_include has dits/**, which matches no file."
    ]


def test_an_archive_ships_whole(bundle: Callable, shop: Path) -> None:
    made = bundle(shutil.make_archive(str(shop), "zip", shop))
    assert {".env", "static/dist/app.js"} <= set(made["sources"])
    assert not any("__pycache__" in name for name in made["sources"])
    assert made["left_out"]["count"] == 0


@pytest.mark.parametrize(
    ("files", "module", "reason"),
    [
        (["shop/asgi.py"], "shop.asgi:application", ""),
        (["src/shop/asgi.py", "manage.py"], "shop.asgi:application", ""),
        (["shop/asgi/__init__.py"], "shop.asgi:application", ""),
        (["manage.py"], "installed.asgi:application", ""),
        (["shop/wsgi.py"], "shop.asgi:application", "the source has no shop/asgi.py: it has no asgi.py"),
        (["shop/wsgi.py", "config/asgi.py"], "shop.asgi:application", "the source has no shop/asgi.py: it has config/asgi.py."),
    ],
)
def test_an_application_that_the_project_lacks_is_refused_before_anything_is_built(
    files: list[str], module: str, reason: str
) -> None:
    if not reason:
        source.require_module(files, module)
        return
    with pytest.raises(Unusable) as refused:
        source.require_module(files, module)
    assert reason in str(refused.value)


def test_an_environment_in_the_source_stays_at_home_whatever_its_name(tmp_path: Path) -> None:
    project = write(tmp_path / "p", {**SHOP, "env/pyvenv.cfg": "", "env/lib/x.py": "", "environment.py": ""})
    (project / "env/python").symlink_to("/usr/bin/python3")
    assert set(source.files_of(project).taken) == {*SHOP, "environment.py"}
