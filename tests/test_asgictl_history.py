"""asgictl's history: one JSON object a line, only ever appended to, readable after any crash."""

import json
import re

from asgictl import history
from asgictl.app import App


def test_an_app_without_a_history_has_no_entries(app: App) -> None:
    assert history.entries(app, 8) == []


def test_entries_come_back_in_order_with_their_time(app: App) -> None:
    for number in range(3):
        history.record(app, kind="deploy", number=number)
    entries = history.entries(app, 8)
    assert [entry["number"] for entry in entries] == [0, 1, 2]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"]) for entry in entries)


def test_only_the_last_ones_are_returned(app: App) -> None:
    for number in range(10):
        history.record(app, number=number)
    assert [entry["number"] for entry in history.entries(app, 3)] == [7, 8, 9]


def test_text_with_newlines_stays_on_one_line(app: App) -> None:
    history.record(app, reason="first\nsecond")
    assert len(app.history_file.read_text().splitlines()) == 1
    assert history.entries(app, 1)[0]["reason"] == "first\nsecond"


def test_a_line_that_a_crash_cut_short_costs_that_entry_alone(app: App) -> None:
    history.record(app, number=1)
    with app.history_file.open("a") as file:
        file.write('{"time": "2026-11-20T10:00:00Z", "numb')
    history.record(app, number=2)
    history.record(app, number=3)
    assert [entry["number"] for entry in history.entries(app, 8)] == [1, 2, 3]


def test_the_record_is_one_json_object_a_line(app: App) -> None:
    history.record(app, kind="deploy")
    history.record(app, kind="rollback")
    assert [json.loads(line)["kind"] for line in app.history_file.read_text().splitlines()] == ["deploy", "rollback"]
