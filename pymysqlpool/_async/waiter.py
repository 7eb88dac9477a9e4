"""A task's place in the pool's queue: sleeping on the event loop, and waking from any thread.

Never: decides anything; see `_pool/waiter`.
"""

from __future__ import annotations

import asyncio
from threading import get_ident
from time import monotonic

from .._pool.lease import Connection
from .._pool.waiter import WAITING, Waiter
from .clock import clock_of
from .pending import Pending


class AsyncWaiter(Waiter):
    """A task that sleeps on its event loop until woken."""

    __slots__ = ("_clock", "_is_woken", "_loop", "_sleeper", "_thread", "left")

    def __init__(self, lease: Connection, loop: asyncio.AbstractEventLoop, borrower: object) -> None:
        # As `Waiter.__init__`, without the call: this runs at every wait.
        self.lease = lease
        self.borrower = borrower
        self.since = 0.0
        self.arrival = 0
        self.state = WAITING
        self.may_grow = False
        self._loop = loop
        self._clock = clock_of(loop)
        self._thread = get_ident()
        self._is_woken = False
        self._sleeper: Pending | None = None  # touched in the loop's thread only
        self.left = False  # its task was cancelled; the thread that still works for it withdraws it

    def sleep(self, now: float, timeout: float) -> Pending | None:
        """What to await: it is done when the caller is woken, at the latest after `timeout` seconds from `now`
        (monotonic). None: it has been woken already. `has_woken` comes afterwards."""
        if self._is_woken:
            return None
        loop = self._loop
        sleeper = self._sleeper = Pending(loop)
        self._clock.wake_at(now + timeout, sleeper, loop)
        return sleeper

    def has_woken(self) -> bool:
        """Whether it was woken, after a sleep."""
        self._sleeper = None
        woken, self._is_woken = self._is_woken, False
        return woken

    async def wait(self, timeout: float) -> bool:
        """Wait until woken, at most `timeout` seconds; return True if woken."""
        sleeper = self.sleep(monotonic(), timeout)
        if sleeper is not None:
            await sleeper
        return self.has_woken()

    def wake(self) -> None:
        self._is_woken = True
        if get_ident() == self._thread:
            sleeper = self._sleeper
            if sleeper is not None:
                self._clock.wake(sleeper)  # the loop is awake: it runs this code
            return
        try:  # noqa: SIM105 - `suppress` costs more
            self._loop.call_soon_threadsafe(self._end_sleep)
        except RuntimeError:
            pass  # the loop is closed, so no task waits

    def _end_sleep(self) -> None:
        if self._sleeper is not None:
            self._clock.wake(self._sleeper)
