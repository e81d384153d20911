"""asgictl against a model: after any events in any order, what is live, where a rollback goes and what is on disk agree."""

import itertools
import tempfile
from pathlib import Path

import pytest
from asgictl.app import App
from asgictl.deploy import Deploy, roll_back
from asgictl.errors import Refused
from asgictl.release import Release
from asgictl.stage import is_complete
from asgictl.state import load
from fake_host import MEMORY, A, B, C, D, Systemd, order_of, previous_of, put_release
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from killing import KILLER

RELEASES = st.sampled_from([A, B, C, D])


class Host(RuleBasedStateMachine):
    """One host; the model is the list of releases that were live, oldest first, and those that somebody went back from."""

    @initialize()
    def boot(self) -> None:
        """Begin with a host that has no release."""
        self.patch = pytest.MonkeyPatch()
        self.directory = tempfile.TemporaryDirectory(prefix="unit", dir=MEMORY)
        self.app = App("shop", Path(self.directory.name))
        self.app.ensure_directories()
        self.app.units.mkdir(parents=True)
        self.app.policy_file.parent.mkdir(parents=True)
        self.systemd = Systemd(self.app, self.patch)
        self.tokens = map(str, itertools.count())
        self.lived: list[str] = []
        self.bad: set[str] = set()
        self.settled = True

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "patch"):
            self.patch.undo()
            self.directory.cleanup()

    # --- What the model says ---------------------------------------------------------------------------------------
    @property
    def live(self) -> str | None:
        """The release that has to be live."""
        return self.lived[-1] if self.lived else None

    @property
    def previous(self) -> str | None:
        """Where a rollback has to go."""
        last = list(dict.fromkeys(reversed(self.lived)))
        there = self.app.staged()
        return next((release for release in last[1:] if release not in self.bad and release in there), None)

    def goes_live(self, release: str, back: bool = False) -> None:
        """Note that a release has become the live one."""
        if release == self.live:
            return
        order = list(dict.fromkeys(self.lived))
        if back and self.live and order.index(release) < order.index(self.live):
            self.bad.add(self.live)
        self.bad.discard(release)
        self.lived.append(release)

    # --- What happens ----------------------------------------------------------------------------------------------
    def begin(self, release: str) -> Deploy:
        """Begin a deploy as a controller does, which takes over from one that is dead."""
        steps = Deploy(self.app, next(self.tokens))
        steps.begin(release, "ann@laptop", takeover="any")
        if not is_complete(Release(self.app, release)):
            put_release(self.app, release)
        return steps

    def whole(self, release: str) -> None:
        """Deploy a release from beginning to end."""
        steps = self.begin(release)
        steps.ready(release)
        steps.switch(release)
        steps.commit(release)
        self.settled = True

    @rule(release=RELEASES)
    def deploy(self, release: str) -> None:
        """A deploy that succeeds."""
        self.whole(release)
        self.goes_live(release)

    @rule(release=RELEASES, switched=st.booleans())
    def fail(self, release: str, switched: bool) -> None:
        """A deploy that fails before or after its cut-over."""
        steps = self.begin(release)
        steps.ready(release)
        if switched:
            steps.switch(release)
        steps.abort("It was not to be.")
        self.settled = True

    @rule(release=RELEASES, before=st.integers(min_value=1, max_value=60))
    def kill(self, release: str, before: int) -> None:
        """A deploy whose program is killed before one of its changes, and the same one again."""
        try:
            KILLER.run(self.app.root, before, lambda: self.whole(release))
        finally:
            self.whole(release)
        self.goes_live(release)

    @rule(release=RELEASES, before=st.integers(min_value=1, max_value=60))
    def kill_for_good(self, release: str, before: int) -> None:
        """A deploy whose program is killed; nobody tries it again, and the next command finds what it has left."""
        killed = KILLER.run(self.app.root, before, lambda: self.whole(release))
        self.settled = not killed
        if not killed or load(self.app).live() == release:
            self.goes_live(release)

    @precondition(lambda self: len(set(self.lived)) > 1)
    @rule(data=st.data(), named=st.booleans())
    def roll_back(self, data: st.DataObject, named: bool) -> None:
        """A rollback, to a release that is named or to the one before."""
        target = data.draw(st.sampled_from(order_of(self.app))) if named else None
        expected = target or self.previous
        if expected is None:
            with pytest.raises(Refused, match="no release before the live one"):
                roll_back(self.app, target, "", force=True, takeover=True)
            return
        assert roll_back(self.app, target, "", force=True, takeover=True)["release"] == expected
        self.settled = True
        self.goes_live(expected, back=True)

    @rule(release=RELEASES, connections=st.integers(min_value=0, max_value=2))
    def connect(self, release: str, connections: int) -> None:
        """Visitors come, stay or go."""
        self.systemd.connections[release] = connections

    @rule()
    def retire(self) -> None:
        """All that retires comes to its end."""
        if load(self.app).attempt is None:
            self.systemd.let_retire()

    @rule(kept=st.integers(min_value=1, max_value=3))
    def keep(self, kept: int) -> None:
        """Another number of releases is to be kept."""
        self.app.policy_file.write_text(f'{{"keep_releases": {kept}}}')

    # --- What has to be so at any time -----------------------------------------------------------------------------
    @invariant()
    def agree(self) -> None:
        """The host is what the model says, but for a deploy that was killed and is not yet undone."""
        if not hasattr(self, "app"):
            return
        state = load(self.app)
        assert state.live() == self.live
        if self.live:
            assert self.systemd.states.get(f"shop@{self.app.live()}.service") == "active", "nothing serves"
            assert self.live in self.app.staged()
        if state.attempt is None:
            assert self.app.live() == self.live
            assert previous_of(self.app) == self.previous
            enabled, wanted = self.systemd.enabled(), {self.live} if self.live else set()
            # Killed right after the commit, a deploy leaves its last steps to the next command.
            assert enabled == wanted if self.settled else enabled >= wanted
        # A release that was pruned is new when it is deployed again.
        there = {*self.app.staged(), self.live}
        self.lived = [release for release in self.lived if release in there]


TestHost = Host.TestCase
TestHost.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
