"""A task's borrow: the usual ways, in which a connection is idle or comes back soon.

Owns: the steps of these two ways; everything else is `AsyncConnectionPool._borrow`'s, which begins where they end.
Never: decides who is next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import monotonic
from typing import Any
from weakref import ref

from .._pool.for_loops import lend_idle
from .._pool.idle_lease import make_lease
from .._pool.while_waiting import LOOK_AROUND, lend_given, queue_up
from .connection import AsyncConnection
from .rounds import Rounds
from .tokens import current_borrower, task_of
from .waiter import AsyncWaiter
from .worker import running_loop


def lend(
    self: Any,
    retry_num: int,
    retry_interval: float,
    pre_ping: bool | float,
    timeout: float | None,
    place: Any,
    offset: int,
) -> Generator[Any, None, AsyncConnection]:
    """Borrow from the `AsyncConnectionPool` `self`. Arguments are those of `get_connection`, and its call site."""
    loop = asyncio._get_running_loop() or running_loop()
    borrower = task_of(loop) or current_borrower(loop)
    reference = ref(borrower)
    core = self.pool
    lease, is_lent = lend_idle(core, reference, place, offset)
    if is_lent and not pre_ping:
        return self._connection_class(self, lease, borrower)  # type: ignore[no-any-return]
    rounds = self._rounds
    if rounds is None or rounds.loop is not loop:
        rounds = self._rounds = Rounds(core, loop)
    has_queued = 0.0
    if lease is not None:
        waiter = AsyncWaiter(lease, loop, reference, rounds.clock)
    else:
        lease = make_lease(core)
        waiter = AsyncWaiter(lease, loop, reference, rounds.clock)
        if not pre_ping:
            # A shorter path than `checkout`: a connection is nearly always returned within this time.
            patience = queue_up(core, waiter, retry_num, retry_interval, timeout)
            if patience is not None:
                if not waiter.is_woken:
                    waiter.sleeper = waiter
                    if patience < LOOK_AROUND:
                        rounds.clock.wake_at(waiter.since + patience, waiter, loop)
                    elif not rounds.is_going:
                        rounds.begin()
                    waiter._asyncio_future_blocking = True  # as `await waiter`, without one more generator
                    try:
                        yield waiter
                    except BaseException:
                        waiter.sleeper = None
                        self._withdraw(lease, waiter)
                        raise
                    waiter.sleeper = None
                woken, waiter.is_woken = waiter.is_woken, False
                if woken and lend_given(core, lease, waiter, place, offset):
                    waiter.lease = None  # a clock may keep the waiter for a while, and must not keep the lease
                    return self._connection_class(self, lease, borrower)  # type: ignore[no-any-return]
                has_queued = monotonic() - waiter.since
    yield from self._borrow(waiter, has_queued, retry_num, retry_interval, pre_ping, timeout, place, offset).__await__()
    return self._connection_class(self, lease, borrower)  # type: ignore[no-any-return]
