"""From measurements to tables: ratios, medians, who is ahead, and the text for docs/figures.md. Nothing here measures.

A ratio compares two measurements of the same round, so that a machine that gets slower or faster meanwhile doesn't tilt it; of the
rounds' ratios the median counts.
"""

import textwrap
from dataclasses import dataclass
from statistics import median

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
SERVERS = {
    "usual": "gunicorn with `UvicornWorker`",
    "per_call": "this collection, `per_call`",
    "one_hop": "this collection, `one_hop`",
    "gunicorn_asgi": "gunicorn's own ASGI worker",
    "granian": "granian",
    "daphne": "daphne",
    "gthread": "gunicorn with `gthread` (WSGI)",
    "usual_nginx": "`UvicornWorker` behind the usual block of nginx",
    "per_call_edge": "this collection behind its edge, `per_call`",
    "one_hop_edge": "this collection behind its edge, `one_hop`",
}
# What is 1 for the servers without nginx and for those behind it.
GROUPS = {
    "usual": ["usual", "per_call", "one_hop", "gunicorn_asgi", "granian", "daphne", "gthread"],
    "usual_nginx": ["usual_nginx", "per_call_edge", "one_hop_edge"],
}
OURS = {
    "per_call": "`per_call`",
    "one_hop": "`one_hop`",
    "per_call_edge": "`per_call` behind the edge",
    "one_hop_edge": "`one_hop` behind the edge",
}
# The others in a sentence.
SHORT = {
    "usual": "`UvicornWorker`",
    "gunicorn_asgi": "gunicorn's ASGI worker",
    "granian": "granian",
    "daphne": "daphne",
    "gthread": "`gthread`",
    "usual_nginx": "the usual block",
}
REQUESTS = {
    "sync": "sync view",
    "async": "async view",
    "drf": "REST framework",
    "page": "template page",
    "stream": "stream",
    "websocket": "WebSocket echo",
    "static": "static file",
}
# A difference below this is one that two runs of the same server have too.
MARGIN = 0.05
# From this part of a core on, the client and not the server is what is measured.
CLIENT_BUSY = 0.85
WIDTH = 130


@dataclass(frozen=True)
class Metric:
    """One measured quantity: its key in a measurement, its heading, unit, and whether more is better."""

    key: str
    title: str
    unit: str
    more_is_better: bool = False


METRICS = [
    Metric("processor_us", "Processor time of a request", "µs"),
    Metric("per_second", "Requests a second", "", more_is_better=True),
    Metric("p50_ms", "Half of the answers within", "ms"),
    Metric("p99_ms", "99 % of the answers within", "ms"),
]
MEMORY = Metric("memory_mib", "Memory after the rounds", "MiB")

Ratios = dict[tuple[str, str], float]


def base_of(server: str, request: str) -> str:
    """Return the server that is 1: gunicorn with UvicornWorker, behind nginx for a static file, which it can't send itself."""
    return "usual_nginx" if request == "static" or server in GROUPS["usual_nginx"] else "usual"


def ratios(found: list[dict], metric: Metric) -> Ratios:
    """Return the median of the rounds' ratios, by server and request; a pair that was not measured is missing."""
    values = {(one["server"], one["request"], one["round"]): one[metric.key] for one in found}
    each: dict[tuple[str, str], list[float]] = {}
    for (server, request, number), value in values.items():
        base = values.get((base_of(server, request), request, number))
        if base:
            each.setdefault((server, request), []).append(value / base)
    return {pair: median(several) for pair, several in each.items()}


def medians(found: list[dict], metric: Metric) -> Ratios:
    """Return the median of the rounds themselves, in the metric's unit."""
    each: dict[tuple[str, str], list[float]] = {}
    for one in found:
        each.setdefault((one["server"], one["request"]), []).append(one[metric.key])
    return {pair: median(several) for pair, several in each.items()}


def spread(found: list[dict], metric: Metric) -> float:
    """Return by which part of itself the middle one of all ratios differs between rounds, 0 with fewer than two rounds."""
    rounds = sorted({one["round"] for one in found})
    each = [ratios([one for one in found if one["round"] == number], metric) for number in rounds]
    parts = []
    for server, request in ratios(found, metric):
        several = [some[server, request] for some in each if (server, request) in some]
        if len(several) > 1 and server != base_of(server, request):
            parts.append((max(several) - min(several)) / median(several))
    return median(parts) if parts else 0.0


def short(value: float) -> str:
    """Return a number with two or three significant digits."""
    if value >= 99.5:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


def cell(metric: Metric, pair: tuple[str, str], ratio: Ratios, absolute: Ratios, limited: set[tuple[str, str]]) -> str:
    """Return one cell: the ratio, the measured value too where the ratio is 1, and a star where the client was the limit."""
    server, request = pair
    if pair not in ratio:
        return "can't"
    star = "\\*" if pair in limited and metric.key != "processor_us" else ""
    if server == base_of(server, request):
        return f"1 ({short(absolute[pair])}{' ' + metric.unit if metric.unit else ''}){star}"
    return short(ratio[pair]) + star


def table(found: list[dict], metric: Metric) -> str:
    """Return the Markdown table of one metric: a row for each server, a column for each kind of request."""
    ratio, absolute, limited = ratios(found, metric), medians(found, metric), client_limited(found)
    rows = ["| | " + " | ".join(REQUESTS.values()) + " |", "|---" * (len(REQUESTS) + 1) + "|"]
    for server, name in SERVERS.items():
        cells = [cell(metric, (server, request), ratio, absolute, limited) for request in REQUESTS]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def client_limited(found: list[dict]) -> set[tuple[str, str]]:
    """Return the pairs of server and request in which the client took nearly a whole core itself."""
    shares = medians(found, Metric("client_share", "", ""))
    return {pair for pair, share in shares.items() if share >= CLIENT_BUSY}


def better(metric: Metric, one: float, other: float) -> bool:
    """Whether `one` is better than `other` by more than the margin."""
    return one > other * (1 + MARGIN) if metric.more_is_better else one < other * (1 - MARGIN)


def behind(ratio: Ratios, metric: Metric) -> str:
    """Return a list of where each of ours is behind other servers of its group, the best of them first; or that none is ahead."""
    lines = []
    for servers in GROUPS.values():
        for ours in (server for server in servers if server in OURS):
            lost = []
            for request, name in REQUESTS.items():
                rivals = [server for server in servers if server not in OURS and (server, request) in ratio]
                ahead = [
                    rival
                    for rival in sorted(rivals, key=lambda rival: ratio[rival, request], reverse=metric.more_is_better)
                    if (ours, request) in ratio and better(metric, ratio[rival, request], ratio[ours, request])
                ]
                if ahead:
                    others = ", ".join(f"{SHORT[rival]} {short(ratio[rival, request])}" for rival in ahead)
                    lost.append(f"{name} {short(ratio[ours, request])} ({others})")
            if lost:
                lines.append(wrapped(f"- {OURS[ours]}: {'; '.join(lost)}", "  "))
    if not lines:
        return f"Nobody is ahead of this collection by more than {MARGIN:.0%}."
    return "\n".join([f"Others are ahead of this collection by more than {MARGIN:.0%}:", "", *lines])


def memory_table(sizes: dict[str, float]) -> str:
    """Return the table of each server's memory, from MiB by server."""
    rows = ["| | memory |", "|---|---|"]
    for server in GROUPS["usual"]:
        one = sizes[server] / sizes["usual"]
        rows.append(f"| {SERVERS[server]} | {short(one) if server != 'usual' else f'1 ({short(sizes[server])} {MEMORY.unit})'} |")
    return "\n".join(rows)


def plays_table(rounds: list[dict[str, float]], names: dict[str, str]) -> str:
    """Return the table of plays as multiples of the same round's ping, from the seconds of each."""
    rows = [
        "| | times a ping |",
        "|---|---|",
        f"| `ansible <host> -m ping` | 1 ({median(one['ping'] for one in rounds):.2f} s) |",
    ]
    for key, name in names.items():
        rows.append(f"| {name} | {median(one[key] / one['ping'] for one in rounds):.1f} |")
    return "\n".join(rows)


def wrapped(text: str, indent: str = "") -> str:
    """Return the text in lines of the width that the documents have, all but the first with an indent."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def variation(found: list[dict]) -> str:
    """Return a sentence on how much the rounds differ, to go behind another one; nothing if there was only one round."""
    if len({one["round"] for one in found}) < 2:
        return ""
    processor, rate = (spread(found, metric) for metric in METRICS[:2])
    return (
        f" Half of the ratios vary by less than {processor:.0%} from round to round (processor time; largest minus smallest), "
        f"or {rate:.0%} (requests a second)."
    )


def document(found: list[dict], sizes: dict[str, float], plays: str, machine: str, how: str) -> str:
    """Return all tables, with what was measured and where."""
    parts = [
        "## Servers side by side",
        wrapped(
            f"One run of `make bench`, {how}, one worker of each server, on {machine}. 1 is `gunicorn -k "
            "uvicorn_worker.UvicornWorker`, alone or behind the block of nginx that most instructions have; for a static file it is "
            "that block in each row. Behind nginx the processor time is the worker's and nginx's together. `can't`: the server does "
            "not serve that (WSGI has no WebSockets, and most servers leave static files to nginx)." + variation(found)
        ),
    ]
    for metric in METRICS:
        ratio = ratios(found, metric)
        parts += [f"### {metric.title}", table(found, metric)]
        if metric.key != "processor_us" and client_limited(found):
            parts.append("\\* the client took nearly a whole core, so the server could do more.")
        parts.append(behind(ratio, metric))
    lighter = [SERVERS[one] for one in GROUPS["usual"] if one not in OURS and better(MEMORY, sizes[one], sizes["per_call"])]
    parts += [f"### {MEMORY.title}", memory_table(sizes)]
    parts.append(wrapped(f"Less memory than `per_call` by more than {MARGIN:.0%}: {', '.join(lighter) or 'nobody'}."))
    parts += ["### A release's plays", plays]
    return "\n\n".join(parts)


def placed(text: str, tables: str) -> str:
    """Return a document with the tables between the markers, which are added at its end if it has none."""
    before, mark, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if mark else ""
    return f"{before.rstrip()}\n\n{BEGIN}\n\n{tables}\n\n{END}{after or chr(10)}"
