"""Fixtures of the unit tests: a host in a directory, a systemd in memory, and the collection's plugins as modules."""

import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[1]
ROLE = ROOT / "roles/django_asgi"
sys.path.insert(0, str(ROLE / "files"))
pytest.register_assert_rewrite("edge", "fake_host", "instance")
# Before anything imports from ansible_collections.
init_plugin_loader([str(ROOT / "playbooks/collections")])

from asgictl.app import App
from edge import Edge
from fake_host import MEMORY, Systemd
from instance import Instance


@pytest.fixture(scope="session")
def role() -> Path:
    """The directory of the role django_asgi."""
    return ROLE


@pytest.fixture(scope="session")
def plugin() -> Callable[[str], ModuleType]:
    """A function that imports a plugin of the collection by its path below plugins/."""

    def load(path: str) -> ModuleType:
        name = path.removesuffix(".py").replace("/", "_")
        spec = importlib.util.spec_from_file_location(name, ROOT / "plugins" / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path is short enough for the 107 bytes that a Unix socket's address may have."""
    with tempfile.TemporaryDirectory(prefix="unit", dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture
def app(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """An app called shop on a host that lies in a directory; nothing runs as another user there."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    app = App("shop", short_path)
    app.ensure_directories()
    app.units.mkdir(parents=True)
    app.policy_file.parent.mkdir(parents=True)
    app.policy_file.write_text("{}")
    return app


@pytest.fixture
def systemd(app: App, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """The systemd of that host, in memory; gates pass everything except what is in its `fails_gate`."""
    return Systemd(app, monkeypatch)


@pytest.fixture(scope="module")
def instance(role: Path) -> Iterator[Callable[..., Instance]]:
    """A function that makes an instance."""
    with tempfile.TemporaryDirectory(prefix="unit") as directory, contextlib.ExitStack() as stack:

        def make(name: str, workers: int = 1, **variables: object) -> Instance:
            made = Instance(Path(directory, name), role, workers, **variables)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture(scope="module")
def edge() -> Iterator[Callable[..., Edge]]:
    """A function that makes an edge."""
    with tempfile.TemporaryDirectory(prefix="unit") as directory, contextlib.ExitStack() as stack:

        def make(name: str, upstream: str, **variables: object) -> Edge:
            made = Edge(Path(directory, name), upstream, **variables)
            stack.callback(made.stop)
            return made

        yield make
