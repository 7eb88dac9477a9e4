"""A task's place in the pool's queue: sleeping on the event loop, and waking from any thread.

Never: decides anything; see `_pool/waiter`.
"""

from __future__ import annotations

import asyncio
from threading import get_ident
from time import monotonic

from .._pool.lease import Connection
from .._pool.waiter import WAITING, Waiter
from .clock import Clock
from .pending import Awaited, Pending, specialized


@specialized
class AsyncWaiter(Waiter, Awaited):
    """A task that sleeps on its event loop until woken. Its first sleep awaits the waiter itself, see `lending`."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_clock",
        "_context",
        "_error",
        "_loop",
        "_thread",
        "callback",
        "is_done",
        "is_woken",
        "left",
        "sleeper",
        "value",
    )

    def __init__(self, lease: Connection, loop: asyncio.AbstractEventLoop, borrower: object, clock: Clock) -> None:
        # As `Waiter.__init__`, without the call: this runs at every wait.
        self.lease = lease
        self.borrower = borrower
        self.since = 0.0
        self.arrival = 0
        self.state = WAITING
        self.may_grow = False
        self._loop = loop
        self._clock = clock
        self._thread = get_ident()
        self.is_woken = False
        self.sleeper: Awaited | None = None  # what its task awaits; touched in the loop's thread only
        self.left = False  # its task was cancelled; the thread that still works for it withdraws it
        # As `Pending.__init__`.
        self._asyncio_future_blocking = False
        self.is_done = False
        self.value = None
        self._error = None
        self.callback = None

    def sleeps_first(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is in its first sleep, on `loop`."""
        return self.sleeper is self and self._loop is loop

    async def wait(self, timeout: float) -> bool:
        """Wait until woken, at most `timeout` seconds; return True if woken."""
        if not self.is_woken:
            sleeper = self.sleeper = Pending(self._loop)
            self._clock.wake_at(monotonic() + timeout, sleeper, self._loop)
            await sleeper
        self.sleeper = None
        woken, self.is_woken = self.is_woken, False
        return woken

    def wake(self) -> None:
        self.is_woken = True
        if get_ident() == self._thread:
            sleeper, clock = self.sleeper, self._clock
            if sleeper is not None and not sleeper.is_done:
                if clock.collects:  # as `Clock.wake`, without the call
                    sleeper.is_done = True
                    clock.woken.append(sleeper)
                else:
                    sleeper.end_soon()  # the loop is awake: it runs this code
            return
        try:  # noqa: SIM105 - `suppress` costs more
            self._loop.call_soon_threadsafe(self._end_sleep)
        except RuntimeError:
            pass  # the loop is closed, so no task waits

    def _end_sleep(self) -> None:
        if self.sleeper is not None:
            self._clock.wake(self.sleeper)
