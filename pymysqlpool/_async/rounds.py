"""The first sleep of the tasks that wait for a connection: how one that nothing wakes wakes up.

Nearly all of them are woken long before, so a wait leaves nothing behind here: a timer looks at the pool's queue, a few
times per second while a task of its loop is in it.

Never: ends a sleep early, decides who is next.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from .._pool.for_loops import waiting
from .._pool.while_waiting import LOOK_AROUND
from .clock import clock_of
from .waiter import AsyncWaiter

_INTERVAL = LOOK_AROUND / 4  # seconds


class Rounds:
    """The rounds of one pool on one event loop, for sleeps of `LOOK_AROUND` seconds."""

    __slots__ = ("_core", "clock", "is_going", "loop")

    def __init__(self, core: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self.loop = loop
        self.clock = clock_of(loop)
        self.is_going = False

    def begin(self) -> None:
        """Go round as long as a task sleeps."""
        self.is_going = True
        self.loop.call_later(_INTERVAL, self._go)

    def _go(self) -> None:
        due = monotonic() - LOOK_AROUND
        self.is_going = False
        for waiter in waiting(self._core):  # in order of arrival
            if type(waiter) is not AsyncWaiter or not waiter.sleeps_first(self.loop):
                continue
            if waiter.since > due:
                self.begin()
                return
            self.clock.wake(waiter)
