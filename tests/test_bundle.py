"""The bundle: the same project gives the same bytes, whatever it comes from, and a bad source is refused with a sentence."""

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.django_asgi.site.plugins.module_utils.requirements import included_text

FILES = {
    "manage.py": "#!/usr/bin/env python3\n",
    "requirements.txt": "django==5.2.8 --hash=sha256:00\n",
    "config/__init__.py": "",
    "config/settings.py": "DEBUG = False\n",
    "static/grüße.css": "body {}\n",
}
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


@pytest.fixture(scope="module")
def module(plugin: Callable[[str], ModuleType]) -> ModuleType:
    """The action plugin."""
    return plugin("action/bundle.py")


@pytest.fixture
def bundle(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Bundle a source into the test's directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "place"
    place.mkdir()

    def make(source: object, version: str = "HEAD", project_dir: str = ".", requirements: str = "", **pythons: str) -> dict:
        return module.bundle(str(source), version, project_dir, requirements, place, pythons)

    return make


def write(directory: Path, files: dict[str, str] = FILES) -> Path:
    """Write the files of a project."""
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a directory."""
    return write(tmp_path / "project")


def names(made: dict) -> list[str]:
    """Return the names in the bundle, in its order."""
    with tarfile.open(made["path"]) as archive:
        assert archive.getnames() == list(made["sources"])
        return archive.getnames()


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory of the test."""
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *who, *arguments]
    done = subprocess.run(command, cwd=directory, env=os.environ | GIT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """The address of a bare repository with a branch and a tag, and the commits by name."""
    work = write(tmp_path / "work")
    git(work, "init", "--quiet")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=one")
    git(work, "tag", "v1")
    commits = {"v1": git(work, "rev-parse", "HEAD")}
    (work / "config/settings.py").write_text("DEBUG = True\n")
    git(work, "commit", "--quiet", "--all", "--message=two")
    commits["main"] = git(work, "rev-parse", "HEAD")
    git(work, "checkout", "--quiet", "-b", "feature/x", "v1")
    (work / "new.py").touch()
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=three")
    commits["feature/x"] = git(work, "rev-parse", "HEAD")
    git(work, "checkout", "--quiet", "main")
    git(tmp_path, "clone", "--quiet", "--bare", "work", "shop.git")
    return f"file://{tmp_path}/shop.git", commits


def test_it_is_a_sorted_gzipped_tar_named_by_its_digest(bundle: Callable, project: Path) -> None:
    made = bundle(project)
    assert names(made) == sorted(FILES)
    assert Path(made["path"]).name == f"bundle-{made['digest'][:16]}.tar.gz"
    assert not made["changed"]
    with tarfile.open(made["path"]) as archive:
        for name, text in FILES.items():
            assert archive.extractfile(name).read().decode() == text


def test_entries_tell_nothing_of_who_made_them_when_and_with_which_umask(bundle: Callable, project: Path) -> None:
    with tarfile.open(bundle(project)["path"]) as archive:
        facts = {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime, entry.mode) for entry in archive}
    assert facts == {(0, 0, "", "", 0, 0o644)}


def test_another_checkout_at_another_time_with_another_umask_gives_the_same_bytes(
    bundle: Callable, project: Path, tmp_path: Path
) -> None:
    first = bundle(project)
    content = Path(first["path"]).read_bytes()
    other = tmp_path / "elsewhere" / "deep"
    previous = os.umask(0o077)
    try:
        write(other, dict(reversed(FILES.items())))
    finally:
        os.umask(previous)
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
        if os.getuid() == 0:
            os.chown(path, 1234, 1234)
    second = bundle(other)
    assert second["digest"] == first["digest"]
    assert second["sources"] == first["sources"]
    assert Path(second["path"]).read_bytes() == content


@pytest.mark.parametrize("name", ["config/settings.py", "new.py"])
def test_any_changed_or_added_file_changes_the_digest(bundle: Callable, project: Path, name: str) -> None:
    before = bundle(project)["digest"]
    (project / name).write_text("# changed\n")
    assert bundle(project)["digest"] != before


def test_the_executable_bit_is_kept_and_counts(bundle: Callable, project: Path) -> None:
    before = bundle(project)
    (project / "manage.py").chmod(0o755)
    after = bundle(project)
    assert after["digest"] != before["digest"]
    assert after["sources"]["manage.py"] == before["sources"]["manage.py"] + "+x"
    with tarfile.open(after["path"]) as archive:
        assert archive.getmember("manage.py").mode == 0o755
        assert archive.getmember("config/settings.py").mode == 0o644


@pytest.mark.parametrize("in_repository", [True, False], ids=["in-git", "outside-git"])
def test_gitignore_is_honoured_at_every_level(bundle: Callable, project: Path, in_repository: bool) -> None:
    if in_repository:
        git(project, "init", "--quiet")
    write(
        project,
        {
            ".gitignore": "*.log\n/build/\n!keep.log\n",
            "debug.log": "",
            "keep.log": "",
            "build/out.txt": "",
            "config/build/kept.txt": "",
            "config/.gitignore": "local.py\n",
            "config/local.py": "",
            "local.py": "",
        },
    )
    assert set(names(bundle(project))) == {
        *FILES, ".gitignore", "keep.log", "config/build/kept.txt", "config/.gitignore", "local.py",
    }  # fmt: skip


def test_what_is_never_part_of_a_release_is_left_out(bundle: Callable, project: Path) -> None:
    git(project, "init", "--quiet")
    write(
        project,
        {
            "config/__pycache__/settings.cpython-313.pyc": "",
            "config/old.pyc": "",
            ".venv/bin/python": "",
            "node_modules/left-pad/index.js": "",
        },
    )
    assert set(names(bundle(project))) == set(FILES)


def test_the_users_own_global_ignores_do_not_count(
    bundle: Callable, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ignore").write_text("*.css\n")
    (tmp_path / "gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path / 'ignore'}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert "static/grüße.css" in names(bundle(project))


def test_a_deploy_from_a_git_hook_bundles_the_source_and_not_the_hooks_repository(
    bundle: Callable, repository: tuple, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, commits = repository
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "shop.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert set(names(bundle(project))) == set(FILES)
    assert bundle(address, "v1")["source"]["version"] == f"v1 {commits['v1'][:12]}"


def test_a_repository_inside_the_project_is_part_of_it(bundle: Callable, project: Path) -> None:
    vendored = write(project / "vendor/library", {"__init__.py": "", ".gitignore": "*.tmp\n", "x.tmp": ""})
    git(vendored, "init", "--quiet")
    assert "vendor/library/__init__.py" in names(bundle(project))
    assert "vendor/library/x.tmp" not in names(bundle(project))
    assert not any(".git/" in name for name in names(bundle(project)))


def test_a_submodule_comes_along_or_is_missed_by_name(
    module: ModuleType, bundle: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, whole = write(tmp_path / "part", {"theme.css": "a {}"}), write(tmp_path / "whole")
    for name, value in {"COUNT": "1", "KEY_0": "protocol.file.allow", "VALUE_0": "always"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    for directory in (part, whole):
        git(directory, "init", "--quiet")
        if directory == whole:
            git(whole, "submodule", "--quiet", "add", "../part", "theme")
        git(directory, "add", ".")
        git(directory, "commit", "--quiet", "--message=all")
    address = f"file://{whole}"
    assert "theme/theme.css" in bundle(address)["sources"]
    empty = tmp_path / "empty"
    git(tmp_path, "clone", "--quiet", address, str(empty))
    with pytest.raises(module.Unusable, match=r"The submodule .*/empty/theme is empty: run 'git submodule update"):
        bundle(empty)


def test_a_pointer_of_git_lfs_is_no_file(module: ModuleType, bundle: Callable, project: Path) -> None:
    (project / "video.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(module.Unusable, match=r"video\.mp4 is a Git LFS pointer: run 'git lfs install'"):
        bundle(project)


def test_a_link_inside_the_source_is_kept_as_a_link(bundle: Callable, project: Path) -> None:
    (project / "config/base.py").symlink_to("settings.py")
    (project / "assets").symlink_to("static")
    made = bundle(project)
    assert made["sources"]["config/base.py"] == "-> settings.py"
    with tarfile.open(made["path"]) as archive:
        assert archive.getmember("config/base.py").linkname == "settings.py"
        assert archive.getmember("assets").issym(), "a link to a directory"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../outside", "../outside.py"])
def test_a_link_that_leads_outside_is_refused_by_name(module: ModuleType, bundle: Callable, project: Path, target: str) -> None:
    (project / "config/secret.py").symlink_to(f"../{target}" if target == "../outside.py" else target)
    with pytest.raises(module.Unusable, match=r"config/secret\.py links to .*outside the source: copy it in"):
        bundle(project)


def test_a_branch_a_tag_and_a_commit_can_be_deployed(bundle: Callable, repository: tuple) -> None:
    address, commits = repository
    for version in ("main", "v1", "feature/x"):
        made = bundle(address, version)
        assert made["source"] == {"address": address, "version": f"{version} {commits[version][:12]}"}
    assert bundle(address)["source"]["version"] == f"HEAD {commits['main'][:12]}"
    whole, short = commits["v1"], commits["feature/x"][:9]
    assert bundle(address, whole)["digest"] == bundle(address, "v1")["digest"]
    assert "new.py" in names(bundle(address, short))


def test_a_commit_gives_the_same_bytes_as_the_directory_it_was_made_from(
    bundle: Callable, repository: tuple, project: Path
) -> None:
    assert bundle(repository[0], "v1")["digest"] == bundle(project)["digest"]


def test_a_version_that_is_not_there_is_refused_with_gits_words(module: ModuleType, bundle: Callable, repository: tuple) -> None:
    with pytest.raises(module.Unusable, match=r"^git can't fetch v9 of file://.*shop\.git: .*v9"):
        bundle(repository[0], "v9")


def test_a_repository_that_is_not_there_is_refused(module: ModuleType, bundle: Callable, tmp_path: Path) -> None:
    with pytest.raises(module.Unusable, match=r"^git can't fetch HEAD of file://.*nowhere\.git: "):
        bundle(f"file://{tmp_path}/nowhere.git")


@pytest.mark.parametrize("user", ["ann:s3cret@", "s3cret@", "ann:s3cret@home@"])
def test_credentials_in_an_address_are_not_returned(
    module: ModuleType, bundle: Callable, repository: tuple, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    fetch = module.fetch
    monkeypatch.setattr(module, "fetch", lambda _address, *more: fetch(repository[0], *more))
    made = bundle(f"https://{user}git.example.org/shop.git", "v1")
    assert made["source"]["address"] == "https://git.example.org/shop.git"


def test_credentials_are_not_in_the_words_about_a_failed_fetch(module: ModuleType, bundle: Callable) -> None:
    with pytest.raises(module.Unusable) as refused:
        bundle("http://ann:s3cret@127.0.0.1:1/shop.git")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "is_address"),
    [
        ("https://example.org/team/shop.git", True),
        ("https://example.org/team/shop", True),
        ("ssh://git@example.org/shop", True),
        ("git@example.org:team/shop.git", True),
        ("deploy@10.0.0.1:shop", True),
        ("file:///srv/shop.git", True),
        ("/srv/shop", False),
        ("../my_project", False),
        ("my_project.tar.gz", False),
        ("~/shop", False),
    ],
)
def test_addresses_are_told_from_paths(module: ModuleType, source: str, is_address: bool) -> None:
    assert module.is_git_address(source) == is_address


@pytest.mark.parametrize("kind", ["tar", "gztar", "xztar", "bztar", "zip"])
@pytest.mark.parametrize("top", [True, False], ids=["one-top-folder", "no-top-folder"])
def test_an_archive_gives_the_same_bytes_as_its_directory(
    bundle: Callable, project: Path, tmp_path: Path, kind: str, top: bool
) -> None:
    root, base = (project.parent, project.name) if top else (project, ".")
    archive = shutil.make_archive(str(tmp_path / "shop"), kind, root, base)
    made = bundle(archive)
    assert made["digest"] == bundle(project)["digest"]
    assert made["source"]["address"] == archive


@pytest.mark.parametrize("name", ["shop.tar.gz", "shop.zip"])
def test_a_broken_or_missing_archive_is_refused_by_name(module: ModuleType, bundle: Callable, tmp_path: Path, name: str) -> None:
    with pytest.raises(module.Unusable, match=rf"{name} can't be unpacked"):
        bundle(tmp_path / name)
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(module.Unusable, match=rf"{name} can't be unpacked"):
        bundle(tmp_path / name)


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil-unit-test.py"])
def test_an_archive_can_write_nowhere_else(module: ModuleType, bundle: Callable, tmp_path: Path, name: str) -> None:
    for archive in (tmp_path / "shop.tar", tmp_path / "shop.zip"):
        add = {".tar": add_to_tar, ".zip": add_to_zip}[archive.suffix]
        add(archive, {**FILES, name: "evil"})
        try:
            bundle(archive)
        except module.Unusable:
            continue
    assert not Path("/tmp/evil-unit-test.py").exists()
    assert not list(tmp_path.rglob("evil*"))


def add_to_tar(path: Path, files: dict[str, str]) -> None:
    """Make a tar archive with these names as they are."""
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def add_to_zip(path: Path, files: dict[str, str]) -> None:
    """Make a zip archive with these names as they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def test_a_missing_manage_py_is_refused_with_the_variable_that_helps(module: ModuleType, bundle: Callable, project: Path) -> None:
    (project / "manage.py").unlink()
    with pytest.raises(module.Unusable, match=r"There is no manage\.py in .*set django_asgi_project_dir"):
        bundle(project)


def test_the_project_may_lie_deeper_in_the_source(bundle: Callable, tmp_path: Path) -> None:
    write(tmp_path / "source/backend")
    write(tmp_path / "source", {"README.md": ""})
    made = bundle(tmp_path / "source", project_dir="backend")
    assert "README.md" in made["sources"]
    assert made["requirements"] == "requirements.txt"


@pytest.mark.parametrize("source", ["nowhere", "/nowhere/at/all"])
def test_a_missing_source_is_refused(module: ModuleType, bundle: Callable, source: str) -> None:
    with pytest.raises(module.Unusable, match=f"django_asgi_source {source} is not a directory, git address or archive"):
        bundle(source)


@pytest.mark.parametrize(
    ("files", "wanted", "found", "kind", "warns"),
    [
        ({"requirements.txt": "django==5.2 --hash=sha256:00\n"}, "", "requirements.txt", "hashed", False),
        ({"requirements.txt": "django>=5\n"}, "", "requirements.txt", "unpinned", True),
        ({"uv.lock": "", "requirements.txt": "django\n"}, "", "uv.lock", "uv.lock", False),
        ({"pyproject.toml": "[project]\n"}, "", "pyproject.toml", "unpinned", True),
        (
            {"requirements.txt": "-r base.txt\n", "base.txt": "django==5.2 --hash=sha256:00\n"},
            "",
            "requirements.txt",
            "hashed",
            False,
        ),
        ({"uv.lock": "", "deps/prod.txt": "a==1 --hash=sha256:0\n"}, "deps/prod.txt", "deps/prod.txt", "hashed", False),
    ],
)
def test_requirements_are_found_and_known_by_kind(
    module: ModuleType, tmp_path: Path, files: dict, wanted: str, found: str, kind: str, warns: bool
) -> None:
    project = write(tmp_path / "p", files)
    facts = module.requirements_of(project, project, wanted)
    assert (facts["requirements"], facts["requirements_kind"]) == (found, kind)
    assert bool(facts["warnings"]) == warns
    assert "-r" not in facts["requirements_text"]
    assert facts["requirements_text"].strip() == files["base.txt" if "base.txt" in files else found].strip()


def test_included_requirements_are_put_in_their_places(module: ModuleType, tmp_path: Path) -> None:
    files = {
        "top.txt": "a==1\n-r deep/more.txt\n--requirement=deep/last.txt\nb==2\n",
        "deep/more.txt": "c==3\n-r last.txt\n",
        "deep/last.txt": "d==4\n-r more.txt\n",
    }
    write(tmp_path, files)
    assert included_text(tmp_path / "top.txt").split() == ["a==1", "c==3", "d==4", "d==4", "c==3", "b==2"]
    (tmp_path / "deep/last.txt").unlink()
    with pytest.raises(module.Unusable, match=r"more\.txt includes last\.txt, which does not exist"):
        included_text(tmp_path / "top.txt")


def test_the_warning_about_unpinned_packages_says_what_to_do(module: ModuleType, tmp_path: Path) -> None:
    project = write(tmp_path / "p", {"requirements.txt": "django\n"})
    (warning,) = module.requirements_of(project, project, "")["warnings"]
    assert "requirements.txt does not pin every package with a hash" in warning
    assert "uv pip compile --generate-hashes" in warning


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("", "no uv.lock or pylock.toml or requirements.txt or pyproject.toml in"), ("prod.txt", "no prod.txt in")],
)
def test_missing_requirements_are_refused_with_the_variable_that_helps(
    module: ModuleType, tmp_path: Path, wanted: str, said: str
) -> None:
    with pytest.raises(module.Unusable, match=f"{re.escape(said)}.*set django_asgi_requirements"):
        module.requirements_of(tmp_path, write(tmp_path / "p", {"manage.py": ""}), wanted)


def test_an_unchanged_source_is_not_compressed_again(
    module: ModuleType, bundle: Callable, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path(bundle(project)["path"]).read_bytes()
    (kept,) = (tmp_path / "cache/django_asgi/bundles").iterdir()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with monkeypatch.context() as patch:
        patch.setattr(module.gzip, "compress", lambda *_arguments, **_options: pytest.fail("compressed again"))
        assert Path(bundle(project)["path"]).read_bytes() == content
    for damage in (content[:-20], b"", gzip.compress(b"another bundle")):
        kept.write_bytes(damage)
        assert Path(bundle(project)["path"]).read_bytes() == content


def test_the_cache_keeps_few_bundles_and_none_is_no_fault(
    bundle: Callable, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        (project / "manage.py").write_text(f"# {number}\n")
        bundle(project)
    assert len(list((tmp_path / "cache/django_asgi/bundles").iterdir())) == 5
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert set(names(bundle(project))) == set(FILES)


def test_the_gzip_header_holds_no_time(bundle: Callable, project: Path) -> None:
    content = Path(bundle(project)["path"]).read_bytes()
    assert content[4:8] == b"\0\0\0\0"
    assert gzip.decompress(content)


@pytest.mark.parametrize(
    ("files", "accepted"),
    [
        ({"pyproject.toml": '[project]\nname = "shop"\nrequires-python = ">=3.12"\n'}, ">=3.12"),
        ({"uv.lock": 'version = 1\nrequires-python = "==3.12.*"\n', "pyproject.toml": "[project]\n"}, "==3.12.*"),
    ],
)
def test_a_python_that_the_project_does_not_accept_is_refused_before_anything_is_built(
    bundle: Callable, project: Path, files: dict, accepted: str
) -> None:
    for name, text in files.items():
        (project / name).write_text(text)
    assert bundle(project, web1="3.12.4", web2="")["digest"]
    with pytest.raises(Exception, match="requires Python") as refused:
        bundle(project, web1="3.11.2", web2="3.12.4", web3="3.13.5" if "==" in accepted else "3.12.0")
    assert f"{next(iter(files))} requires Python {accepted}, but web1 has 3.11.2" in str(refused.value)
    assert "web2" not in str(refused.value)
    assert "set django_asgi_python" in str(refused.value)


def test_a_lock_may_lie_at_the_root_of_a_source_whose_manage_py_is_deeper(module, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"uv.lock": "version = 1\n", "pyproject.toml": "", "backend/manage.py": ""})
    facts = module.requirements_of(root, root / "backend", "")
    assert (facts["requirements"], facts["requirements_kind"]) == ("../uv.lock", "uv.lock")


@pytest.mark.parametrize("lock", ["poetry.lock", "pdm.lock", "Pipfile.lock"])
@pytest.mark.parametrize("named", [True, False])
def test_a_lock_that_only_its_own_tool_reads_is_refused_with_the_command_that_helps(
    bundle: Callable, project: Path, lock: str, named: bool
) -> None:
    (project / "requirements.txt").unlink()
    (project / "pyproject.toml").write_text("[project]\nname = 'shop'\n")
    (project / lock).write_text("")
    with pytest.raises(
        Exception, match=f"{lock} in .* is a lock that only its own tool reads: .* > requirements.txt'|--output req"
    ):
        bundle(project, requirements=lock if named else "")


def test_a_requirements_file_beside_such_a_lock_is_deployed(bundle: Callable, project: Path) -> None:
    (project / "poetry.lock").write_text("")
    assert bundle(project)["requirements"] == "requirements.txt"


PYLOCK = """
lock-version = "1.0"
[[packages]]
name = "django"
version = "5.2.1"
sdist = {name = "django.tar.gz", hashes = {sha256 = "aa"}}
wheels = [{name = "django.whl", hashes = {sha256 = "bb"}}]
[[packages]]
name = "colorama"
version = "0.4.6"
marker = "sys_platform == 'win32'"
wheels = [{name = "colorama.whl", hashes = {sha256 = "cc"}}]
"""


def test_a_standard_lock_is_installed_with_its_hashes(bundle: Callable, project: Path) -> None:
    (project / "pylock.toml").write_text(PYLOCK)
    facts = bundle(project)
    assert (facts["requirements"], facts["requirements_kind"], facts["warnings"]) == ("pylock.toml", "hashed", [])
    assert facts["requirements_text"] == (
        "django==5.2.1 --hash=sha256:aa --hash=sha256:bb\ncolorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:cc\n"
    )


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ('version = "1"\nvcs = {type = "git"}', "from a directory, a repository or without SHA-256"),
        ('version = "1"\nmarker = "\'dev\' in dependency_groups"\nwheels = [{hashes = {sha256 = "a"}}]', "some extras or groups"),
    ],
)
def test_a_standard_lock_that_cannot_be_installed_as_it_is(bundle: Callable, project: Path, package: str, reason: str) -> None:
    (project / "pylock.toml").write_text(f'[[packages]]\nname = "own"\n{package}\n')
    with pytest.raises(Exception, match=reason):
        bundle(project)
