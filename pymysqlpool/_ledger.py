"""Who holds what: the slots of one pool, its idle stack and its queue.

Pure bookkeeping: no I/O, no lock, no clock, no logging. The pool calls every method with its one lock held and
then does, outside the lock, what the answer says.

    FREE -> CONNECTING -> IDLE <-> IN_USE
                           IDLE <-> RESERVED          (maintenance has it)
    CONNECTING -> IN_USE                              (made for a waiter)
    any living state -> CLOSING -> FREE

Invariants that live here: 1 (conservation: a slot is in exactly one state, and there are never more than `maxsize`
that are not FREE), 2 (nothing idle beside a waiter; order of arrival), 3 (one hand-over), 5 (slot before socket),
11 (capacity cannot leak), 12 (closed is closed).

**Interrupts.** An exception can be raised in a thread between any two bytecodes. What makes the ledger survive it is
that `slot.holder` alone says who owns a slot, that one assignment changes the owner, and that lists are looked at
before they are changed: a step cut short leaves the slot with its former owner or with its new one. An owner that
was thrown away with the interrupted call is reported through `reclaim` when Python collects it.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Any, Protocol

from ._waiter import Waiter, WaiterState


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

DROPPED = -1  # as a holder


class Lease(Protocol):
    """Whatever can own a slot. `_slot` is set by the ledger and cleared by the owner."""

    _slot: Slot | None


class Slot:
    """The right to one connection. Plain data; guarded by the pool's lock."""

    __slots__ = (
        "borrower",
        "expires_at",
        "generation",
        "holder",
        "in_transaction",
        "place",
        "since",
        "state",
        "wire",
    )

    def __init__(self) -> None:
        self.state = FREE
        self.holder = 0  # id() of the lease that owns it; 0 when nobody does; DROPPED when it was thrown away
        self.wire: Any = None  # the established wire; None while FREE or CONNECTING
        self.generation = 0  # of the ledger, when the connection was made
        self.expires_at = 0.0  # monotonic; not lent or kept from then on
        self.since = 0.0  # monotonic; when it was lent, or when it became idle
        self.borrower: Any = None  # who borrowed it, for reports and for finding dead threads
        self.place: Any = None  # where it was borrowed
        self.in_transaction = False  # as of the last reply to its borrower; for reports

    def drop(self, lease: Lease) -> bool:
        """`lease` is being collected: mark the slot when it is its owner. The one change made without the lock:
        nobody but the owner gives a slot away, and its id() is its own as long as this runs."""
        if self.holder != id(lease):
            return False
        self.holder = DROPPED
        return True


class Ledger:
    """The books of one pool in one process."""

    __slots__ = ("_arrivals", "_living", "generation", "idle", "lent", "maxsize", "size", "waiters")

    def __init__(self, size: int, maxsize: int) -> None:
        self.size = size
        self.maxsize = maxsize
        self.generation = 0  # bumped to expire every connection made before
        self.idle: list[Slot] = []  # a stack: the last one returned is lent first, so the rest can shrink
        self.waiters: OrderedDict[int, Waiter] = OrderedDict()  # by arrival; the first is served first
        self._living: dict[Slot, None] = {}  # every slot that is not FREE; len() of it is the capacity taken
        self._arrivals = 0
        self.lent = 0  # how often a connection was lent, since the beginning

    # -- questions -----------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Slots that are not free."""
        return len(self._living)

    def slots(self) -> list[Slot]:
        return list(self._living)

    def count(self, state: SlotState) -> int:
        return sum(1 for slot in self._living if slot.state is state)

    # -- lending -------------------------------------------------------------------------------------------

    def take(self, lease: Lease) -> Slot | None:
        """Lend the most recently used idle slot; None when nothing is idle or somebody waits already."""
        if not self.idle or self.waiters:
            return None
        slot = self.idle[-1]
        lease._slot = slot  # as _own does; this is the hottest path there is
        slot.holder = id(lease)
        slot.state = IN_USE
        slot.borrower = None  # whoever had it last may have ended since
        self.idle.pop()
        self.lent += 1
        return slot

    def open(self, lease: Lease, limit: int) -> Slot | None:
        """Reserve capacity for a connection yet to be made (Invariant 5); None when `limit` slots are taken."""
        if len(self._living) >= limit:
            return None
        slot = Slot()
        slot.generation = self.generation
        self._own(slot, lease, CONNECTING)
        self._living[slot] = None
        return slot

    def connected(self, slot: Slot, wire: Any) -> None:
        """The reserved slot has its connection now, and still its owner."""
        slot.wire = wire
        slot.state = IN_USE
        self.lent += 1

    def give(self, slot: Slot) -> Waiter | None:
        """A usable connection has come home: to the first waiter (who is returned, to be woken), else idle."""
        if self.waiters:
            waiter = self._first_waiter()
            if waiter is not None:
                self._hand_over(slot, waiter, IN_USE)
                return waiter
        self.idle.append(slot)
        slot.state = IDLE
        slot.holder = 0
        return None

    def yield_to_earlier(self, slot: Slot, arrival: int) -> Waiter | None:
        """Give `slot`, just connected by the caller who came as number `arrival`, to an earlier waiter if any."""
        waiter = self._first_waiter()
        if waiter is None or waiter.arrival > arrival:
            return None
        self._hand_over(slot, waiter, IN_USE)
        return waiter

    def expire_all(self) -> None:
        """Start a new generation: nothing that is connected now, or is being connected, will be lent again."""
        self.generation += 1
        for slot in self._living:
            slot.expires_at = 0.0

    # -- ending --------------------------------------------------------------------------------------------

    def reserve(self, slot: Slot, lease: Lease) -> None:
        """Take an idle slot out of circulation for maintenance."""
        self._own(slot, lease, RESERVED)
        self.idle.remove(slot)

    def close(self, slot: Slot, lease: Lease) -> Any:
        """The connection is to be closed by `lease`, which owns the slot until `free`. Returns the wire to close."""
        self._own(slot, lease, CLOSING)
        if slot in self.idle:
            self.idle.remove(slot)
        return slot.wire

    def free(self, slot: Slot) -> None:
        """The connection is closed (or was never made): its capacity can be used again."""
        slot.state = FREE
        slot.holder = 0
        slot.wire = None
        self._living.pop(slot, None)

    def grant(self) -> Waiter | None:
        """Give the first waiter the right to connect, if there is capacity for it. Returns who is to be woken."""
        waiter = self._first_waiter()
        if waiter is None:
            return None
        if len(self._living) >= (self.maxsize if waiter.may_grow else self.size):
            return None
        slot = Slot()
        slot.generation = self.generation
        self._living[slot] = None
        self._hand_over(slot, waiter, CONNECTING)
        return waiter

    def reclaim(self, slot: Slot) -> bool:
        """The owner of the slot was thrown away. True when nobody owns it since, and it must be closed."""
        if slot.holder != DROPPED:
            return False
        if slot in self.idle:  # it was being lent or returned when it was interrupted: the stack has it
            slot.state = IDLE
            slot.holder = 0
            return False
        return True

    # -- the queue -----------------------------------------------------------------------------------------

    def arrive(self, waiter: Waiter) -> None:
        """Number the caller; who came earlier has the smaller number."""
        self._arrivals += 1
        waiter.arrival = self._arrivals

    def enqueue(self, waiter: Waiter) -> None:
        """Join the queue at the place that its arrival gives; a new one at the end."""
        waiter.state = WaiterState.WAITING
        latest = next(reversed(self.waiters), 0)
        self.waiters[waiter.arrival] = waiter
        if waiter.arrival < latest:
            for arrival in sorted(self.waiters):
                self.waiters.move_to_end(arrival)

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the queue. What was given in that very instant stays in the waiter's lease."""
        self.waiters.pop(waiter.arrival, None)
        if waiter.state is WaiterState.WAITING:
            waiter.state = WaiterState.GONE

    def fail_all(self) -> list[Waiter]:
        """The pool closes: nobody in the queue will be served."""
        failed = [waiter for waiter in self.waiters.values() if waiter.state is WaiterState.WAITING]
        for waiter in failed:
            waiter.state = WaiterState.FAILED
        self.waiters.clear()
        return failed

    # -- one assignment changes the owner ------------------------------------------------------------------

    def _first_waiter(self) -> Waiter | None:
        while self.waiters:
            waiter = next(iter(self.waiters.values()))
            if waiter.state is WaiterState.WAITING:
                return waiter
            self.waiters.pop(waiter.arrival, None)  # served, but the step that removes it was cut short
        return None

    def _hand_over(self, slot: Slot, waiter: Waiter, state: SlotState) -> None:
        self._own(slot, waiter.lease, state)
        waiter.state = WaiterState.GIVEN
        self.lent += state is IN_USE
        self.waiters.pop(waiter.arrival, None)

    @staticmethod
    def _own(slot: Slot, lease: Lease, state: SlotState) -> None:
        lease._slot = slot
        slot.holder = id(lease)
        slot.state = state
        slot.borrower = None
        slot.in_transaction = False
