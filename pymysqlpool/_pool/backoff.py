"""Whether another connect may be tried at this moment.

While all is well: any number. After a failure: one attempt at a time, with exponential back-off and jitter, so that a
server that is coming back is not stormed. From its return on: one more at a time than have succeeded since (slow start:
1, 2, 4, 8 ... round by round), until so many have that a limit means nothing any more. Another failure begins anew.

Pure arithmetic: the pool calls it with its lock held and tells it the time.
"""

from __future__ import annotations

import random

FIRST_DELAY = 0.02  # seconds
LONGEST_DELAY = 0.25  # seconds; one attempt at a time, so a pool asks a server that refuses it four times a second
LONGEST_DELAY_UNHEARD = 0.05  # seconds; where nobody listens an attempt costs nobody anything
_NOBODY_LISTENS = frozenset({2002, 2003})  # client error numbers: no socket to talk through
_UNLIMITED_FROM = 64  # connects at a time


class ConnectBackoff:
    __slots__ = ("_delay", "_limit", "error", "failing", "next_attempt")

    def __init__(self) -> None:
        self.failing = False  # the last attempt failed
        self._delay = 0.0  # seconds; 0 while all is well
        self._limit: int | None = None  # connects at a time; None: any number
        self.next_attempt = 0.0  # monotonic
        self.error: BaseException | None = None  # the last failure, while it lasts

    def may_connect(self, connecting: int, now: float) -> bool:
        """Whether one more may connect while `connecting` others do."""
        if self.failing:
            return connecting == 0 and now >= self.next_attempt
        return self._limit is None or connecting < self._limit

    def record_failure(self, now: float, error: BaseException) -> None:
        unheard = bool(error.args) and error.args[0] in _NOBODY_LISTENS
        self._delay = min(LONGEST_DELAY_UNHEARD if unheard else LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
        self.failing = True
        self._limit = 1
        self.next_attempt = now + self._delay * random.uniform(0.8, 1.2)
        self.error = error

    def record_success(self) -> None:
        self.failing = False
        self._delay = 0.0
        self.error = None
        if self._limit is not None:
            self._limit = self._limit + 1 if self._limit < _UNLIMITED_FROM else None
