"""One connection: a REQ socket, and the monitor that tells when its peer is gone.

Everything here is written as steps (generators) that say what they wait for; who drives them waits by blocking or in asyncio. A
socket serves one request at a time and is thrown away after any failure, so a late answer arrives nowhere.
"""

from __future__ import annotations

import time
import uuid
from typing import Callable, Generator, NamedTuple, Optional, TypeVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from .errors import BadReply, ConnectionFailed, ConnectionLost, NoReply

_FAILED_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_EVENTS = zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _FAILED_HANDSHAKES

RECONNECT_FIRST_MS = 50
RECONNECT_LAST_MS = 1000


class Wait(NamedTuple):
    """What a step waits for: `events` of the link's socket or anything of its monitor, or, without a link, only the time. A step has
    read everything that there was before it waits, and looks again afterwards, whatever woke it."""

    until: float
    link: Optional["Link"] = None
    events: int = 0


_T = TypeVar("_T")
Steps = Generator[Wait, None, _T]


class Unusable(Exception):
    """This connection will carry nothing; another one may."""


class Link:
    """One connection to `endpoint`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, heartbeat: float) -> None:
        self.endpoint = endpoint
        self.socket = context.socket(zmq.REQ)
        self._accepted = False  # something took the connection
        self._greeted = False  # and it speaks ZeroMQ
        try:
            self.socket.linger = 0
            self.socket.immediate = 1  # nothing is queued for a server that is not there
            # With it, libzmq looks up names as IPv6 only, and `localhost` would miss a server on 127.0.0.1.
            self.socket.ipv6 = "[" in endpoint
            self.socket.reconnect_ivl = RECONNECT_FIRST_MS
            self.socket.reconnect_ivl_max = RECONNECT_LAST_MS
            if heartbeat > 0:
                self.socket.heartbeat_ivl = int(heartbeat * 1000)
                self.socket.heartbeat_timeout = int(heartbeat * 4000)
                self.socket.handshake_ivl = int(heartbeat * 4000)
            self.monitor = self.socket.get_monitor_socket(_EVENTS, f"inproc://mms-client-{uuid.uuid4().hex}")
            self.monitor.linger = 0
            self.socket.connect(endpoint)
        except BaseException as error:
            self.close()
            if isinstance(error, zmq.ZMQError):
                raise ConnectionFailed(f"{endpoint}: {error.strerror or error}") from error
            raise

    def close(self) -> None:
        """Ends the connection; what was asked for over it is cancelled by the server."""
        monitor = getattr(self, "monitor", None)
        if monitor is not None and not monitor.closed:
            self.socket.disable_monitor()
            monitor.close(linger=0)
        self.socket.close(linger=0)

    def is_fresh(self) -> bool:
        """Nothing has happened to the connection since it was used last."""
        return not self.monitor.poll(0)

    def send(self, message: Callable[[float], bytes], connected_by: float, answered_by: float) -> Steps[None]:
        """Waits for the connection and sends. `message` is given the seconds that are left for the answer.

        Raises ConnectionFailed, or Unusable when another socket should be tried; nothing was sent then.
        """
        while True:
            gone = self._is_gone()
            if gone:
                raise Unusable(gone)
            # libzmq would take a message as soon as the connection is accepted, and lose it when there is no ZeroMQ behind it.
            writable = int(self.socket.events) & zmq.POLLOUT
            if writable and self._greeted:
                try:
                    self.socket.send(message(answered_by - time.monotonic()), zmq.NOBLOCK)
                    return
                except zmq.Again:  # lost between the two
                    continue
            if time.monotonic() >= connected_by:
                raise ConnectionFailed(self._why_not_connected())
            yield Wait(connected_by, self, zmq.POLLOUT if self._greeted else 0)

    def receive(self, until: float) -> Steps[bytes]:
        """Waits for the answer. Raises ConnectionLost, NoReply or BadReply."""
        while True:
            gone = self._is_gone()
            try:
                # Also when it is gone: the answer may have come before the end.
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                frames = None
            if frames is not None:
                if len(frames) != 1:
                    raise BadReply(f"the reply has {len(frames)} frames instead of one")
                return frames[0]
            if gone:
                raise ConnectionLost(f"{self.endpoint} went away before it answered; whether the request was done is not known")
            if time.monotonic() >= until:
                raise NoReply(f"no answer from {self.endpoint} in time")
            yield Wait(until, self, zmq.POLLIN)

    def _is_gone(self) -> Optional[str]:
        """Reads the monitor; why the connection is over, if it is."""
        gone = None
        while self.monitor.poll(0):
            event = int(parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))["event"])
            self._accepted = True
            self._greeted |= event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if event & _FAILED_HANDSHAKES:
                gone = self._why_not_connected()
            elif event == zmq.EVENT_DISCONNECTED:
                gone = gone or f"{self.endpoint} closed the connection"
        return gone

    def _why_not_connected(self) -> str:
        if self._accepted:
            return f"something listens at {self.endpoint}, but it does not speak ZeroMQ"
        return f"nobody answers at {self.endpoint}: no such host, nobody listens there, or the way is blocked"
