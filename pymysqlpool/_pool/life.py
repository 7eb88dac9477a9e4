"""The life of a pool, in one process.

Owns: its states, and what changes once. Never: changes them itself.
"""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .waiter import ThreadWaiter


class PoolState(Enum):
    """NEW -> OPEN -> CLOSING -> CLOSED; a fork is no state, since a child starts with an empty ledger."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Life:
    """What changes once in the life of a pool, in one process."""

    __slots__ = ("a_lease_ended", "maintenance", "state")

    def __init__(self, state: PoolState, a_lease_ended: ThreadWaiter) -> None:
        self.state = state  # guarded by the pool's lock
        self.maintenance: Any = None  # the MaintenanceThread; guarded by the pool's lock
        self.a_lease_ended = a_lease_ended  # close() waits for the last one
