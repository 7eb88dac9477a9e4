"""What happens while nobody asks: idle connections expire, shrink back to `size`, are kept alive; leases that nobody
will return are taken back.

It may be done by any thread that returns a connection, at most once a second (`tend` is cheap when nothing is due), or
by a daemon thread of its own (`Caretaker`): everything is right without one, only less prompt (Invariant 15).

It never touches a connection it has not reserved, holds the pool by a weak reference only, and starts nothing before
the first borrow.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from .._util import callsite as _borrower
from .._util.log import logger
from ..reuse import Reason, unfit
from .ledger import IN_USE

if TYPE_CHECKING:
    from ..pool import ConnectionPool
    from .ledger import Slot

INTERVAL = 1.0  # seconds between two looks
_PING_TIMEOUT = 5.0  # seconds for one keepalive


class Keeper:
    """The owner of a slot that the pool itself is closing or looking after."""

    def __init__(self) -> None:
        self._slot: Slot | None = None

    def __del__(self) -> None:
        if self._slot is not None:
            self._slot.drop(self)


def discard_idle(pool: ConnectionPool, why: Callable[[Slot], Reason | None]) -> None:
    """Close the idle connections for which `why` has a reason. One at a time is out of circulation meanwhile."""
    with pool._lock:
        candidates = pool._ledger.idle.copy()
    for ready in candidates:
        keeper = Keeper()
        with pool._lock:
            slot = pool._ledger.reserve(ready, keeper)
        if slot is None:
            continue
        reason = why(slot)
        if reason is not None:
            pool._discard(keeper, slot, reason, quiet=True)
        else:
            with pool._lock:
                waiter = pool._ledger.give(slot)
                keeper._slot = None
            if waiter is not None:
                waiter.wake()


def reap(pool: ConnectionPool, look_for_dead_borrowers: bool = False) -> None:
    """Take back the leases that were thrown away, and those of threads that have ended (Invariant 11)."""
    found: list[tuple[Keeper, Slot, bool]] = []
    with pool._lock:
        for slot in pool._ledger.ownerless(look_for_dead_borrowers):
            keeper = Keeper()
            found.append((keeper, slot, slot.state is IN_USE))
            pool._ledger.close(slot, keeper, Reason.LEAKED)
    for keeper, slot, lent in found:
        if lent:
            with pool._lock:
                pool._counters.leaked += 1
            logger.warning(
                "A connection of pool(%s) was never given back; it was borrowed at %s and is taken back now",
                pool.name,
                _borrower.describe_place(_borrower.spell_out(slot.place, slot.offset)),
            )
        pool._discard(keeper, slot, Reason.LEAKED)


def tend(pool: ConnectionPool) -> None:
    """Close the idle connections that are too old, dead or surplus; ping those that have been idle for long."""
    own = pool._settings
    now = monotonic()
    reap(pool)
    longest = own.max_idle

    def is_idle_for_too_long(slot: Slot) -> bool:
        return longest is not None and pool._ledger.total > pool._ledger.size and now - slot.since > longest

    discard_idle(
        pool,
        lambda slot: unfit(
            slot.why_expired(now),
            dead=bool(slot.wire.readable(0)),
            idle_for_too_long=is_idle_for_too_long(slot),
        ),
    )
    if own.keepalive is not None:
        _keep_alive(pool, now - own.keepalive)


def _keep_alive(pool: ConnectionPool, before: float) -> None:
    def why(slot: Slot) -> Reason | None:
        if slot.since > before:
            return None
        answers = pool._answers(slot.wire, monotonic() + _PING_TIMEOUT)
        if answers:
            slot.since = monotonic()
        return unfit(None, dead=not answers)

    discard_idle(pool, why)


def hire(pool: ConnectionPool) -> None:
    """Start the pool's caretaker, if it is open and has none."""
    with pool._lock:
        if pool._caretaker is not None or not pool.is_open:
            return
        caretaker = pool._caretaker = Caretaker(pool)
    caretaker.start()


class Caretaker(threading.Thread):
    """Tends a pool until it is closed or forgotten."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(name=f"pymysqlpool {pool.name}", daemon=True)
        self._pool = weakref.ref(pool)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(INTERVAL):
            pool = self._pool()
            if pool is None:
                return
            tend(pool)
            del pool

    def stop(self) -> None:
        self._ended.set()
        if self is not threading.current_thread():
            self.join(_PING_TIMEOUT + INTERVAL)
