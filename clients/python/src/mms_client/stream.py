"""Answers token by token, for blocking code: HTTP by the standard library."""

from __future__ import annotations

import http.client
import socket
import time
from types import TracebackType
from typing import Iterator, Optional
from urllib.parse import urlsplit

from .core import Settings
from .errors import ConnectionFailed, ConnectionLost, MmsError, NoReply
from .operations import OPERATIONS
from .sse import Answer, Body, Events, error_of
from .wire import timeout_ms

LARGEST_ERROR = 1 << 20  # bytes of an error's body that are read
RETRY_CONNECT_S = 0.1


class TokenStream(Answer):
    """The pieces of an answer as they are made: `for piece in stream`. Ending the loop early and closing ends the generation.

    `text`, `finish_reason`, `usage` and the rest are whole after the last piece.
    """

    def __init__(self, settings: Settings, body: Body, timeout: Optional[float]) -> None:
        """Connects and waits for the response to begin. Raises what the server refuses."""
        super().__init__()
        self._events = Events()
        attempts = settings.attempts(OPERATIONS["generate"], timeout)
        self._deadline = attempts.deadline
        while True:
            try:
                self._open(settings, body)
                return
            except MmsError as error:
                time.sleep(attempts.after(error))

    def __iter__(self) -> Iterator[str]:
        try:
            while not self.complete:
                self._limit()
                data = self._response.read1(65536)
                if not data:
                    raise ConnectionLost("the stream broke off before its end")
                for event in self._events.feed(data):
                    piece = self.add(event)
                    if piece:
                        yield piece
        except (TimeoutError, socket.timeout) as error:
            raise (error if isinstance(error, MmsError) else self._too_late()) from None
        except (OSError, http.client.HTTPException) as error:
            raise (error if isinstance(error, MmsError) else ConnectionLost(f"the stream broke off: {error}")) from error
        finally:
            self.close()

    def close(self) -> None:
        """Ends the stream, and the generation with it."""
        self._response.close()
        self._connection.close()
        self._socket.close()

    def __enter__(self) -> "TokenStream":
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _open(self, settings: Settings, body: Body) -> None:
        self._connection = _connected(settings, self._deadline)
        self._socket = self._connection.sock
        try:
            self._limit()
            content = body.encode(timeout_ms(self._deadline - time.monotonic()))
            headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
            self._connection.request("POST", urlsplit(settings.http).path + body.path, content, headers)
            self._response = self._connection.getresponse()
            if self._response.status != 200:
                found = {name.lower(): value for name, value in self._response.getheaders()}
                raise error_of(self._response.status, self._response.read(LARGEST_ERROR), found)
        except (TimeoutError, socket.timeout) as error:
            self._connection.close()
            raise (error if isinstance(error, MmsError) else self._too_late()) from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ConnectionLost(f"{settings.http} went away before it answered: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_late()
        self._socket.settimeout(left)

    def _too_late(self) -> NoReply:
        return NoReply("the answer was not complete in time")


def _connected(settings: Settings, deadline: float) -> http.client.HTTPConnection:
    """Tries until the time for connecting is up."""
    parts = urlsplit(settings.http)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    until = min(deadline, time.monotonic() + settings.connect_timeout)
    while True:
        connection = kind(parts.hostname or "", parts.port, timeout=max(0.001, until - time.monotonic()))
        try:
            connection.connect()
            return connection
        except OSError as error:
            connection.close()
            if time.monotonic() + RETRY_CONNECT_S >= until:
                raise ConnectionFailed(f"nobody answers at {settings.http}: {error}") from error
        time.sleep(RETRY_CONNECT_S)
