"""Reports about a pool: its numbers, its holders, and the error of a call that got no connection.

Owns: the texts of these errors and reports. An error is built only after a call has failed, and never with the pool's
lock held. A report takes no lock: it may be asked for by a signal handler, a finalizer or a logging handler, at any
point.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from .. import failures
from .._util import callsite
from .._util.log import Lines, logger
from ..errors import (
    GetConnectionFromPoolError,
    PoolClosed,
    PoolDeadlock,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
)
from ..failures import Server
from ..stats import Borrower, PoolEvent, PoolStats
from . import counters, observed
from . import deadlock as _deadlock
from .checkout_request import CheckoutRequest
from .core import PoolCore
from .log_fields import fields
from .slot import CLOSING, CONNECTING, IDLE, IN_USE, RESERVED
from .waiter import Waiter

_HOLDERS_SHOWN = 10
_WHY = {
    **dict.fromkeys(Server, "could not be reached"),
    Server.FULL: "has no room for one more connection",
    Server.REFUSES_WORK: "takes the login but not the work",
    Server.REFUSES_US: "refuses the login",
}
_WAY_OUT = {
    **dict.fromkeys(Server, "Check host, port and whether it runs, or wait longer (timeout=)"),
    Server.FULL: "Let all pools together want less (maxsize=), or raise max_connections or the account's limits",
    Server.REFUSES_WORK: "Check its role, and init_command and the hooks of the pool",
    Server.REFUSES_US: "Check user, password and database",
}


def numbers(core: PoolCore) -> PoolStats:
    """The pool's numbers at this instant."""
    ledger, counted = core._ledger, core._counters
    states = [slot.state for slot in ledger.slots()]
    lent = ledger.lent
    wait = counters.histogram(counted.wait)
    return PoolStats(
        name=core.name,
        size=ledger.size,
        maxsize=ledger.maxsize,
        idle=states.count(IDLE),
        in_use=states.count(IN_USE),
        connecting=states.count(CONNECTING),
        reserved=states.count(RESERVED),
        closing=states.count(CLOSING),
        waiting=len(ledger.waiters) + counted[counters.WAITING_OUTSIDE],
        borrowed=lent,
        returned=lent - states.count(IN_USE),
        created=counted[counters.CREATED],
        reset=counted[counters.RESET],
        discarded=counted.discarded(),
        timeouts=counted[counters.TIMEOUTS],
        rejected=counted[counters.REJECTED],
        connect_errors=counted[counters.CONNECT_ERRORS],
        leaked=counted[counters.LEAKED],
        waits=wait.count,
        wait_time=wait.sum,
        wait=wait,
        use=counters.histogram(counted.use),
        create=counters.histogram(counted.create),
    )


def borrowers(core: PoolCore) -> list[Borrower]:
    """What holds connections at this moment, the longest first."""
    now = monotonic()
    held = [
        Borrower(
            now - slot.since, callsite.describe_borrower(slot.user), callsite.describe_place(place), in_transaction
        )
        for slot in core._ledger.slots()
        if slot.state is IN_USE
        for place, in_transaction in [(callsite.resolve(slot.place, slot.offset), bool(slot.in_transaction))]
        if place is not None
    ]
    return sorted(held, key=lambda one: -one.seconds)


def events(core: PoolCore) -> list[PoolEvent]:
    """The last discards, connect errors and borrows that got no connection, the latest first."""
    return list(core._counters.events)[::-1]


def capacity(core: PoolCore) -> int:
    """Return how many connections there may be at this moment."""
    return core._ledger.maxsize


def read_timeout(core: PoolCore) -> float | None:
    """Return how many seconds a statement waits for its reply; None: for ever."""
    timeout: float | None = core._connect_args.get("read_timeout")
    return timeout


def last_used(core: PoolCore) -> float | None:
    """Return when a connection was last lent or returned, monotonic; None when there is none."""
    return max((slot.since for slot in core._ledger.slots() if slot.state in (IDLE, IN_USE)), default=None)


def is_failing(core: PoolCore) -> bool:
    """Return whether the last attempt to connect failed."""
    return core._backoff.failing


def inside_a_step(core: PoolCore, place: callsite.Place | None) -> PoolTimeout:
    """Return the error for a finalizer, signal handler or hook that borrows inside a step of its own thread."""
    now = numbers(core)
    return PoolTimeout(
        f"can't get connection from pool({core.name}): the call at {callsite.describe_place(place)} was made inside a "
        f"step of the pool in the same thread, as by a finalizer, a signal handler or a hook, where it cannot wait; "
        f"none was idle at this instant ({now.in_use} in use of maxsize={now.maxsize}). Borrow in another place",
        pool=core.name,
        waited=0.0,
        in_use=now.in_use,
        idle=now.idle,
        waiting=now.waiting,
        maxsize=now.maxsize,
    )


def failure(
    core: PoolCore,
    kind: type[GetConnectionFromPoolError],
    waiter: Waiter,
    waited: float,
    cause: BaseException | None,
    request: CheckoutRequest | None = None,
) -> GetConnectionFromPoolError:
    """The error of `kind` for the call of `waiter`, after `waited` seconds; `cause` is the last connect error."""
    now = numbers(core)
    if request is None or request.call is None:
        _note(core, kind, waited)
    where = f"pool({core.name})"
    if kind is PoolClosed:
        text = f"can't get connection from {where}: the pool is closed"
    elif kind is PoolOverloaded:
        text = (
            f"can't get connection from {where}: {now.waiting} callers wait already and "
            f"max_waiting={core._settings.max_waiting} allows no more; shed load, or raise max_waiting or maxsize"
        )
    elif kind is PoolUnavailable:
        says = failures.of_connect(cause, had=waited).server if cause is not None else Server.SLOW
        text = (
            f"can't get connection from {where} within {waited:.2f} s: the server at {core.endpoint} "
            f"{_WHY[says] if cause is not None else 'does not answer'} ({now.in_use} in use, {now.connecting} "
            f"connecting of maxsize={now.maxsize}, {now.waiting} waiting), last error: {cause}. {_WAY_OUT[says]}"
        )
    elif kind is PoolDeadlock:
        text = (
            f"can't get connection from {where}: after {waited:.2f} s all {now.in_use} connections are held by callers "
            f"that wait for another one, and this call gives up so that the others can go on.{holders(core, waiter)}"
        )
    elif now.total < now.maxsize or not now.in_use:
        text = (
            f"can't get connection from {where} within {waited:.2f} s: none was idle, and that was no time to make one "
            f"({now.in_use} in use, {now.connecting} connecting of maxsize={now.maxsize}, {now.waiting} waiting); wait "
            f"longer (timeout=), or make some beforehand (pre_create_num=){holders(core, waiter)}"
        )
    else:
        text = (
            f"can't get connection from {where} within {waited:.2f} s: {now.in_use} in use, {now.idle} idle, "
            f"{now.connecting} connecting of maxsize={now.maxsize}, {now.waiting} waiting; give connections back "
            f"sooner, wait longer (timeout=), or raise maxsize.{holders(core, waiter)}"
        )
    return kind(
        text,
        pool=core.name,
        waited=waited,
        in_use=now.in_use,
        idle=now.idle,
        waiting=now.waiting,
        maxsize=now.maxsize,
    )


def _note(core: PoolCore, kind: type[BaseException], waited: float) -> None:
    core._counters.happened("no connection", f"{kind.__name__} after {waited:.2f} s")


def count_call(core: PoolCore, call: observed.Call, began: float, error: BaseException | None) -> None:
    """Count a call that borrowed in parts, the last of them here.

    Args:
        began: monotonic.
        error: what ended it; None: a lease.
    """
    waited = monotonic() - began
    if call.waited:
        core._counters.waited(waited)
    if isinstance(error, PoolTimeout):
        core._counters.add(counters.TIMEOUTS)
    if isinstance(error, GetConnectionFromPoolError):
        _note(core, type(error), waited)
    if observed.observer is not None and (call.waited or call.connected):
        observed.observer(core, began, call.connected, error)


@contextmanager
def waiting_outside(core: PoolCore) -> Iterator[None]:
    """Inside of this block a caller waits for a connection of this pool in another queue, as in that of a cluster."""
    core._counters.add(counters.WAITING_OUTSIDE)
    try:
        yield
    finally:
        core._counters.add(counters.WAITING_OUTSIDE, -1)


def warn_of_deadlock(core: PoolCore, waiter: Waiter) -> None:
    """Log the deadlock once, before the timeouts report it."""
    logger.warning(
        "All connections of pool(%s) are held by callers that wait for another one; unless another caller gives one "
        "back, they wait until their timeouts (deadlock='raise' ends the last one's wait at once).%s",
        core.name,
        Lines(holders(core, waiter)),
        extra=fields(core, "deadlock", in_use=len(core._ledger.borrowed()), waiting=len(core._ledger.waiters)),
    )


def holders(core: PoolCore, waiter: Waiter | None = None) -> str:
    """Describe the holders of the connections, longest first; whether the caller is one of them; whether all wait."""
    now = monotonic()
    me = (waiter.borrower if waiter is not None else None) or callsite.current()
    circle = None if core._lock.is_taken_here() else _deadlock.find(core, me)
    held = [
        (now - slot.since, slot.user, callsite.resolve(slot.place, slot.offset), slot.in_transaction)
        for slot in core._ledger.slots()
        if slot.state is IN_USE and callsite.resolve(slot.place, slot.offset) is not None
    ]
    held.sort(key=lambda one: -one[0])
    lines = [
        f"\n  held for {age:.1f} s by {callsite.describe_borrower(borrower)}, "
        f"{'in' if in_transaction else 'not in'} a transaction, "
        f"borrowed at {callsite.describe_place(place)}"
        for age, borrower, place, in_transaction in held[:_HOLDERS_SHOWN]
    ]
    if len(held) > _HOLDERS_SHOWN:
        lines.append(f"\n  and {len(held) - _HOLDERS_SHOWN} more")
    mine = sum(borrower is me for _, borrower, _, _ in held)
    if mine:
        lines.append(
            f"\n  This caller itself holds {mine} of them: it borrowed again before it gave back (nested borrowing), "
            f"which deadlocks when all do so. Pass the connection on instead of borrowing another."
        )
    if circle is not None:
        others = [name for name in circle.pools if name != core.name]
        over = f" The circle goes over pool({'), pool('.join(circle.pools)})." if others else ""
        lines.append(f"\n  All who hold one wait for another: a deadlock.{over}")
    return "".join(lines)
