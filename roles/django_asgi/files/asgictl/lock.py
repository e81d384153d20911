"""One deploy at a time: a lock that tells who holds it, and that a dead deploy does not keep.

Two locks make one. The step lock is a flock(2) that the kernel drops with the process: it keeps two steps apart. The
deploy lock is a file: it keeps a whole deploy, many steps from a controller far away, together. It holds as long as
its owner renews it, which each step does.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator

from asgictl.app import App, write_atomically
from asgictl.errors import Refused

LEASE_SECONDS = 900
# A backup runs between two steps, outside of asgictl.
BACKUP_LEASE_SECONDS = 4 * 3600
STEP_SECONDS = 120


@contextlib.contextmanager
def step(app: App) -> Iterator[None]:
    """Keep other steps of the same app out; wait up to two minutes for one that runs. Refused after that."""
    app.home.mkdir(parents=True, exist_ok=True)
    with (app.home / ".step").open("w") as file:
        deadline = time.monotonic() + STEP_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused(f"Another asgictl step of {app.name} has been running for {STEP_SECONDS} s.") from None
                time.sleep(0.1)
        yield


class DeployLock:
    """The deploy lock of `app` on this host, and what its holder has done so far."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.file = app.home / "deploy.json"

    def holder(self) -> dict | None:
        """Who holds the lock: token, owner, since, renewed (Unix times), lease (seconds), release, from; None if it is free."""
        try:
            return json.loads(self.file.read_text())
        except FileNotFoundError:
            return None

    def acquire(self, token: str, owner: str, release: str, takeover: str | None = None, **record: object) -> dict | None:
        """Take the lock for the deploy `token`; return the record of a dead deploy that it was taken from.

        `takeover` is the token of a holder that the caller knows to be dead, or `any`. Refused if somebody else
        holds the lock.
        """
        held, now = self.refuse_if_held(token, takeover), time.time()
        mine = held and held["token"] == token
        renewed = {
            "token": token,
            "owner": owner,
            "since": held["since"] if mine else now,
            "renewed": now,
            "lease": LEASE_SECONDS,
        }
        self._write(renewed | {"release": release, "from": self.app.live(), **record})
        return None if mine else held

    def refuse_if_held(self, token: str, takeover: str | None) -> dict | None:
        """Refuse if a deploy other than `token` and `takeover` holds the lock; return its holder's record otherwise."""
        held, now = self.holder(), time.time()
        if held and held["token"] != token:
            expired = now - held["renewed"] > held.get("lease", LEASE_SECONDS)
            if not expired and takeover not in (held["token"], "any"):
                raise Refused(self._held_by(held, now), locked=held)
        return held

    def renew(self, token: str, lease: int = LEASE_SECONDS, **record: object) -> dict:
        """Go on holding the lock for `lease` seconds, noting `record` in it; Refused if somebody took it over meanwhile."""
        held = self.holder()
        if not held or held["token"] != token:
            by = f"taken over by {held['owner']}" if held else "released"
            raise Refused(f"This deploy of {self.app.name} no longer holds its lock: it was {by}. Start it again.")
        held |= {"renewed": time.time(), "lease": lease, **record}
        self._write(held)
        return held

    def release(self, token: str) -> None:
        """Give the lock back if `token` holds it."""
        held = self.holder()
        if held and held["token"] == token:
            self.file.unlink()

    def _write(self, record: dict) -> None:
        write_atomically(self.file, json.dumps(record))

    def _held_by(self, held: dict, now: float) -> str:
        since = time.strftime("%H:%M:%S UTC", time.gmtime(held["since"]))
        frees = max(0, round(held.get("lease", LEASE_SECONDS) - (now - held["renewed"])))
        return (
            f"{held['owner']} is deploying {self.app.name} (release {held['release']}) since {since}, "
            f"{round(now - held['since'])} s ago. Wait until that has ended and run again; if it is dead, its lock "
            f"ends by itself in {frees} s. To take it over now, run the same command with "
            f"-e django_asgi_lock_takeover=true (asgictl: --take-over)."
        )
