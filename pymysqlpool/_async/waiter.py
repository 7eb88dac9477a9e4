"""A task's place in the pool's queue: sleeping on the event loop, and waking from any thread.

Never: decides anything; see `_pool/waiter`.
"""

from __future__ import annotations

import asyncio
from threading import get_ident

from .._pool.lease import Connection
from .._pool.waiter import Waiter
from .clock import clock_of


class AsyncWaiter(Waiter):
    """A task that sleeps on its event loop until woken."""

    __slots__ = ("_is_woken", "_loop", "_sleeper", "_thread", "left")

    def __init__(self, lease: Connection, loop: asyncio.AbstractEventLoop) -> None:
        Waiter.__init__(self, lease)  # runs at every wait, and `super()` would cost as much as the rest
        self._loop = loop
        self._thread = get_ident()
        self._is_woken = False
        self._sleeper: asyncio.Future[None] | None = None  # touched in the loop's thread only
        self.left = False  # its task was cancelled; the thread that still works for it withdraws it

    def sleep(self, timeout: float) -> asyncio.Future[None] | None:
        """What to await: it is done when the caller is woken, at the latest after `timeout` seconds. None: it has been
        woken already. `has_woken` comes afterwards."""
        if self._is_woken:
            return None
        loop = self._loop
        sleeper = self._sleeper = loop.create_future()
        clock_of(loop).wake_after(loop, timeout if timeout > 0.0 else 0.0, sleeper)
        return sleeper

    def has_woken(self) -> bool:
        """Whether it was woken, after a sleep."""
        self._sleeper = None
        woken, self._is_woken = self._is_woken, False
        return woken

    async def wait(self, timeout: float) -> bool:
        """Wait until woken, at most `timeout` seconds; return True if woken."""
        sleeper = self.sleep(timeout)
        if sleeper is not None:
            await sleeper
        return self.has_woken()

    def wake(self) -> None:
        self._is_woken = True
        if get_ident() == self._thread:
            self._end_sleep()  # the loop is awake: it runs this code
            return
        try:  # noqa: SIM105 - `suppress` costs more
            self._loop.call_soon_threadsafe(self._end_sleep)
        except RuntimeError:
            pass  # the loop is closed, so no task waits

    def _end_sleep(self) -> None:
        sleeper = self._sleeper
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)
