"""The tasks that wait on one event loop for a connection: when they give up, and when they go on.

Nearly all tasks wait with the same timeout and are woken long before it expires. Their deadlines therefore arrive in
order, and a queue with one timer replaces one timer per task, which would cost as much as the rest of the wait.

A connection is mostly returned by a task that a reply has continued. The task that gets it goes on right after that
step, within the same callback of the loop: by way of the loop's own queue it would cost a handle, a context and a turn
of the loop.

Never: ends a wait early, runs a task inside another task's step.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary, ref

from .pending import Awaited


class Clock:
    """The waiting tasks of one event loop."""

    __slots__ = ("_ends", "_is_running", "collects", "woken")

    def __init__(self) -> None:
        self._ends: deque[tuple[float, Awaited]] = deque()  # monotonic, earliest first
        self._is_running = False
        self.collects = False  # a reply's task runs: what it wakes goes on after it
        self.woken: deque[Awaited] = deque()

    def wake_at(self, when: float, sleeper: Awaited, loop: asyncio.AbstractEventLoop) -> None:
        """Wake `sleeper` at the monotonic time `when`, unless it is woken before."""
        ends = self._ends
        while ends and ends[0][1].is_done:
            ends.popleft()  # not kept until its time, with all that it refers to
        if ends and when < ends[-1][0]:
            loop.call_later(max(0.0, when - monotonic()), self.wake, sleeper)
            return
        ends.append((when, sleeper))
        if not self._is_running:
            self._is_running = True
            loop.call_later(max(0.0, when - monotonic()), self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        ends, now = self._ends, monotonic()
        while ends and (ends[0][1].is_done or ends[0][0] <= now):
            self.wake(ends.popleft()[1])
        self._is_running = bool(ends)
        if ends:
            loop.call_later(ends[0][0] - now, self._ring, loop)

    def wake(self, sleeper: Awaited) -> None:
        """Let the task that awaits `sleeper` go on. Called in the thread of its loop."""
        if sleeper.is_done:
            return
        if self.collects:
            sleeper.is_done = True
            self.woken.append(sleeper)
        else:
            sleeper.end_soon()

    def arrive(self, reply: Awaited, value: Any) -> None:
        """Continue the task that awaits `reply` with `value`, then those to which it gave a connection. Called by the
        loop itself; in a task's step only for a reply that no task awaits yet."""
        reply.value = value
        reply.is_done = True
        callback = reply.callback
        if callback is None:
            return
        reply.callback = None  # as `go_on`, without the call
        self.collects = True
        try:
            reply._context.run(callback, reply)
        except BaseException:  # a KeyboardInterrupt in a task's step, which ends the loop
            self.collects = False
            self._continue_woken_soon()
            raise
        self.collects = False
        if self.woken:
            self._continue_woken()

    def _continue_woken(self) -> None:
        try:
            while self.woken:
                self.woken.popleft().go_on()
        except BaseException:
            self._continue_woken_soon()
            raise

    def _continue_woken_soon(self) -> None:
        while self.woken:
            self.woken.popleft().go_on_soon()


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
