"""Deadlock detection: do all borrowers that hold a connection wait for another one?

Nested borrowing: a thread or task that holds a connection asks for a second one, of the same pool or of another. When
all holders of a pool's connections do so, and all holders in the pools they wait for, none of them ever returns one.
The holder of a connection is the thread or task that used it last. A connection handed to another thread counts as that
thread's from its first use there; until then it looks like a forgotten one. That is why the search runs only after a
wait has lasted for a while, and why the pool only warns unless it is set to raise.

Owns: the search over the open pools of this process. Never: holds the locks of two pools at once, ends a wait.

The view of one pool may be out of date when the next one is read. So all are read twice: callers that wait both times
have waited throughout, and returned nothing in between.
"""

from __future__ import annotations

from typing import Any

from .._util.lock import InsideOwnStepError
from .._util.record import Record
from .core import PoolCore
from .registry import all_pools
from .slot import IN_USE
from .waiter import WAITING, Waiter


class View(Record):
    """One pool at one instant."""

    core: PoolCore
    # the borrowers of all its connections; None: there is capacity, or one has no borrower
    holding: frozenset[int] | None
    asking: dict[int, Waiter]  # by borrower


class Circle(Record):
    """Callers that wait for each other.

    Attributes:
        waiters: the callers in a queue, in order of arrival.
        pools: the pools that they hold and wait for, by name.
        last: the caller that gets the error: the last to arrive, of those whose pool raises if there are any.
    """

    waiters: tuple[Waiter, ...]
    pools: tuple[str, ...]
    last: Waiter | None


def find(core: PoolCore, me: Any = None) -> Circle | None:
    """Return the circle that a waiter of `core` is in; None when a holder may still return a connection.

    `me` is the borrower of a call that may have left the queue of `core`; it counts as waiting there.
    """
    first = _find_once(core, id(me))
    return first if first is not None and first == _find_once(core, id(me)) else None


def _find_once(core: PoolCore, me: int) -> Circle | None:
    own = _look(core)
    if own is None or own.holding is None:
        return None
    others: list[View] | None = None
    seen, circle, todo = {id(core): own}, {}, [own]
    while todo:
        view = todo.pop()
        if view.holding is None:
            return None
        for borrower in view.holding:
            waits_in = own if borrower in own.asking or borrower == me else None
            if waits_in is None:
                others = _all_but(core) if others is None else others
                waits_in = next((other for other in others if borrower in other.asking), None)
                if waits_in is None:
                    return None
            if borrower in waits_in.asking:
                circle[borrower] = waits_in.core, waits_in.asking[borrower]
            if id(waits_in.core) not in seen:
                seen[id(waits_in.core)] = waits_in
                todo.append(waits_in)
    waiting = sorted(circle.values(), key=lambda one: one[1].since)
    told = [one for one in waiting if one[0]._settings.deadlock == "raise"] or waiting
    names = sorted(view.core.name for view in seen.values())
    return Circle(tuple(waiter for _, waiter in waiting), tuple(names), told[-1][1] if told else None)


def _all_but(core: PoolCore) -> list[View]:
    """Return the other pools of this process that have waiters."""
    views = [_look(pool) for pool in all_pools() if pool is not core and pool._here[0] and pool._ledger.waiters]
    return [view for view in views if view is not None]


def _look(core: PoolCore) -> View | None:
    try:
        return core._lock.step(_look_locked, core)
    except InsideOwnStepError:
        return None


def _look_locked(core: PoolCore) -> View:
    ledger = core._ledger
    asking = {
        id(borrower): waiter
        for waiter in ledger.waiters.values()
        if waiter.state is WAITING and (borrower := waiter.borrower) is not None
    }
    if ledger.total < ledger.maxsize:
        return View(core, None, asking)
    holding = set()
    for slot in ledger.slots():
        if slot.state is not IN_USE or slot.user is None:
            return View(core, None, asking)
        holding.add(id(slot.user))
    return View(core, frozenset(holding), asking)
