"""Does everybody who holds a connection wait for another one?

Nested borrowing: a thread or task that holds a connection asks for a second one, of the same pool or of another. When
all who hold one of a pool do so, and all who hold one of the pools they wait for, none of them will ever give one back.
Who holds a connection is whoever used it last, so one that was handed on counts as the other's, from its first use
there on; until then it cannot be told from one that was forgotten. That is why this is looked at when a wait has lasted
for a while, and why the pool only warns unless it is told to raise.

Owns: the search over the open pools of this process. Never: holds the locks of two pools at once, ends a wait.

What is read of one pool may be out of date when the next one is read. So it is read twice: those who wait both times
have waited all the while, and gave nothing back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._util.lock import InsideOwnStepError
from .core import PoolCore, open_pools
from .slot import IN_USE
from .waiter import WAITING, Waiter


@dataclass(frozen=True, slots=True)
class View:
    """One pool at one instant."""

    core: PoolCore
    holding: frozenset[int] | None  # the borrowers of all its connections; None: there is room, or one is nobody's
    asking: dict[int, Waiter]  # by borrower


@dataclass(frozen=True, slots=True)
class Circle:
    """Callers that wait for each other.

    Attributes:
        waiters: those that are in a queue, in order of their coming.
        pools: the pools that they hold and wait for, by name.
        last: the one to be told. The last that came, of those whose pool is to raise, if there are any.
    """

    waiters: tuple[Waiter, ...]
    pools: tuple[str, ...]
    last: Waiter | None


def find(core: PoolCore, me: Any = None) -> Circle | None:
    """The circle in which a caller that waits for `core` stands; None when somebody may still give one back.

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
    """The other pools of this process in which somebody waits."""
    try:
        pools = list(open_pools)
    except RuntimeError:
        return []  # another thread made a pool in this very instant; the next look sees it
    views = [_look(pool) for pool in pools if pool is not core and pool._here[0] and pool._ledger.waiters]
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
