"""What callers do while they wait: they look for leaked leases and for deadlocks.

The callers of a pool share this work. A look takes time for each waiter, so if each of some thousand waiters looked by
itself, on an event loop nothing else would run.

Never: serves a waiter.
"""

from __future__ import annotations

from time import monotonic

from ..errors import PoolDeadlock
from . import counters, deadlock, diagnostics
from .checkout_request import CheckoutRequest
from .core import PoolCore
from .waiter import WAITING, Waiter

# How often a waiter looks for leaked leases: dropped ones, and those of dead threads.
LOOK_AROUND = 0.25  # seconds
_DEADLOCK_AFTER = 0.5  # seconds after which a waiting call looks for a deadlock
_FEW = 256  # waiters, of which each may wake up every `LOOK_AROUND`


def sleep_of_one(core: PoolCore) -> float:
    """After how many seconds a caller that is not woken wakes up: longer in a long queue, where others do."""
    return LOOK_AROUND * min(4.0, 1.0 + len(core._ledger.waiters) / _FEW)


def looks_around(core: PoolCore, waiter: Waiter) -> bool:
    """Whether this caller, which was not woken, is the one that looks around now. The caller that the last look has
    found to be in a deadlock looks, too."""
    now = monotonic()
    if now < core._look_at and core._suspect != id(waiter):
        return False
    core._look_at = now + LOOK_AROUND / 2
    return True


def meets_deadlock(core: PoolCore, waiter: Waiter, request: CheckoutRequest) -> bool:
    """Return whether this call, after waiting for a while, is in a circle of callers that wait for each other. Warns or
    raises, as the option `deadlock` says."""
    if monotonic() - request.started < _DEADLOCK_AFTER:
        return False
    circle = deadlock.find(core)
    core._suspect = 0 if circle is None else id(circle.last)
    if circle is None or circle.last is not waiter:
        return False
    if core._settings.deadlock == "raise":
        if not core._lock.step(_leave_queue_locked, core, waiter):
            return False
        count_timeout(core, request)
        raise diagnostics.failure(core, PoolDeadlock, waiter, monotonic() - request.started, None, request)
    if monotonic() < request.give_up_at:  # else the timeout's error reports it
        diagnostics.warn_of_deadlock(core, waiter)
    return True


def _leave_queue_locked(core: PoolCore, waiter: Waiter) -> bool:
    if waiter.state is not WAITING:
        return False  # served at this moment
    core._ledger.withdraw(waiter)
    return True


def count_timeout(core: PoolCore, request: CheckoutRequest) -> None:
    """Count a call that got no connection in time; a part of a call is none."""
    if request.call is None:
        core._counters.add(counters.TIMEOUTS)
