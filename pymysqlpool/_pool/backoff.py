"""When the next connect may be tried, and when all connections may be replaced again.

While all is well: any number of connects. After a failure: one attempt at a time, with exponential back-off and jitter,
so that a server that is coming back is not stormed. After the server's return: one more at a time than have succeeded
since (slow start: 1, 2, 4, 8 ... round by round), until the limit no longer matters. Another failure starts the
back-off again. An attempt without an answer for half a second no longer blocks others: its flow may be lost while the
server is back.

A server that takes logins and refuses work (read-only, not ready) is not a failed connect: there the back-off separates
two replacements of all connections. In between, a connection that found the server in the wrong role is kept, because a
new one would find the same.

**Attempts on lost flows.** A network that drops packets and forgets flows leaves attempts behind that never get an
answer, also when the server has long been back. Where they take all of the capacity, no other attempt can start beside
them. So the youngest of several is made anew every half second, and all of them as soon as a later one has succeeded.
A sole one, and the eldest, have their whole time, because a server may be slow to greet.

Owns: these delays and limits; pure arithmetic. The pool calls it with its lock held and passes the time. Never:
classifies a failure (`failures.py`), connects, waits, or reads a clock.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..failures import Server, number_of

FIRST_DELAY = 0.02  # seconds
LONGEST_DELAY = 0.25  # seconds; one attempt at a time, so a pool tries a refusing server at most four times a second
LONGEST_DELAY_REFUSED = 0.05  # seconds; an attempt on a port without a listener costs almost nothing
FIRST_RENEWAL, LONGEST_RENEWAL = 0.25, 1.0  # seconds from one replacement of all connections to the next
_NO_LISTENER = frozenset({2002, 2003})  # client error numbers: no socket to talk through
_UNLIMITED_FROM = 64  # connects at a time
# seconds without an answer, after which another attempt may be made beside it, or in its place
NO_ANSWER_FOR = 0.5
_MUCH_LONGER = 3  # times the duration of a later attempt that succeeded
_DOWN_FROM = 3  # failures in a row that count as an outage although other connections are alive


class ConnectBackoff:
    __slots__ = (
        "_beside_from",
        "_delay",
        "_failed_at",
        "_limit",
        "_renewal_delay",
        "_renewed_at",
        "_row",
        "_succeeded_from",
        "_took",
        "error",
        "failing",
        "next_attempt",
        "says",
        "silent_at",
    )

    def __init__(self) -> None:
        self.failing = False  # the last attempt failed
        self.says = Server.NOTHING  # what it showed about the server
        self._row = 0  # failures since the last success
        self._failed_at = float("-inf")  # monotonic
        self._delay = 0.0  # seconds; 0 while all is well
        self._limit: int | None = None  # connects at a time; None: any number
        self.next_attempt = 0.0  # monotonic
        self._beside_from = float("inf")  # monotonic; when one more attempt may start beside the running one
        self._succeeded_from = float("-inf")  # monotonic; when the latest of the attempts that succeeded began
        self._took = 0.0  # seconds; how long that one took
        self.error: BaseException | None = None  # the last failure, while it lasts
        self.silent_at = float("-inf")  # monotonic; when the time of a caller ended in a long attempt
        self._renewed_at = float("-inf")  # monotonic
        self._renewal_delay = 0.0  # seconds

    def may_connect(self, connecting: int, now: float) -> bool:
        """Return whether one more connect may start while `connecting` others are under way."""
        if self.failing:
            return now >= self.next_attempt and (connecting == 0 or now >= self._beside_from)
        return self._limit is None or connecting < self._limit

    def record_attempt(self, now: float) -> None:
        """Record the start of a connect."""
        self._beside_from = now + NO_ANSWER_FOR

    def is_down(self, alive: int) -> bool:
        """Return whether the server cannot serve a pool that has `alive` connections. A full server still serves those,
        and they will be returned."""
        if not self.failing:
            return False
        if self.says is Server.FULL:
            return alive == 0
        return self.says in _IS_DOWN and (alive == 0 or self._row >= _DOWN_FROM)

    def refuses_us(self, now: float) -> bool:
        """Return whether the server refused the login so recently that another attempt is not due."""
        return self.failing and self.says is Server.REFUSES_US and now < self.next_attempt

    def record_failure(self, now: float, error: BaseException, says: Server, began: float | None = None) -> None:
        """Record the failure of an attempt that started at `began`. Attempts that overlap count as one failure: when a
        server accepts every second login, the refusals arrive first."""
        is_of_the_last_wave = began is not None and began <= self._failed_at
        if is_of_the_last_wave and not self.failing:
            return
        self.says = says
        self.error = error
        if is_of_the_last_wave:
            return
        self._failed_at = now
        is_refused = number_of(error) in _NO_LISTENER
        self._delay = min(LONGEST_DELAY_REFUSED if is_refused else LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
        self.failing = True
        self._row += 1
        self._limit = 1
        self.next_attempt = now + self._delay * (0.8 + 0.4 * os.urandom(1)[0] / 0xFF)

    def record_silence(self, now: float, began: float) -> None:
        """Record that the time of a caller ended in its attempt, which started at `began`. That delays no other one."""
        if now - began >= NO_ANSWER_FOR:
            self.silent_at = now

    def is_overtaken(self, began: float, others: Sequence[float], now: float) -> bool:
        """Return whether an attempt that started at `began` and has no answer should be made anew. `others`: when the
        other attempts under way started."""
        waited = now - began
        if waited < NO_ANSWER_FOR:
            return False
        if self._succeeded_from > began and waited > _MUCH_LONGER * self._took:
            return True
        return bool(others) and max(others) < began

    def record_success(self, now: float, began: float) -> None:
        """Record that the attempt which started at `began` succeeded."""
        if began > self._succeeded_from:
            self._succeeded_from, self._took = began, now - began
        self.failing = False
        self.says = Server.NOTHING
        self._row = 0
        self._delay = 0.0
        self.error = None
        self.silent_at = float("-inf")
        if self._limit is not None:
            self._limit = self._limit + 1 if self._limit < _UNLIMITED_FROM else None

    def may_renew(self, now: float) -> bool:
        """Return whether the back-off allows another replacement of all connections for the server's role."""
        return now >= self._renewed_at + self._renewal_delay

    def record_renewal(self, now: float) -> None:
        """Record a replacement of all connections. The next delay is longer, unless the last replacement is long
        ago."""
        in_a_row = now < self._renewed_at + 10 * self._renewal_delay
        self._renewal_delay = min(LONGEST_RENEWAL, 2 * self._renewal_delay) if in_a_row else FIRST_RENEWAL
        self._renewed_at = now


_IS_DOWN = frozenset({Server.DOWN, Server.SLOW, Server.REFUSES_WORK})
