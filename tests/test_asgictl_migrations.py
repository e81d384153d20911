"""asgictl's migrations: applied only if some are pending, and never lost unnoticed by a rollback."""

import json
from types import SimpleNamespace

import pytest
from asgictl import migrations
from asgictl import release as releases
from asgictl.app import App
from asgictl.errors import Refused
from asgictl.migrations import Migrations, migrate, migrations_of, refuse_unknown
from asgictl.release import Release
from fake_host import A, B, put_release


def knows(monkeypatch: pytest.MonkeyPatch, **of: Migrations) -> None:
    """Set how the releases compare with the database."""
    monkeypatch.setattr(migrations, "migrations_of", lambda release: of[release.id[0]])


def test_nothing_pending_runs_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    knows(monkeypatch, a=Migrations([], ["shop.0009_ghost"]))
    monkeypatch.setattr(Release, "ask", lambda *_: pytest.fail("something ran"))
    assert migrate(put_release(app, A)) == []


def test_pending_migrations_are_applied_without_questions(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def ask(_release: Release, *command: str) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=0, stderr="")

    knows(monkeypatch, a=Migrations(["shop.0002_price"], []))
    monkeypatch.setattr(Release, "ask", ask)
    assert migrate(put_release(app, A)) == ["shop.0002_price"]
    assert migrate(put_release(app, A, databases=["default", "events"])) == ["shop.0002_price"]
    assert ran == [("migrate", "30"), ("migrate", "30", "default", "events")]


def test_a_failed_migration_is_refused_with_its_last_lines(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    knows(monkeypatch, a=Migrations(["shop.0002_price"], []))
    output = "\n".join(f"line {number}" for number in range(40))
    monkeypatch.setattr(Release, "ask", lambda *_: SimpleNamespace(returncode=1, stdout="", stderr=output))
    with pytest.raises(Refused, match="the live release goes on serving") as refused:
        migrate(put_release(app, A))
    assert refused.value.details.splitlines() == [f"line {number}" for number in range(15, 40)]


SESSION = {"pid": 71, "application": "report", "state": "idle in transaction", "seconds": 95, "query": "UPDATE item SET pin = ?"}
HIDDEN = {"pid": 72, "application": "", "state": "", "seconds": None, "query": ""}


@pytest.mark.parametrize(
    ("waited_for", "sessions", "told"),
    [
        (
            "lock",
            [SESSION, HIDDEN],
            "is pid 71 (report, idle in transaction, in a transaction for 95 s): UPDATE item SET pin = ?:",
        ),
        ("lock", [HIDDEN], "is pid 72 (no application_name, hidden from this role): run again"),
        ("lock", [], "No session holds locks there now: run again"),
        ("deploy", [SESSION | {"query": ""}], "pid 71 (report, idle in transaction, in a transaction for 95 s) holds its lock"),
        ("deploy", [], "another deploy that migrates; it has ended now"),
    ],
)
def test_what_a_migration_has_waited_for_is_told(
    app: App, monkeypatch: pytest.MonkeyPatch, waited_for: str, sessions: list[dict], told: str
) -> None:
    knows(monkeypatch, a=Migrations(["shop.0002_price"], []))
    answer = {"waited_for": waited_for, "database": "default", "seconds": 30, "sessions": sessions}
    result = SimpleNamespace(returncode=1, stderr="Traceback", stdout=f"Applying\n{json.dumps(answer)}\n")
    monkeypatch.setattr(Release, "ask", lambda *_: result)
    with pytest.raises(Refused) as refused:
        migrate(put_release(app, A))
    assert told in str(refused.value)
    assert "30 s in the database 'default'" in str(refused.value)
    assert len(refused.value.details.splitlines()) == (len(sessions) if waited_for == "lock" else 0)


def test_the_way_back_is_refused_by_the_names_of_what_would_be_unknown(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    knows(monkeypatch, a=Migrations([], ["shop.0003_b", "shop.0002_a", "old.0001_x"]), b=Migrations([], ["old.0001_x"]))
    with pytest.raises(Refused) as refused:
        refuse_unknown(put_release(app, A), put_release(app, B), set())
    assert f"release {A} does not know: shop.0002_a, shop.0003_b." in str(refused.value)
    assert "run the same command with -e django_asgi_force=true (asgictl: --force)" in str(refused.value)
    assert refused.value.facts == {"migrations": ["shop.0002_a", "shop.0003_b"]}


def test_what_the_live_release_does_not_know_either_is_no_obstacle(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ghost = Migrations([], ["other.0001_initial"])
    knows(monkeypatch, a=ghost, b=ghost)
    refuse_unknown(put_release(app, A), put_release(app, B), set())


def test_migrations_that_the_target_has_and_the_database_has_not_are_no_obstacle(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    knows(monkeypatch, a=Migrations(["shop.0002_a"], []), b=Migrations([], []))
    refuse_unknown(put_release(app, A), put_release(app, B), set())


def test_a_live_release_that_is_too_broken_to_answer_is_no_obstacle(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Migrations([], ["shop.0002_a", "old.0001_x"])

    def ask(release: Release) -> Migrations:
        if release.id == B:
            raise Refused("Release b can't reach its database.")
        return known

    monkeypatch.setattr(migrations, "migrations_of", ask)
    target, live = put_release(app, A), put_release(app, B)
    refuse_unknown(target, live, set())
    with pytest.raises(Refused, match=r"does not know: shop.0002_a\."):
        refuse_unknown(target, live, {"shop.0002_a"})


def with_python(release: Release, question: str, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Replace the program that the release runs."""
    monkeypatch.setattr(releases, "text_of", lambda _name: question)
    return release


def test_the_answer_is_the_last_line_whatever_the_settings_print(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    question = 'print(\'DEBUG is on\'); print(\'{"pending": ["a.1"], "unknown": []}\')'
    assert migrations_of(with_python(put_release(app, A), question, monkeypatch)) == Migrations(["a.1"], [])


def test_a_database_that_does_not_answer_is_told_without_secrets(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "import os, sys; sys.exit('OperationalError: password ' + os.environ['PASSWORD'])"
    release = with_python(put_release(app, A), question, monkeypatch)
    with pytest.raises(Refused, match="is the database there") as refused:
        migrations_of(release)
    assert refused.value.details == "OperationalError: password ********"


def test_a_database_out_of_reach_is_told_in_a_sentence_without_secrets(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    question = """import json, os; print(json.dumps({"database": "default", "reason": "no " + os.environ["PASSWORD"]}))"""
    release = with_python(put_release(app, A), question, monkeypatch)
    with pytest.raises(Refused, match=f"Release {A} can't reach its database 'default': no [*]+[.] Check ") as refused:
        migrations_of(release)
    assert refused.value.details == ""
