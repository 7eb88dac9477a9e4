"""Whether another connect may be tried at this moment, and whether all connections may be replaced again.

While all is well: any number of connects. After a failure: one attempt at a time, with exponential back-off and jitter,
so that a server that is coming back is not stormed. From its return on: one more at a time than have succeeded since
(slow start: 1, 2, 4, 8 ... round by round), until so many have that a limit means nothing any more. Another failure
begins anew. An attempt that hears nothing for a second holds up no other: its flow may be lost, and the server back.

A server that takes logins and refuses work (read-only, not ready) is no failed connect: there the back-off is between
two replacements of all connections. In between, one that found the server in the wrong role is as good as any that
could be had in its place.

Pure arithmetic: the pool calls it with its lock held and tells it the time. What a failure says is in `failures.py`.
"""

from __future__ import annotations

import random

from .. import failures
from ..failures import Server, number_of

FIRST_DELAY = 0.02  # seconds
LONGEST_DELAY = 0.25  # seconds; one attempt at a time, so a pool asks a server that refuses it four times a second
LONGEST_DELAY_UNHEARD = 0.05  # seconds; where nobody listens an attempt costs nobody anything
FIRST_RENEWAL, LONGEST_RENEWAL = 0.25, 1.0  # seconds from one replacement of all connections to the next
_NOBODY_LISTENS = frozenset({2002, 2003})  # client error numbers: no socket to talk through
_UNLIMITED_FROM = 64  # connects at a time
_UNHEARD_FOR = failures.HEALTHY_WITHIN  # seconds without an answer, after which another attempt may be made beside
_DOWN_FROM = 3  # failures in a row that prove a server down to which other connections are alive


class ConnectBackoff:
    __slots__ = (
        "_beside_from",
        "_delay",
        "_failed_at",
        "_limit",
        "_renewal_delay",
        "_renewed_at",
        "_row",
        "error",
        "failing",
        "next_attempt",
        "says",
    )

    def __init__(self) -> None:
        self.failing = False  # the last attempt failed
        self.says = Server.NOTHING  # what it said of the server
        self._row = 0  # failures since the last success
        self._failed_at = float("-inf")  # monotonic
        self._delay = 0.0  # seconds; 0 while all is well
        self._limit: int | None = None  # connects at a time; None: any number
        self.next_attempt = 0.0  # monotonic
        self._beside_from = float("inf")  # monotonic; when one more may be made beside the attempt that goes on
        self.error: BaseException | None = None  # the last failure, while it lasts
        self._renewed_at = float("-inf")  # monotonic
        self._renewal_delay = 0.0  # seconds

    def may_connect(self, connecting: int, now: float) -> bool:
        """Whether one more may connect while `connecting` others do."""
        if self.failing:
            return now >= self.next_attempt and (connecting == 0 or now >= self._beside_from)
        return self._limit is None or connecting < self._limit

    def record_attempt(self, now: float) -> None:
        """One more begins to connect."""
        self._beside_from = now + _UNHEARD_FOR

    def is_down(self, alive: int) -> bool:
        """Whether nothing can be had of the server, by a pool that has `alive` connections: one that is full lets
        those go on, and they will come home."""
        if not self.failing:
            return False
        if self.says is Server.FULL:
            return alive == 0
        return self.says in _IS_DOWN and (alive == 0 or self._row >= _DOWN_FROM)

    def refuses_us(self, now: float) -> bool:
        """Whether the server has just refused the login, so that another attempt is not due."""
        return self.failing and self.says is Server.REFUSES_US and now < self.next_attempt

    def record_failure(self, now: float, error: BaseException, says: Server, began: float | None = None) -> None:
        """An attempt that `began` then has failed. Those that go on at the same time fail once together: of a server
        that takes every second one, the refusals come first."""
        is_of_the_last_wave = began is not None and began <= self._failed_at
        if is_of_the_last_wave and not self.failing:
            return
        self.says = says
        self.error = error
        if is_of_the_last_wave:
            return
        self._failed_at = now
        unheard = number_of(error) in _NOBODY_LISTENS
        self._delay = min(LONGEST_DELAY_UNHEARD if unheard else LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
        self.failing = True
        self._row += 1
        self._limit = 1
        self.next_attempt = now + self._delay * random.uniform(0.8, 1.2)

    def record_success(self) -> None:
        self.failing = False
        self.says = Server.NOTHING
        self._row = 0
        self._delay = 0.0
        self.error = None
        if self._limit is not None:
            self._limit = self._limit + 1 if self._limit < _UNLIMITED_FROM else None

    def may_renew(self, now: float) -> bool:
        """Whether all connections may be replaced, for the server's role, since the last time."""
        return now >= self._renewed_at + self._renewal_delay

    def record_renewal(self, now: float) -> None:
        """All connections are replaced; the next time is further away, unless it is long ago."""
        in_a_row = now < self._renewed_at + 10 * self._renewal_delay
        self._renewal_delay = min(LONGEST_RENEWAL, 2 * self._renewal_delay) if in_a_row else FIRST_RENEWAL
        self._renewed_at = now


_IS_DOWN = frozenset({Server.DOWN, Server.SLOW, Server.REFUSES_WORK})
