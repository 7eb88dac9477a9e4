"""What callers do while they wait: nothing, for a short while, and then they look for leaked leases and for deadlocks.

Nearly always all that a caller has to do is to wait for a connection to come back, which it does soon. For threads and
tasks `queue_up` and `lend_given` are the two ends of that wait: `checkout` for this case alone, in a third of the
steps. Where either says no, `checkout` goes on from there, with the caller's place in the queue.

The callers of a pool share the looking around. A look takes time for each waiter, so if each of some thousand waiters
looked by itself, on an event loop nothing else would run.

Never: sleeps, connects, judges a connection, gives one to a waiter.

Invariants that live here: 2 (order of arrival), 3 (one hand-over).
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import Any

from .._util.lock import InsideOwnStepError
from ..errors import PoolDeadlock
from ..settings import RETRY_INTERVAL, RETRY_NUM, patience_within, seconds
from ..stats import BOUNDS
from . import counters, deadlock, diagnostics, observed
from .checkout_request import CheckoutRequest
from .core import PoolCore
from .counters import QUICK, TOTAL
from .lease import Connection
from .slot import IN_USE, Slot
from .waiter import GIVEN, WAITING, Waiter

# How often a waiter looks for leaked leases: dropped ones, and those of dead threads.
LOOK_AROUND = 0.25  # seconds
_DEADLOCK_AFTER = 0.5  # seconds after which a waiting call looks for a deadlock
_FEW = 256  # waiters, of which each may wake up every `LOOK_AROUND`
# Seconds that the server's last reply vouches for a connection that goes from one borrower to the next.
_HANDING_OVER = 0.001


# -- the usual wait ------------------------------------------------------------------------------------------


def queue_up(
    core: PoolCore, waiter: Waiter, retry_num: int, retry_interval: float, timeout: float | None
) -> float | None:
    """Join the queue, where a wait for a connection to come back is all that can be done: returns for how many seconds
    the caller is to wait. None: `checkout` knows what else there is to do, or to tell.

    Raises:
        SettingsError: an argument, which is that of `get_connection`, is no number or negative.
    """
    ledger = core._ledger
    if not core._waits_plainly or core._verbose or ledger.leaked:
        return None
    if observed.observer is not None or observed.call.get() is not None:
        return None
    if timeout is None and retry_num == RETRY_NUM and retry_interval == RETRY_INTERVAL:
        patience = core._usual_patience
    else:
        patience = _patience_of(core, retry_num, retry_interval, timeout)
    if patience > LOOK_AROUND:
        patience = LOOK_AROUND
    elif patience <= 0.0:
        return None
    waiter.since = monotonic()
    try:
        has_joined = core._lock.step(ledger.join, waiter)
    except InsideOwnStepError:
        return None
    # Asked after joining: a pool that began to close before has failed its waiters without this one.
    return patience if has_joined and not core._closed and not core._backoff.failing else None


def _patience_of(core: PoolCore, retry_num: int, retry_interval: float, timeout: float | None) -> float:
    if timeout is None:
        timeout = core._settings.timeout
    else:
        seconds("timeout", timeout, None)
    return patience_within(timeout, retry_num, retry_interval)


def lend_given(core: PoolCore, lease: Connection, waiter: Waiter, place: Any, offset: int) -> bool:
    """The connection that was handed over to the caller, which was sent to the queue by `queue_up`, is lent; False
    where there is none, or it does not look fit: then `checkout` goes on."""
    slot: Any = lease._slot
    if waiter.state is not GIVEN:
        return False
    now = monotonic()
    # What expired, or was cut off, is not fresh: one number answers all questions.
    if now >= slot.fresh_until + _HANDING_OVER and not _looks_fit(core, lease, slot, now):
        return False
    # As `Counters.waited`, without its lock: with a GIL no other thread runs between reading a number and adding to it.
    waited = now - waiter.since
    bucket = 0 if waited <= QUICK else bisect_left(BOUNDS, waited)
    wait = core._counters.wait
    wait[bucket] += 1.0
    wait[TOTAL] += waited
    slot.since = now
    slot.place = place
    slot.offset = offset
    return True


def _looks_fit(core: PoolCore, lease: Connection, slot: Slot, now: float) -> bool:
    wire = slot.wire
    return not (
        slot.holder != id(lease)
        or slot.state is not IN_USE
        or wire is None
        or now >= slot.expires_at
        or wire.exchange.locked()
        or now - slot.role_known > core._asks_role_after
        or wire.readable(0)
    )


# -- a longer one --------------------------------------------------------------------------------------------


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
