"""The right to one connection, and what is known of that connection from its login to its end.

    FREE -> CONNECTING -> IDLE <-> IN_USE
                           IDLE <-> RESERVED          (maintenance has it)
    CONNECTING -> IN_USE                              (made for a waiter)
    any living state -> CLOSING -> FREE

Owns: the owner of the slot (`holder`: one assignment changes it), and when and why its connection expires. Never:
decides what happens to an expired connection (`reuse.py`), or does I/O.

Invariants that live here: 3 (one hand-over), 11 (capacity cannot leak), 22 (an expiry has its reason).
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from .._driver.usage import Usage
from ..reuse import Reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Lease(Protocol):
        """An owner of a slot. `_slot` is set by the ledger and cleared by the owner."""

        _slot: Slot | None


class SlotState(Enum):
    FREE = "free"
    CONNECTING = "connecting"
    IDLE = "idle"
    IN_USE = "in use"
    RESERVED = "reserved"
    CLOSING = "closing"


FREE = SlotState.FREE
CONNECTING = SlotState.CONNECTING
IDLE = SlotState.IDLE
IN_USE = SlotState.IN_USE
RESERVED = SlotState.RESERVED
CLOSING = SlotState.CLOSING

LEAKED = -1  # as a holder


class Slot(Usage):
    """Plain data, changed by its owner, or under the pool's lock by the next owner."""

    __slots__ = (
        "borrower",
        "doubted",
        "ends_at",
        "expired",
        "expires_at",
        "generation",
        "info",
        "lasting",
        "leaked",
        "lent",
        "role_known",
        "since",
        "state",
        "wire",
    )

    def __init__(self, leaked: deque[Slot], generation: int) -> None:
        super().__init__()  # `holder`: 0 when there is no owner, LEAKED when the owner was dropped
        self.state = FREE
        self.leaked = leaked  # the ledger's
        self.wire: Any = None  # the established wire; None while FREE or CONNECTING
        self.lasting: Any = None  # what a lease of it answers after its end too, see `_driver.lasting`
        self.generation = generation  # of the ledger, when the connection was made
        self.expires_at = 0.0  # monotonic; not lent or kept from then on. The one number that every shortcut asks
        self.ends_at = 0.0  # monotonic; `expires_at` by age alone
        # the server is pinged before it is lent: another connection of the same age was found dead
        self.doubted = False
        self.role_known = 0.0  # monotonic; when its server was asked for its role, in a pool that wants a certain one
        self.expired: Reason | None = None  # why it was made to expire before its time
        self.since = 0.0  # monotonic; when it was lent, or when it became idle
        self.borrower: Any = None  # the thread or task that borrowed it: a weak reference, see `_util.callsite`
        self.lent = 0  # how often
        self.info: dict[Any, Any] | None = None  # the user's notes about this connection

    def live_until(self, instant: float) -> None:
        """The connection is made: it expires by age at `instant`, or has expired already while it was made."""
        if self.expired is None:
            self.ends_at = self.expires_at = instant

    def expire(self, reason: Reason) -> None:
        """The connection is not lent again: closed at once where it is idle, else at its return. The first reason
        stands. A rule about connections is enforced by this call, and every kind of return obeys it."""
        if self.expired is None:
            self.expired = reason
        self.expires_at = self.fresh_until = 0.0

    def pardon(self, reason: Reason) -> None:
        """Withdraw the expiry, if it was for `reason`."""
        if self.expired is reason:
            self.expired = None
            self.expires_at = 0.0 if self.doubted else self.ends_at

    def doubt(self) -> None:
        """Mark it as doubtful, because another connection was found dead. No shortcut lends it until a ping was
        answered."""
        self.doubted = True
        self.expires_at = self.fresh_until = 0.0

    def trust(self) -> None:
        """Record that the server answered on it."""
        self.doubted = False
        if self.expired is None:
            self.expires_at = self.ends_at

    def why_expired(self, now: float) -> Reason | None:
        """Return why the connection must be closed; None while it may be kept."""
        if now < self.expires_at:
            return None
        if self.expired is None and self.doubted and now < self.ends_at:
            return None
        return self.expired or Reason.EXPIRED

    def mark_leaked(self, lease: Lease) -> None:
        """Mark the slot as leaked, when `lease`, which is being collected, owns it. Done without the lock: only the
        owner gives a slot away, and its id() is its own as long as this runs."""
        if self.holder == id(lease):
            self.holder = LEAKED
            self.leaked.append(self)

    def has_dead_borrower(self) -> bool:
        """Return whether its borrower has ended, and the last user as well."""
        return self.state is IN_USE and self.user is not None and _has_ended(self.borrower) and _has_ended(self.user)


def _has_ended(reference: Any) -> bool:
    """Return whether what `reference` refers to is gone: a thread, a task, or a task's event loop."""
    who = reference()
    return who is None or (hasattr(who, "get_loop") and who.get_loop().is_closed())


class MaintenanceLease:
    """The owner of a slot that the pool itself is closing or looking after."""

    def __init__(self) -> None:
        self._slot: Slot | None = None

    def __del__(self) -> None:
        if self._slot is not None:
            self._slot.mark_leaked(self)
