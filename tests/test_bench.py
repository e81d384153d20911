"""The benchmark's pure parts: ratios of the same round, medians, who is ahead, the tables; and its client's view of an answer."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench/host")]

import compare
import load
import report
import servers
from lab_apps import APPS

PROCESSOR, PER_SECOND = report.METRICS[:2]


def measured(server: str, request: str, *rounds: float, share: float = 0.1) -> list[dict]:
    """Measurements of one cell, one value for each round, the same for each metric."""
    values = [{metric.key: value for metric in report.METRICS} for value in rounds]
    return [
        {"server": server, "request": request, "round": number, "client_share": share} | one for number, one in enumerate(values)
    ]


def row(table: str, server: str) -> list[str]:
    """The cells of a server in a table."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {report.SERVERS[server]} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_a_ratio_compares_measurements_of_the_same_round() -> None:
    """The machine is ten times slower in the second round, and something disturbs one server in the third."""
    found = measured("usual", "sync", 100, 1000, 100) + measured("granian", "sync", 50, 500, 400)
    assert report.ratios(found, PROCESSOR) == {("usual", "sync"): 1, ("granian", "sync"): 0.5}


def test_behind_nginx_the_usual_block_is_one_and_for_static_files_everywhere() -> None:
    found = [
        *measured("usual", "sync", 100),
        *measured("usual_nginx", "sync", 200),
        *measured("one_hop_edge", "sync", 100),
        *measured("usual_nginx", "static", 10),
        *measured("granian", "static", 30),
    ]
    ratio = report.ratios(found, PROCESSOR)
    assert ratio["usual_nginx", "sync"] == 1
    assert ratio["one_hop_edge", "sync"] == 0.5
    assert ratio["granian", "static"] == 3


def test_a_cell_shows_what_a_server_cannot_do() -> None:
    found = measured("usual", "sync", 850) + measured("gthread", "sync", 170) + measured("usual", "websocket", 90)
    table = report.table(found, PROCESSOR)
    columns = list(report.REQUESTS)
    assert row(table, "gthread")[columns.index("sync")] == "0.20"
    assert row(table, "gthread")[columns.index("websocket")] == "can't"
    assert row(table, "usual")[columns.index("sync")] == "1 (850 µs)"


def test_a_star_marks_what_the_client_limited_but_not_processor_time() -> None:
    found = measured("usual", "sync", 100) + measured("granian", "sync", 50, share=0.95)
    assert row(report.table(found, PER_SECOND), "granian")[0] == "0.50\\*"
    assert row(report.table(found, PROCESSOR), "granian")[0] == "0.50"


@pytest.mark.parametrize(
    ("granian", "metric", "expected"),
    [
        (80, PROCESSOR, "- `per_call`: sync view 1.00 (granian 0.80)"),
        (120, PER_SECOND, "- `per_call`: sync view 1.00 (granian 1.20)"),
        (97, PROCESSOR, "Nobody is ahead"),
        (120, PROCESSOR, "Nobody is ahead"),
        (80, PER_SECOND, "Nobody is ahead"),
    ],
)
def test_a_line_lists_where_others_are_ahead(granian: float, metric: report.Metric, expected: str) -> None:
    found = measured("usual", "sync", 100) + measured("per_call", "sync", 100) + measured("granian", "sync", granian)
    assert expected in report.behind(report.ratios(found, metric), metric)


def test_the_best_of_those_ahead_comes_first_and_ours_is_no_rival_of_ours() -> None:
    found = [
        *measured("usual", "sync", 100),
        *measured("per_call", "sync", 100),
        *measured("one_hop", "sync", 30),
        *measured("granian", "sync", 80),
        *measured("gthread", "sync", 20),
    ]
    text = report.behind(report.ratios(found, PROCESSOR), PROCESSOR)
    assert "`per_call`: sync view 1.00 (`gthread` 0.20, granian 0.80)" in text
    assert "`one_hop`: sync view 0.30 (`gthread` 0.20)" in text


def test_a_server_behind_nginx_is_no_rival_of_one_without() -> None:
    found = [
        *measured("usual", "sync", 100),
        *measured("usual_nginx", "sync", 50),
        *measured("per_call", "sync", 100),
        *measured("per_call_edge", "sync", 60),
    ]
    text = report.behind(report.ratios(found, PROCESSOR), PROCESSOR)
    assert "- `per_call` behind the edge: sync view 1.20 (the usual block 1.00)" in text
    assert "`per_call`: sync" not in text


def test_the_spread_is_that_of_the_ratios_not_of_the_machine() -> None:
    steady = measured("usual", "sync", 100, 1000) + measured("granian", "sync", 50, 500)
    assert report.spread(steady, PROCESSOR) == 0
    assert report.spread(measured("usual", "sync", 100, 100) + measured("granian", "sync", 50, 60), PROCESSOR) == pytest.approx(
        10 / 55
    )


def test_plays_are_multiples_of_the_ping_of_their_round() -> None:
    rounds = [{"ping": 1.0, "release": 2.0}, {"ping": 3.0, "release": 6.0}, {"ping": 1.0, "release": 9.0}]
    table = report.plays_table(rounds, {"release": "a release"})
    assert "| `ansible <host> -m ping` | 1 (1.00 s) |" in table
    assert "| a release | 2.0 |" in table


def test_the_whole_document_has_every_table_and_lines_of_the_usual_width() -> None:
    found = [one for server in report.SERVERS for request in report.REQUESTS for one in measured(server, request, 100, 100)]
    sizes = dict.fromkeys(report.GROUPS["usual"], 50.0) | {"daphne": 40.0}
    text = report.document(found, sizes, "PLAYS", "2 cores of a processor", "5 rounds")
    for title in [metric.title for metric in [*report.METRICS, report.MEMORY]]:
        assert f"### {title}" in text
    assert "Less memory than `per_call` by more than 5%: daphne." in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 130


def test_the_tables_replace_the_former_ones_and_nothing_else() -> None:
    first = report.placed("# Figures\n\n| a | b |\n", "OLD")
    assert first == "# Figures\n\n| a | b |\n\n<!-- bench -->\n\nOLD\n\n<!-- /bench -->\n"
    assert report.placed(f"{first}\nAfter.\n", "NEW") == f"{first}\nAfter.\n".replace("OLD", "NEW")


@pytest.mark.parametrize(
    ("rounds", "requests", "load_average", "reason"),
    [(15, 300, 0.2, ""), (1, 300, 0.2, "15 rounds"), (15, 200, 0.2, "300 requests"), (15, 300, 1.5, "load average was 1.50")],
)
def test_only_a_whole_run_on_an_idle_machine_is_quoted(rounds: int, requests: int, load_average: float, reason: str) -> None:
    answer = compare.quotable(rounds, requests, load_average)
    assert reason in answer and bool(answer) == bool(reason)


def test_the_description_of_the_machine_names_neither_host_nor_path() -> None:
    text = compare.machine({"Python": "3.11.2"})
    assert re.search(r"^\d+ cores? of .+, \d+ GiB, Linux [\d.]+, .*Python 3\.11\.2", text)
    assert "/" not in text and Path("/etc/hostname").read_text().strip() not in text.split()


def test_what_the_host_measures_has_a_row_and_a_column() -> None:
    deployed = {f"{sync_views}{way}" for sync_views in APPS.values() for way in ("", "_edge")}
    assert (
        {*servers.OTHERS, *deployed, "usual_nginx"}
        == set(report.SERVERS)
        == {one for group in report.GROUPS.values() for one in group}
    )
    assert {*runpy.run_path(str(ROOT / "bench/host/__main__.py"))["EXPECTED"], "websocket"} == set(report.REQUESTS)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize(
    ("received", "end"),
    [
        (HEAD[:-2], 0),
        (HEAD + b"hell", 0),
        (HEAD + b"hello", len(HEAD) + 5),
        (CHUNKED, 0),
        (CHUNKED + b"0\r\n\r\n", len(CHUNKED) + 5),
    ],
)
def test_the_client_finds_the_end_of_an_answer(received: bytes, end: int) -> None:
    assert load.Http("localhost", "/", b"hello").end(received) == end


@pytest.mark.parametrize("received", [HEAD + b"HELLO", b"HTTP/1.1 503 Service Unavailable\r\n\r\n"])
def test_the_client_refuses_a_wrong_answer(received: bytes) -> None:
    with pytest.raises(load.Failed):
        load.Http("localhost", "/", b"hello").end(received)


def test_the_client_passes_over_a_ping_and_waits_for_the_whole_text() -> None:
    websocket = load.WebSocket("localhost", "/")
    frame = bytes([0x81, len(load.TEXT)]) + load.TEXT
    assert websocket.end(b"\x89\x00" + frame) == 2 + len(frame)
    assert websocket.end(b"\x89\x00" + frame[:-1]) == 0
    with pytest.raises(load.Failed, match="closed"):
        websocket.end(b"\x88\x02\x03\xf4")
