"""An HTTP/1.1 client that never retries and reports exactly how an exchange failed."""

import asyncio
import os
from collections.abc import Callable
from contextlib import contextmanager

_MOST_BYTES = 1 << 20


class Failed(Exception):
    """An exchange failed; failure is one of Exchange's failure classes, detail is for a person."""

    def __init__(self, failure: str, detail: str = "") -> None:
        """Keep the failure class and the detail."""
        super().__init__(failure, detail)
        self.failure = failure
        self.detail = detail


def network_failure(error: OSError, *, connecting: bool) -> Failed:
    """Return the Failed for an operating system error, while connecting or later."""
    if isinstance(error, TimeoutError):
        return Failed("timeout", str(error))
    detail = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError):
        return Failed("connect_refused", detail)
    return Failed("connect_failed" if connecting else "reset", detail)


class Connection:
    """One TCP connection that carries one exchange after another."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Keep (address, port) without connecting."""
        self.address = address
        self.exchanges = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.stage = "connecting"
        self._buffer = b""
        self._received = 0

    async def open(self) -> None:
        """Connect. Raises Failed."""
        try:
            self._reader, self._writer = await asyncio.open_connection(*self.address)
        except OSError as error:
            raise network_failure(error, connecting=True) from error

    @property
    def usable(self) -> bool:
        """Whether another exchange may be sent: the server has neither closed nor sent anything unexpected."""
        return not (self._buffer or self._reader.at_eof() or self._reader.exception() or self._writer.is_closing())

    def close(self) -> None:
        """Close at once; harmless on a connection that was never opened."""
        if self._writer:
            self._writer.transport.abort()

    async def exchange(
        self, method: str, target: str, host: str, body: bytes, on_head: Callable[[dict[str, str]], None]
    ) -> tuple[bytes, bool]:
        """Send one request and return (body of the response, whether the connection may be kept).

        on_head is called with the header fields (names in lower case) as soon as the head is complete.
        Raises Failed for anything except a complete response with a status of 2xx.
        """
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept: */*", "User-Agent: traffic"]
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self.exchanges += 1
        self._received = 0
        self.stage = "waiting for the response"
        with self._classified():
            self._writer.write("\r\n".join([*lines, "\r\n"]).encode() + body)
            await self._writer.drain()
            status, headers = await self._head()
            on_head(headers)
            if not 200 <= status < 300:
                raise Failed(f"status_{status}", headers.get("location", headers.get("server", "")))
            self.stage = "reading the body"
            content, delimited = await self._body(status, headers)
        return content, delimited and headers.get("connection", "").lower() != "close"

    @contextmanager
    def _classified(self):
        """Turn every error of the connection or the protocol into Failed."""
        try:
            yield
        except (EOFError, OSError) as error:
            if not self._received and self.exchanges > 1:
                raise Failed("stale_reuse", f"exchange {self.exchanges} of the connection: {error}") from error
            if isinstance(error, OSError):
                failed = network_failure(error, connecting=False)
                raise Failed(failed.failure, f"{failed.detail} after {self._received} bytes") from error
            if not self._received:
                raise Failed("closed", "before any byte of the response") from error
            raise Failed("truncated", f"closed while {self.stage}, after {self._received} bytes") from error
        except ValueError as error:
            raise Failed("malformed", f"while {self.stage}: {error}") from error

    async def _head(self) -> tuple[int, dict[str, str]]:
        """Read (status, header fields) of the final response, skipping interim ones."""
        while True:
            version, status, *_ = (await self._line()).split(" ", 2)
            if version not in ("HTTP/1.1", "HTTP/1.0"):
                raise ValueError(f"not HTTP/1: {version[:20]!r}")
            headers = {"connection": "close"} if version == "HTTP/1.0" else {}
            while line := await self._line():
                name, colon, value = line.partition(":")
                if not colon:
                    raise ValueError(f"not a header field: {line[:80]!r}")
                headers[name.lower()] = value.strip()
            if int(status) >= 200:
                return int(status), headers

    async def _body(self, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
        """Read (body, whether its end was marked other than by the end of the connection)."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks(), True
        if status == 204:
            return b"", True
        if "content-length" in headers:
            return await self._take(int(headers["content-length"])), True
        try:
            while True:
                await self._more()
        except EOFError:
            return self._buffer, False

    async def _chunks(self) -> bytes:
        """Read a chunked body to its last chunk and trailer."""
        content = []
        while size := int((await self._line()).partition(";")[0], 16):
            content.append(await self._take(size))
            if await self._line():
                raise ValueError("chunk longer than its size")
        while await self._line():
            pass
        return b"".join(content)

    async def _line(self) -> str:
        """Read one line, without its end."""
        while b"\r\n" not in self._buffer:
            await self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("latin-1")

    async def _take(self, size: int) -> bytes:
        """Read size bytes."""
        while len(self._buffer) < size:
            await self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def _more(self) -> None:
        """Read the available bytes. Raises EOFError at the end of the connection, ValueError beyond _MOST_BYTES."""
        data = await self._reader.read(65536)
        if not data:
            raise EOFError("closed by the server")
        self._received += len(data)
        if self._received > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        self._buffer += data
