"""Answers token by token, for asyncio: as much of HTTP/1.1 as one streamed response takes, on asyncio's own streams."""

from __future__ import annotations

import asyncio
import http.client
import io
import time
from types import TracebackType
from typing import Any, AsyncIterator, Coroutine, Optional, TypeVar
from urllib.parse import urlsplit

from .core import Settings
from .errors import BadReply, ConnectionFailed, ConnectionLost, MmsError, NoReply
from .operations import OPERATIONS
from .sse import Answer, Body, Events, error_of
from .stream import LARGEST_ERROR, RETRY_CONNECT_S
from .wire import timeout_ms


_T = TypeVar("_T")


class AsyncTokenStream(Answer):
    """The pieces of an answer as they are made: `async for piece in stream`. Closing it, or cancelling the task that reads it,
    ends the generation.

    `text`, `finish_reason`, `usage` and the rest are whole after the last piece.
    """

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _timer: asyncio.TimerHandle

    def __init__(self) -> None:
        super().__init__()
        self._events = Events()
        self._chunked = False
        self._late = False

    @classmethod
    async def open(cls, settings: Settings, body: Body, timeout: Optional[float]) -> "AsyncTokenStream":
        """Connects and waits for the response to begin. Raises what the server refuses."""
        attempts = settings.attempts(OPERATIONS["generate"], timeout)
        while True:
            stream = cls()
            try:
                await stream._open(settings, body, attempts.deadline)
                return stream
            except MmsError as error:
                pause = attempts.after(error)
            await asyncio.sleep(pause)

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while not self.complete:
                data = await self._guarded(self._more())
                if not data:
                    raise ConnectionLost("the stream broke off before its end")
                for event in self._events.feed(data):
                    piece = self.add(event)
                    if piece:
                        yield piece
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Ends the stream, and the generation with it."""
        self._timer.cancel()
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass  # it was closed by the other side, which is as good

    async def __aenter__(self) -> "AsyncTokenStream":
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.aclose()

    async def _open(self, settings: Settings, body: Body, deadline: float) -> None:
        self._reader, self._writer = await _connected(settings, deadline)
        left = max(0.001, deadline - time.monotonic())
        # One timer for all of it: `asyncio.wait_for` around each read may swallow a cancellation.
        self._timer = asyncio.get_running_loop().call_later(left, self._give_up)
        parts = urlsplit(settings.http)
        content = body.encode(timeout_ms(left))
        head = (
            f"POST {parts.path + body.path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            "Content-Type: application/json\r\nAccept: text/event-stream\r\nConnection: close\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        try:
            self._writer.write(head.encode() + content)
            status, headers = await self._guarded(self._head())
            self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
            if status != 200:
                raise error_of(status, await self._guarded(self._all()), headers)
        except BaseException:
            self._timer.cancel()
            self._writer.close()
            raise

    def _give_up(self) -> None:
        self._late = True
        self._writer.transport.abort()

    async def _head(self) -> tuple[int, dict[str, str]]:
        while True:
            line = await self._reader.readline()
            words = line.split()
            if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
                if not line:
                    raise ConnectionLost("the server closed the connection before it answered")
                raise BadReply(f"no HTTP response: {line[:80]!r}")
            lines: list[bytes] = []
            while not lines or lines[-1] not in (b"\r\n", b"\n", b""):
                lines.append(await self._reader.readline())
            if not words[1].startswith(b"1"):  # 100 Continue may come before the response itself
                found = http.client.parse_headers(io.BytesIO(b"".join(lines)))
                return int(words[1]), {name.lower(): value for name, value in found.items()}

    async def _more(self) -> bytes:
        """The next bytes of the body; none: it is over."""
        if not self._chunked:
            return await self._reader.read(65536)
        size_line = await self._reader.readline()
        try:
            size = int(size_line.split(b";")[0], 16)
        except ValueError:
            raise ConnectionLost("the stream broke off before its end") from None
        data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def _all(self) -> bytes:
        body = b""
        while len(body) < LARGEST_ERROR:
            data = await self._more()
            if not data:
                break
            body += data
        return body

    async def _guarded(self, reading: Coroutine[Any, Any, _T]) -> _T:
        """Reads, and says what an end of the connection means."""
        try:
            found = await reading
        except (MmsError, OSError, asyncio.IncompleteReadError) as error:
            if self._late:
                raise NoReply("the answer was not complete in time") from None
            if isinstance(error, MmsError):
                raise
            raise ConnectionLost(f"the stream broke off: {error}") from error
        if self._late:
            raise NoReply("the answer was not complete in time")
        return found


async def _connected(settings: Settings, deadline: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Tries until the time for connecting is up."""
    parts = urlsplit(settings.http)
    secure = parts.scheme == "https"
    until = min(deadline, time.monotonic() + settings.connect_timeout)
    while True:
        left = max(0.001, until - time.monotonic())
        port = parts.port or (443 if secure else 80)
        connecting = asyncio.ensure_future(asyncio.open_connection(parts.hostname, port, ssl=secure or None))
        try:
            done, _ = await asyncio.wait({connecting}, timeout=left)
        except asyncio.CancelledError:
            connecting.add_done_callback(_drop)
            connecting.cancel()
            raise
        if not done:
            connecting.add_done_callback(_drop)
            connecting.cancel()
        error = connecting.exception() if done else "no connection in time"
        if error is None:
            return connecting.result()
        if time.monotonic() + RETRY_CONNECT_S >= until:
            raise ConnectionFailed(f"nobody answers at {settings.http}: {error}")
        await asyncio.sleep(RETRY_CONNECT_S)


def _drop(connecting: "asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]") -> None:
    """A connection that nobody wants any more, although it may have been made."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].close()
