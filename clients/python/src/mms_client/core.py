"""What both clients share: one request from its first attempt to its last, as steps that say what they wait for."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Mapping, NamedTuple, Optional

import zmq

from . import wire
from .errors import ClientClosed, ConnectionFailed, MmsError
from .link import Link, Steps, Unusable, Wait
from .operations import Operation
from .retry import Attempts

MOST_IDLE_LINKS = 32
PAUSE_BETWEEN_SOCKETS_S = 0.1


class Settings(NamedTuple):
    """See `Client`."""

    endpoint: str
    http: str
    timeout: float
    work_timeout: float
    connect_timeout: float
    retries: int
    retry_generate: bool
    heartbeat: float

    def checked(self) -> Settings:
        """Raises ValueError for times that are none."""
        for name in ("timeout", "work_timeout", "connect_timeout"):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):
                raise ValueError(f"{name} must be a number of seconds above 0, got {seconds!r}")
        if self.retries < 0 or not 0 <= self.heartbeat < float("inf"):
            raise ValueError("retries and heartbeat must not be negative")
        return self

    def seconds(self, operation: Operation, timeout: Optional[float]) -> float:
        """For everything that belongs to one request."""
        if timeout is None:
            return self.work_timeout if operation.slow else self.timeout
        if not 0 < timeout < float("inf"):
            raise ValueError(f"timeout must be a number of seconds above 0, got {timeout!r}")
        return timeout

    def attempts(self, operation: Operation, timeout: Optional[float]) -> Attempts:
        """The attempts at one request."""
        repeatable = operation.repeatable or (operation.generates and self.retry_generate)
        seconds = self.seconds(operation, timeout)
        return Attempts(seconds, self.retries, repeatable=repeatable, shared=not operation.slow)


class Core:
    """Idle connections, and how a request is made over them. Any thread may drive the steps of a request of its own."""

    def __init__(self, settings: Settings, context: Optional[zmq.Context[zmq.Socket[bytes]]]) -> None:
        self.settings = settings.checked()
        self._context = context
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Link] = []

    def close(self) -> None:
        """Ends idle connections; those in use end with their request."""
        if self._process != os.getpid():
            self._reset()  # the parent's sockets are the parent's
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def call(self, operation: Operation, arguments: Mapping[str, Any], timeout: Optional[float]) -> Steps[wire.Reply]:
        """Makes a request of the dialect `action`; the reply, or an error."""
        request = {"action": operation.name, **{key: value for key, value in arguments.items() if value is not None}}
        return self.send(operation, request, timeout)

    def send(self, operation: Operation, request: Mapping[str, Any], timeout: Optional[float]) -> Steps[wire.Reply]:
        """Makes a request as it stands, with an id of its own; the reply, or an error."""
        attempts = self.settings.attempts(operation, timeout)
        wire.encode(request)  # mistakes of the caller come before anything else
        while True:
            request_id = wire.new_request_id()

            def message(seconds: float) -> bytes:
                limit = {"timeout_ms": wire.timeout_ms(seconds)} if operation.timed else {}
                return wire.encode({**limit, **request, "request_id": request_id})

            try:
                reply: wire.Reply = yield from self._attempt(message, request_id, attempts.end())
                refused = wire.refusal_of(reply)
                if refused is None:
                    return reply
                raise refused
            except MmsError as error:
                pause = attempts.after(error)
            yield Wait(time.monotonic() + pause)

    def forward(self, operation: Operation, body: Any, timeout: Optional[float]) -> Steps[Any]:
        """Sends JSON as it stands, once, and gives back whatever JSON comes; only the way there can fail."""
        message = wire.encode(body)
        until = self.settings.attempts(operation, timeout).deadline
        reply = yield from self._attempt(lambda _: message, None, until)
        if isinstance(body, dict) and isinstance(reply, dict) and "request_id" in body and "request_id" in reply:
            wire.check_id(reply, body["request_id"])
        return reply

    def _attempt(self, message: Any, request_id: Optional[str], until: float) -> Steps[Any]:
        link = yield from self._sent(message, until)
        sound = False
        try:
            reply = wire.decode((yield from link.receive(until)))
            if request_id is not None:
                wire.check_id(reply, request_id)
            sound = True
            return reply
        finally:
            # Also when the caller gave up waiting: closing tells the server that nobody wants the answer any more.
            if sound:
                self._give_back(link)
            else:
                link.close()

    def _sent(self, message: Any, until: float) -> Steps[Link]:
        connected_by = min(until, time.monotonic() + self.settings.connect_timeout)
        while True:
            link = self._take()
            sent = False
            try:
                yield from link.send(message, connected_by, until)
                sent = True
                return link
            except Unusable as why:
                if time.monotonic() + PAUSE_BETWEEN_SOCKETS_S >= connected_by:
                    raise ConnectionFailed(str(why)) from None
            finally:
                if not sent:
                    link.close()
            yield Wait(time.monotonic() + PAUSE_BETWEEN_SOCKETS_S)

    def _take(self) -> Link:
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            while self._idle:
                link = self._idle.pop()
                if link.is_fresh():
                    return link
                link.close()
        # pyzmq's instance is another one in a child process.
        context = self._context if self._context is not None else zmq.Context.instance()
        return Link(context, self.settings.endpoint, self.settings.heartbeat)

    def _give_back(self, link: Link) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < MOST_IDLE_LINKS and self._process == os.getpid():
                self._idle.append(link)
                return
        link.close()
