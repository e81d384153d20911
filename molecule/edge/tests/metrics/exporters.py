"""A host's metrics, read as Prometheus does over HTTP, but on the host itself."""

import json
import re

import yaml
from outside import ROOT

NODE, NGINX, REQUESTS = 9100, 9113, 3903
PORTS = {NODE: "prometheus-node-exporter", NGINX: "prometheus-nginx-exporter", REQUESTS: "mtail"}
FILES = ROOT / "roles/metrics/files"
Samples = dict[tuple[str, frozenset], float]


class Metrics:
    """The exporters of a host."""

    def __init__(self, host) -> None:
        self.host = host

    def text(self, port: int) -> str:
        """Return the text of the exporter on `port` over loopback."""
        script = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode())"
        return self.host.check_output("python3 -c %s %s", script, f"http://127.0.0.1:{port}/metrics")

    def samples(self, *ports: int) -> Samples:
        """Return every sample of these exporters, by name and labels."""
        found = {}
        for line in "\n".join(self.text(port) for port in ports).splitlines():
            if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line):
                labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")
                found[match[1], frozenset(labels)] = float(match[3])
        return found

    def values(self, name: str, port: int = NODE, **labels: str) -> list[float]:
        """Return the values of the samples of `name` with these labels."""
        samples = self.samples(port).items()
        return [value for (other, found), value in samples if other == name and labels.items() <= set(found)]

    def value(self, name: str, port: int = NODE, **labels: str) -> float | None:
        """Return the value of the only sample of `name` with these labels; None if there is none."""
        found = self.values(name, port, **labels)
        assert len(found) < 2, f"{name} {labels} is not one sample but {len(found)}"
        return found[0] if found else None

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label among the samples of `name`."""
        return {dict(found)[label] for other, found in self.samples(NODE) if other == name}


def asked_for() -> dict[str, set[str]]:
    """Return the metrics that the dashboard and the alerts query, each with the labels that they select by."""
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [note["expr"] for note in dashboard["annotations"]["list"]]
    rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    queries += [rule["expr"] for group in rules for rule in group["rules"]]
    asked: dict[str, set[str]] = {}
    for name, selectors in re.findall(r"\b((?:asgi|nginx|node)_\w+)(?:\{([^}]*)\})?", " ".join(queries)):
        asked.setdefault(name, set()).update(re.findall(r"(\w+)[=!]", selectors))
    return asked
