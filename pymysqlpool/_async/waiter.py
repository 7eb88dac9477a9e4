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
    """A task that sleeps on its event loop until woken. Its first sleep awaits the waiter itself: `sleep_first`."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_clock",
        "_context",
        "_error",
        "_is_woken",
        "_loop",
        "_sleeper",
        "_thread",
        "callback",
        "is_done",
        "left",
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
        self._is_woken = False
        self._sleeper: Awaited | None = None  # touched in the loop's thread only
        self.left = False  # its task was cancelled; the thread that still works for it withdraws it
        # As `Pending.__init__`.
        self._asyncio_future_blocking = False
        self.is_done = False
        self.value = None
        self._error = None
        self.callback = None

    def sleep_first(self) -> bool:
        """Begin the first sleep: the caller is to await this object, which is done when it is woken, and has it woken
        in time. False: it has been woken already. `has_woken` comes afterwards."""
        if self._is_woken:
            return False
        self._sleeper = self
        return True

    def sleeps_first(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is in its first sleep, on `loop`."""
        return self._sleeper is self and self._loop is loop

    def has_woken(self) -> bool:
        """Whether it was woken, after a sleep."""
        self._sleeper = None
        woken, self._is_woken = self._is_woken, False
        return woken

    async def wait(self, timeout: float) -> bool:
        """Wait until woken, at most `timeout` seconds; return True if woken."""
        if not self._is_woken:
            sleeper = self._sleeper = Pending(self._loop)
            self._clock.wake_at(monotonic() + timeout, sleeper, self._loop)
            await sleeper
        return self.has_woken()

    def wake(self) -> None:
        self._is_woken = True
        if get_ident() == self._thread:
            sleeper, clock = self._sleeper, self._clock
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
        if self._sleeper is not None:
            self._clock.wake(self._sleeper)
