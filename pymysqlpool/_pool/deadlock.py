"""Does everybody who holds a connection wait for another one?

Nested borrowing: a thread or task that holds a connection asks for a second one. When all who hold one do so, none of
them will ever give one back. Who holds a connection is whoever used it last, so one that was handed on counts as the
other's, from its first use there on; until then it cannot be told from one that was forgotten. That is why this
is looked at when a wait has lasted for a while, and why the pool only warns unless it is told to raise.

Pure: the pool calls it with its lock held.
"""

from __future__ import annotations

from typing import Any

from .ledger import Ledger
from .slot import IN_USE
from .waiter import WAITING, Waiter


def find(ledger: Ledger, me: Any = None) -> list[Waiter] | None:
    """The callers that wait for each other, in order of arrival; None when somebody may still give one back.

    `me` is the borrower of a call that may have left the queue; it counts as waiting.
    """
    if ledger.total < ledger.maxsize:
        return None
    holding = set()
    for slot in ledger.slots():
        if slot.state is not IN_USE or slot.user is None:
            return None
        holding.add(id(slot.user))
    asking = {
        id(borrower): waiter
        for waiter in ledger.waiters.values()
        if waiter.state is WAITING and (borrower := waiter.borrower) is not None
    }
    if not holding <= asking.keys() | {id(me)}:
        return None
    return [waiter for one, waiter in asking.items() if one in holding]
