"""What happens while nobody asks: idle connections expire, shrink back to `size`, are kept alive.

It may be done by any thread that returns a connection, at most once a second (`tend` is cheap when nothing is due), or
by a daemon thread of its own (`Caretaker`): everything is right without one, only less prompt (Invariant 15).

It never touches a connection it has not reserved, holds the pool by a weak reference only, and starts nothing before
the first borrow.
"""

from __future__ import annotations

import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING

from .reuse import Reason

if TYPE_CHECKING:
    from ._ledger import Slot
    from .pool import ConnectionPool

INTERVAL = 1.0  # seconds between two looks
_PING_TIMEOUT = 5.0  # seconds for one keepalive


def tend(pool: ConnectionPool) -> None:
    """Close the idle connections that are too old, dead or surplus; ping those that have been idle for long."""
    own = pool._settings
    now = monotonic()
    pool._reap()
    pool._discard_idle(Reason.EXPIRED, lambda slot: now >= slot.expires_at)
    pool._discard_idle(Reason.DEAD, lambda slot: slot.wire.readable(0))
    if own.max_idle is not None:
        longest = own.max_idle
        pool._discard_idle(
            Reason.IDLE, lambda slot: pool._ledger.total > pool._ledger.size and now - slot.since > longest
        )
    if own.keepalive is not None:
        _keep_alive(pool, now - own.keepalive)


def _keep_alive(pool: ConnectionPool, before: float) -> None:
    def is_silent(slot: Slot) -> bool:
        if slot.since > before:
            return False
        if not pool._answers(slot.wire, monotonic() + _PING_TIMEOUT):
            return True
        slot.since = monotonic()
        return False

    pool._discard_idle(Reason.DEAD, is_silent)


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
