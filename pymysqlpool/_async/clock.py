"""The timeouts of waiting tasks: one timer per event loop for all tasks that wait for a connection.

Nearly all tasks wait with the same timeout and are woken long before it expires. Their deadlines therefore arrive in
order, and a queue replaces one timer per task, which would cost as much as the rest of the wait.

Never: ends a wait early.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary, ref

Sleeper = asyncio.Future[None]


class Clock:
    """The deadlines of the tasks that wait on one event loop."""

    __slots__ = ("_ends", "_is_running")

    def __init__(self) -> None:
        self._ends: deque[tuple[float, Sleeper]] = deque()  # loop.time(), earliest first
        self._is_running = False

    def wake_after(self, loop: asyncio.AbstractEventLoop, seconds: float, sleeper: Sleeper) -> None:
        """Give `sleeper` its result after `seconds`, unless it has one by then."""
        when = loop.time() + seconds
        ends = self._ends
        if ends and when < ends[-1][0]:
            loop.call_at(when, wake, sleeper)
            return
        ends.append((when, sleeper))
        if not self._is_running:
            self._is_running = True
            loop.call_at(when, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        ends, now = self._ends, loop.time()
        while ends and (ends[0][0] <= now or ends[0][1].done()):
            sleeper = ends.popleft()[1]
            if not sleeper.done():
                sleeper.set_result(None)
        self._is_running = bool(ends)
        if ends:
            loop.call_at(ends[0][0], self._ring, loop)


def wake(sleeper: Sleeper) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, Clock] = WeakKeyDictionary()
_latest: tuple[Any, Any] = (lambda: None, None)  # a weak reference to the loop that asked last, and its clock


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    global _latest
    known, clock = _latest
    if known() is not loop:
        clock = _clocks.get(loop)
        if clock is None:
            clock = _clocks[loop] = Clock()
        _latest = ref(loop), clock
    return clock  # type: ignore[no-any-return]
