"""When a request is sent again: plain decisions without I/O, the same for both clients.

A request is repeated only where that is safe: when the server says that it was not done (`queue_full`, `shutting_down`), and, of
operations for which twice is the same as once, when its fate is unknown. All of it ends at one deadline.
"""

from __future__ import annotations

import random
import time
from typing import Callable

from .errors import BadReply, ConnectionLost, MmsError, NoReply, QueueFull, ShuttingDown

_NOT_DONE = (QueueFull, ShuttingDown)
_UNKNOWN = (ConnectionLost, NoReply, BadReply)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


class Attempts:
    """The attempts at one request."""

    def __init__(
        self,
        timeout: float,
        retries: int,
        *,
        repeatable: bool,
        shared: bool,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`timeout`: seconds for everything. `shared`: the time is divided among the attempts, so that a lost answer leaves some
        for the next one; otherwise each may take what is left. `chance`: 0 to 1, spreads pauses."""
        self.deadline = clock() + timeout
        self._left = retries
        self._pause = FIRST_PAUSE_S
        self._repeatable = repeatable
        self._shared = shared
        self._clock = clock
        self._chance = chance

    def end(self) -> float:
        """When the next attempt has to end, on the clock."""
        now = self._clock()
        parts = self._left + 1 if self._shared and self._repeatable else 1
        return now + max(0.0, self.deadline - now) / parts

    def after(self, error: MmsError) -> float:
        """Seconds to wait before the next attempt. Raises `error` when there is to be none."""
        safe = isinstance(error, _NOT_DONE) or (self._repeatable and isinstance(error, _UNKNOWN))
        if not safe or self._left == 0:
            raise error
        self._left -= 1
        pause = self._pause * (0.5 + self._chance() / 2)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        if isinstance(error, NoReply):
            pause = 0.0  # the waiting was done already
        elif error.retry_after is not None:
            pause = max(error.retry_after, pause)
        if self._clock() + pause >= self.deadline:
            raise error
        return pause
