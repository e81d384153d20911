"""Even workers: each accepts connections by itself, and leaves them to workers that hold fewer.

The kernel wakes every worker for a connection, and mostly the same one comes first. So the workers write how many connections
they hold into shared memory. A worker that is LEAD ahead of the least loaded one pauses for PAUSE_SECONDS, and another one
accepts. A worker that leaves a connection lying for PAUSES pauses is waited for ever more rarely until its event loop shows life,
so one that hangs or was killed holds nobody back. No clocks are compared, and gunicorn needs no hook.
"""

import asyncio
import fcntl
import logging
import mmap
import os
import select
import socket
from collections.abc import Callable

from long_connections import LongConnections

# Fewer would make workers pause for differences that the end of a request evens out.
LEAD = 4
PAUSE_SECONDS = 0.001
PAUSES = 5
# Of the connections while another worker hangs, one in 128 waits for it.
MOST_DOUBLINGS = 7
# A kept-alive connection that becomes idle makes room without a connection's end, which only a look can find.
FULL_SECONDS = 0.02
LIFE_SECONDS = 0.1
# Without descriptors or memory for a connection, another attempt at once would only keep the processor busy.
FAILURE_SECONDS = 0.5
# Twice the 128 workers that django_asgi_workers allows, as at gunicorn's reload, and as many for SIGTTIN.
SEATS = 512
TAKES_NONE = -1

logger = logging.getLogger("uvicorn.error")


class Board:
    """Shared memory with a seat for each worker: two numbers, its connections (or TAKES_NONE) and its signs of life.

    It has to be made before the workers are forked. Only a seat's worker writes there, so nothing needs a lock; the seat itself
    is held by a record lock (fcntl(2)), which the kernel releases when its worker ends, however it ends.
    """

    def __init__(self) -> None:
        # Not os.memfd_create, which Pythons that are built against an old C library lack.
        self.file = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        size = SEATS * 16
        os.truncate(self.file, size)
        self.numbers = memoryview(mmap.mmap(self.file, size)).cast("q")

    def take_seat(self) -> "Seat":
        """Return the first free seat; if all are taken, one on a board of its own, whose worker waits for nobody."""
        for index in range(SEATS):
            try:
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
            except OSError:
                continue
            return Seat(self, index)
        return Board().take_seat()


class Seat:
    """A worker's own place on the board."""

    def __init__(self, board: Board, index: int) -> None:
        self.board, self.index = board, index
        # What this worker has accepted so far, in connections.
        self.accepted = 0
        # Seats that were waited for in vain: their signs of life, how often, and the accepted connection until which they don't count.
        self.given_up: dict[int, tuple[int, int, int]] = {}

    def show(self, connections: int) -> None:
        """Show the others how many connections this worker holds, or TAKES_NONE; it's a sign of life too."""
        numbers = self.board.numbers
        numbers[2 * self.index] = connections
        numbers[2 * self.index + 1] += 1

    def least(self) -> int | None:
        """The fewest connections that another worker holds; None if there is none to wait for."""
        return min((count for index, count, life in self._others() if self._counts(index, count, life)), default=None)

    def give_up(self, connections: int) -> None:
        """Wait no more for workers with fewer connections, until they show life or this one has accepted a few more.

        Each time without a sign of life doubles that number, so a short delay costs little evenness, and a hung worker little time.
        """
        for index, count, life in self._others():
            if count < connections and self._counts(index, count, life):
                known, times, _ = self.given_up.get(index, (life, 0, 0))
                times = times + 1 if known == life else 1
                self.given_up[index] = life, times, self.accepted + 2 ** min(times, MOST_DOUBLINGS)

    def _counts(self, index: int, count: int, life: int) -> bool:
        known, _, until = self.given_up.get(index, (0, 0, 0))
        return count != TAKES_NONE and (known != life or self.accepted >= until)

    def _others(self) -> list[tuple[int, int, int]]:
        # First seats are taken first, so one that was never taken ends the list.
        found, numbers = [], self.board.numbers
        for index in range(SEATS):
            if not (life := numbers[2 * index + 1]):
                break
            if index != self.index:
                found.append((index, numbers[2 * index], life))
        return found


class Connections(set):
    """uvicorn's set of connections, which reports each change: `added` with the connection, `removed` without arguments.

    `websockets` is how many of them are WebSockets; only uvicorn's HTTP protocols have a `cycle`.
    """

    def __init__(self, added: Callable[[asyncio.Protocol], None], removed: Callable[[], None]) -> None:
        super().__init__()
        self.added, self.removed = added, removed
        self.websockets = 0

    def add(self, connection: asyncio.Protocol) -> None:
        """Add a connection, as uvicorn does when one begins, or has become a WebSocket."""
        if connection not in self:
            super().add(connection)
            self.websockets += not hasattr(connection, "cycle")
        self.added(connection)

    def discard(self, connection: asyncio.Protocol) -> None:
        """Take a connection out, if it is there."""
        if connection in self:
            self.remove(connection)

    def remove(self, connection: asyncio.Protocol) -> None:
        """Take a connection out; KeyError if it isn't there."""
        super().remove(connection)
        self.websockets -= not hasattr(connection, "cycle")
        self.removed()


class FairServer:
    """Accepts on listening sockets for a worker; `close` and `wait_closed` are those of asyncio.Server.

    `protocol` makes the protocol of a connection. `limit` is the number of requests under way with which the worker is full;
    further connections wait in the socket's backlog. An idle kept-alive connection doesn't count there, because the edge, which
    has the same limit, doesn't count it either; WebSockets and event streams have a budget of their own, `long`. Make it within a
    running event loop.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        protocol: Callable[[], asyncio.Protocol],
        limit: int,
        long: LongConnections,
        ssl: object = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.sockets, self.protocol, self.limit, self.long, self.ssl = sockets, protocol, limit, long, ssl
        self.connections = Connections(self._added, self._changed)
        # The protocols of what was accepted, but isn't yet among the connections, and the tasks that make it so.
        self.arrivals: set[asyncio.Protocol] = set()
        self.tasks: set[asyncio.Task] = set()
        self.pauses = 0
        self.pause: asyncio.TimerHandle | None = None
        self.closed = False
        self.waiting = select.poll()
        for listener in sockets:
            listener.setblocking(False)
            self.waiting.register(listener.fileno(), select.POLLIN)
        self.seat = _board.take_seat()

    def start(self) -> None:
        """Accept from now on."""
        self._show_life()
        self._read()

    def close(self) -> None:
        """Accept no more, and close the sockets; connections stay. A second call does nothing."""
        if self.closed:
            return
        self._stop_reading()
        self.life.cancel()
        if self.pause:
            self.pause.cancel()
        self.closed = True
        self.seat.show(TAKES_NONE)
        for listener in self.sockets:
            listener.close()

    async def wait_closed(self) -> None:
        """Return when each accepted connection is among the connections."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def _read(self) -> None:
        for listener in self.sockets:
            self.loop.add_reader(listener.fileno(), self._accept, listener)

    def _stop_reading(self) -> None:
        for listener in self.sockets:
            self.loop.remove_reader(listener.fileno())

    def _held(self) -> int:
        return len(self.connections) + len(self.arrivals)

    def _full(self, held: int) -> bool:
        # Looking at each connection is only worth its time if there are many.
        short = held - self.connections.websockets - self.long.streams
        return short >= self.limit and short - sum(map(_idle, self.connections)) >= self.limit

    def _ahead(self, held: int) -> bool:
        # Nobody holds less than nothing, so a worker with few connections needs no look at the others.
        if held < LEAD:
            return False
        least = self.seat.least()
        return least is not None and held - least >= LEAD

    def _added(self, connection: asyncio.Protocol) -> None:
        if connection in self.arrivals:
            self.arrivals.remove(connection)
        else:
            self._changed()

    def _show(self) -> None:
        if not self.closed:
            held = self._held()
            self.seat.show(TAKES_NONE if self._full(held) else held)

    def _changed(self) -> None:
        self._show()
        # An end of a connection may be the end of the reason for a pause.
        if self.pause and not self.closed and not self._full(held := self._held()) and not self._ahead(held):
            self.pauses = 0
            self._end_pause()

    def _show_life(self) -> None:
        self._show()
        self.life = self.loop.call_later(LIFE_SECONDS, self._show_life)

    def _accept(self, listener: socket.socket) -> None:
        # One attempt in each turn of the event loop would cost more; without end it would keep the connections waiting.
        for _ in range(LEAD):
            held = self._held()
            if self._full(held):
                self._pause_for(FULL_SECONDS)
                return
            if self._ahead(held):
                if self.pauses < PAUSES:
                    self.pauses += 1
                    self._pause_for(PAUSE_SECONDS)
                    return
                self.seat.give_up(held)
            self.pauses = 0
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Another worker was faster; it may wait for this one next time.
                self._show()
                return
            except OSError as error:
                logger.error("The worker could not accept a connection: %s; see django_asgi_limit_nofile.", error)
                self._pause_for(FAILURE_SECONDS)
                return
            self.seat.accepted += 1
            accepted.setblocking(False)
            protocol = self.protocol()
            self.arrivals.add(protocol)
            self._show()
            self.tasks.add(self.loop.create_task(self._connect(protocol, accepted)))

    async def _connect(self, protocol: asyncio.Protocol, accepted: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self.ssl)
        except OSError as error:
            accepted.close()
            logger.info("A connection ended before it began: %s", error)
        finally:
            self.tasks.discard(asyncio.current_task())
            if protocol in self.arrivals:
                self.arrivals.remove(protocol)
                self._changed()

    def _pause_for(self, seconds: float) -> None:
        self._stop_reading()
        self.pause = self.loop.call_later(seconds, self._look_again)

    def _end_pause(self) -> None:
        self.pause.cancel()
        self.pause = None
        self._read()

    def _look_again(self) -> None:
        self._end_pause()
        if not self.waiting.poll(0):
            self.pauses = 0


def _idle(connection: asyncio.Protocol) -> bool:
    """Whether a connection is kept alive between two requests; uvicorn's HTTP protocols have their last one in `cycle`."""
    cycle = getattr(connection, "cycle", None)
    return cycle is not None and cycle.response_complete


# gunicorn's configuration imports this module before it forks the workers.
_board = Board()
