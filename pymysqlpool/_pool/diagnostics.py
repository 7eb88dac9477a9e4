"""What a caller is told who could not be given a connection: the numbers, the holders, the last cause, the way out.

Built only when a call has failed; never on the way of a call that succeeds, and never with the pool's lock held.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from .._util import callsite as _borrower
from .._util.log import Lines, logger
from ..errors import GetConnectionFromPoolError, PoolClosed, PoolDeadlock, PoolOverloaded, PoolUnavailable
from . import deadlock as _deadlock
from .ledger import IN_USE

if TYPE_CHECKING:
    from ..pool import ConnectionPool
    from .waiter import Waiter

_HOLDERS_SHOWN = 10


def failure(
    pool: ConnectionPool,
    kind: type[GetConnectionFromPoolError],
    waiter: Waiter,
    waited: float,
    cause: BaseException | None,
) -> GetConnectionFromPoolError:
    """The error of `kind` for the call of `waiter`, after `waited` seconds; `cause` is the last connect error."""
    now = pool.stats()
    where = f"pool({pool.name})"
    if kind is PoolClosed:
        text = f"can't get connection from {where}: the pool is closed"
    elif kind is PoolOverloaded:
        text = (
            f"can't get connection from {where}: {now.waiting} callers wait already and "
            f"max_waiting={pool._settings.max_waiting} allows no more; shed load, or raise max_waiting or maxsize"
        )
    elif kind is PoolUnavailable:
        text = (
            f"can't get connection from {where} within {waited:.2f} s: the server at {pool.endpoint} could not be "
            f"reached, last error: {cause}"
        )
    elif kind is PoolDeadlock:
        text = (
            f"can't get connection from {where}: after {waited:.2f} s all {now.in_use} connections are held by callers "
            f"that wait for another one, and this call gives up so that the others can go on.{holders(pool, waiter)}"
        )
    else:
        text = (
            f"can't get connection from {where} within {waited:.2f} s: {now.in_use} in use, {now.idle} idle, "
            f"{now.connecting} connecting of maxsize={now.maxsize}, {now.waiting} waiting; give connections back "
            f"sooner, wait longer (timeout=), or raise maxsize.{holders(pool, waiter)}"
        )
    return kind(
        text,
        pool=pool.name,
        waited=waited,
        in_use=now.in_use,
        idle=now.idle,
        waiting=now.waiting,
        maxsize=now.maxsize,
    )


def warn_of_deadlock(pool: ConnectionPool, waiter: Waiter) -> None:
    """Say once in the log what the timeouts to come will say."""
    logger.warning(
        "All connections of pool(%s) are held by callers that wait for another one; unless somebody else gives one "
        "back, they wait until their timeouts (deadlock='raise' ends the last one's wait at once).%s",
        pool.name,
        Lines(holders(pool, waiter)),
    )


def holders(pool: ConnectionPool, waiter: Waiter | None = None) -> str:
    """Who holds the connections, longest first; that it is the caller itself, when it is; and whether all wait."""
    now = monotonic()
    me = (waiter.borrower if waiter is not None else None) or _borrower.current()
    with pool._lock:
        is_deadlock = _deadlock.find(pool._ledger, me) is not None
        held = [
            (now - slot.since, slot.user, _borrower.spell_out(slot.place, slot.offset), slot.in_transaction)
            for slot in pool._ledger.slots()
            if slot.state is IN_USE and _borrower.spell_out(slot.place, slot.offset) is not None
        ]
    held.sort(key=lambda one: -one[0])
    lines = [
        f"\n  held for {age:.1f} s by {_borrower.describe_borrower(borrower)}, "
        f"{'in' if in_transaction else 'not in'} a transaction, "
        f"borrowed at {_borrower.describe_place(place)}"
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
    if is_deadlock:
        lines.append("\n  All who hold one wait for another: a deadlock.")
    return "".join(lines)
