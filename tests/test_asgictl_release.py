"""asgictl's files: the environment file that systemd and manage.py both read, and what is redacted."""

import stat
from pathlib import Path

import pytest
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.release import Release, environment_file, quote, read_environment_file
from fake_host import A, put_release

NASTY = {
    "PLAIN": "value",
    "EMPTY": "",
    "SPACES": "  around  and  between  ",
    "QUOTES": "a \"double\" and a 'single' one",
    "BACKSLASH": r"C:\new\table \\ \" \$ \n",
    "ENDS_IN_BACKSLASH": "tail\\",
    "DOLLAR": "$HOME ${PATH} $$ $(id) `id`",
    "NEWLINES": "first\nsecond\n\nlast\n",
    "BACKSLASH_NEWLINE": "not a\\\ncontinuation",
    "CARRIAGE_RETURN": "-----BEGIN KEY-----\r\nAAAA\r\n",
    "LOOKS_LIKE_A_VARIABLE": 'x"\nOTHER="y',
    "COMMENT": "# no comment ; nor this",
    "UNICODE": "Grüße, 東京, 🚀",
    "PERCENT": "100% %h %i",
    "TABS": "a\tb",
}


def as_systemd_reads(text: str) -> dict[str, str]:
    """Parse an EnvironmentFile= with the states of systemd's own parser (src/basic/env-file.c)."""
    variables, name, value, state = {}, "", "", "name"
    for char in text:
        if state == "name":
            name, state = (name, "before value") if char == "=" else (name + char, state)
        elif state == "before value":
            if char == '"':
                state = "double quotes"
            elif char in "\n\r":
                variables[name] = value
                name, value, state = "", "", "name"
            else:
                raise AssertionError(f"{char!r} outside of quotes")
        elif state == "double quotes":
            if char == '"':
                state = "before value"
            elif char == "\\":
                state = "escape"
            else:
                value += char
        else:
            if char in '"\\`$':
                value += char
            elif char != "\n":
                value += "\\" + char
            state = "double quotes"
    assert state == "name", f"the text ends in the state {state!r}"
    return variables


def test_systemd_reads_back_what_was_written() -> None:
    assert as_systemd_reads(environment_file(NASTY)) == NASTY


def test_manage_py_reads_the_same_as_systemd() -> None:
    assert read_environment_file(environment_file(NASTY)) == NASTY


def test_secrets_on_disk_survive_unchanged(app: App) -> None:
    release = put_release(app, A)
    (release.directory / "secrets").write_bytes(environment_file(NASTY).encode())
    assert release.secrets == NASTY


def test_variables_are_sorted_by_name() -> None:
    assert environment_file({"B": "2", "A": "1"}) == 'A="1"\nB="2"\n'


def test_only_what_systemd_unescapes_is_escaped() -> None:
    assert quote("a\"b\\c$d`e'f#g%h") == '"a\\"b\\\\c\\$d\\`e\'f#g%h"'


def test_the_app_sees_the_roles_variables_then_the_users(app: App) -> None:
    release = put_release(app, A, env={"COLOUR": "red"}, worker_count=3)
    assert release.variables() == {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "STATIC_ROOT": f"{app.releases}/{A}/static",
        "STATE_DIRECTORY": str(app.state_directory),
        "APP_RELEASE": A,
        "WEB_CONCURRENCY": "3",
        "COLOUR": "red",
    }


def test_below_a_prefix_every_python_finds_the_roles_module_where_the_release_will_be(app: App) -> None:
    release = put_release(app, A, path_prefix="/shop")
    own = {"APP_PATH_PREFIX": "/shop", "PYTHONPATH": "/final"}
    assert release.variables(Path("/final")) == release.variables(Path("/final")) | own
    assert release.process_settings()["env"]["PYTHONPATH"] == str(release.directory)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("shop@{release}", f"shop@{A}"),
        ("{static_root}/app.json", "HOME/releases/ID/static/app.json"),
        ("sqlite:///{state}/db", "sqlite:///STATE/db"),
        ("{source}:{source}/lib", "HOME/releases/ID/src/backend:HOME/releases/ID/src/backend/lib"),
        ("{{release}}, {{source}}", "{release}, {source}"),
        ('{"a": {"b": "{release}"}, "c": {release}}', '{"a": {"b": "ID"}, "c": ID}'),
        ("{{release} {release }} {Release} {releases} {} {{}} {0} %{x}", "{ID {release }} {Release} {releases} {} {{}} {0} %{x}"),
    ],
)
def test_a_value_may_name_what_only_its_release_knows_and_every_other_brace_stays(app: App, value: str, seen: str) -> None:
    release = put_release(app, A, env={"IT": value}, project_dir="backend")
    for word, path in {"HOME": app.home, "STATE": app.state_directory, "ID": A}.items():
        seen = seen.replace(word, str(path))
    assert release.variables()["IT"] == seen
    assert release.process_settings()["env"]["IT"] == seen


def test_manage_py_gets_secrets_and_the_services_umask(app: App) -> None:
    settings = put_release(app, A).process_settings()
    assert settings["env"]["PASSWORD"] == "correct horse"
    assert settings["umask"] == 0o027
    assert "user" not in settings


def test_every_secret_is_redacted_the_longer_one_first(app: App) -> None:
    release = put_release(app, A)
    secrets = {"SHORT": "horse", "LONG": "horse battery", "TINY": "abc"}
    (release.directory / "secrets").write_text(environment_file(secrets))
    assert release.redact("horse battery, a horse, abc") == "********, a ********, abc"


def test_the_output_of_manage_py_is_redacted(app: App) -> None:
    release = put_release(app, A)
    (release.directory / "src/manage.py").write_text("import os, sys; print(sys.argv[1], os.environ['PASSWORD'])")
    assert release.manage("check").stdout == "check ********\n"


def test_a_release_that_is_not_there_is_refused_by_name(app: App) -> None:
    with pytest.raises(Refused, match=f"Release {A} of shop is not on this host; deploy it again"):
        Release(app, A).manifest  # noqa: B018


def test_secrets_are_readable_by_root_alone(app: App) -> None:
    secrets = put_release(app, A).directory / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
