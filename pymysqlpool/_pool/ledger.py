"""Who holds what: the slots of one pool, its idle stack and its queue.

Pure bookkeeping: no I/O, no lock, no clock, no logging. The pool calls every method with its one lock held and
then does, outside the lock, what the answer says. As long as the ledger is `calm`, two steps need no lock: a borrower
pops a ready lease from `idle`, and whoever returns a connection appends one. Each is one atomic step of a list. Who
appends looks at `calm` again afterwards, and who queues looks at `idle` again afterwards: one of the two sees the
other, so nothing stays idle beside a waiter.

    FREE -> CONNECTING -> IDLE <-> IN_USE
                           IDLE <-> RESERVED          (maintenance has it)
    CONNECTING -> IN_USE                              (made for a waiter)
    any living state -> CLOSING -> FREE

Invariants that live here: 1 (conservation: a slot is in exactly one state, and there are never more than `maxsize`
that are not FREE), 2 (nothing idle beside a waiter; order of arrival), 3 (one hand-over), 5 (slot before socket),
11 (capacity cannot leak), 12 (closed is closed).

**Interrupts.** An exception can be raised in a thread between any two bytecodes. What makes the ledger survive it is
that `slot.holder` alone says who owns a slot, and that one assignment changes the owner: a step cut short leaves the
slot with its former owner or with its new one. An idle slot is owned by the lease that will be lent next, so what was
taken from the stack and lost on the way is an owner that was thrown away. Such an owner marks its slot when Python
collects it; where its finalizer was struck too, nothing but the books refers to the slot any more (`ownerless`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from sys import getrefcount
from typing import Any, Protocol

from .._driver.usage import Usage
from ..reuse import Reason
from .waiter import GIVEN, WAITING, Waiter, WaiterState


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


class Slot(Usage):
    """The right to one connection. Plain data, changed by its owner, or under the pool's lock by who takes it over."""

    __slots__ = (
        "borrower",
        "dropped",
        "ends_at",
        "expired",
        "expires_at",
        "generation",
        "lent",
        "since",
        "state",
        "wire",
    )

    def __init__(self, dropped: deque[Slot], generation: int) -> None:
        super().__init__()  # `holder`: 0 when there is no owner, DROPPED when it was thrown away
        self.state = FREE
        self.dropped = dropped  # the ledger's
        self.wire: Any = None  # the established wire; None while FREE or CONNECTING
        self.generation = generation  # of the ledger, when the connection was made
        self.expires_at = 0.0  # monotonic; not lent or kept from then on. The one number that every shortcut asks
        self.ends_at = 0.0  # monotonic; `expires_at` by age alone
        self.expired: Reason | None = None  # why it was made to expire before its time
        self.since = 0.0  # monotonic; when it was lent, or when it became idle
        self.borrower: Any = None  # the thread or task that borrowed it: a weak reference, see `_borrower`
        self.lent = 0  # how often

    def drop(self, lease: Lease) -> None:
        """`lease` is being collected: mark the slot when it is its owner. Done without the lock: nobody but the
        owner gives a slot away, and its id() is its own as long as this runs."""
        if self.holder == id(lease):
            self.holder = DROPPED
            self.dropped.append(self)

    def live_until(self, instant: float) -> None:
        """The connection is made: it expires by age at `instant`, or has expired already while it was made."""
        if self.expired is None:
            self.ends_at = self.expires_at = instant

    def expire(self, reason: Reason) -> None:
        """The connection is not lent again: closed at once where it is idle, else at its return. The first reason
        stands; whoever makes a rule about connections says it this way, and every way home obeys it."""
        if self.expired is None:
            self.expired = reason
        self.expires_at = self.heard_until = 0.0

    def pardon(self, reason: Reason) -> None:
        """`reason`, if it was that, holds no more."""
        if self.expired is reason:
            self.expired = None
            self.expires_at = self.ends_at

    def why_expired(self, now: float) -> Reason | None:
        """The reason for which the connection must be closed, None while it may live."""
        return None if now < self.expires_at else self.expired or Reason.EXPIRED

    def is_of_the_dead(self) -> bool:
        """Whether who borrowed it has ended, and who used it last, too."""
        return self.state is IN_USE and self.user is not None and self.borrower() is None and self.user() is None


class Ledger:
    """The books of one pool in one process."""

    __slots__ = (
        "_arrivals",
        "_lent_before",
        "_living",
        "_new_lease",
        "calm",
        "dropped",
        "generation",
        "idle",
        "maxsize",
        "plain",
        "size",
        "waiters",
    )

    def __init__(self, size: int, maxsize: int, new_lease: Callable[[Slot], Lease], *, plain: bool = True) -> None:
        """`new_lease(slot)` makes a lease whose `_slot` is `slot`; `plain` says whether the ledger may ever be calm."""
        self.size = size
        self.maxsize = maxsize
        self.plain = plain
        self.calm = plain  # nobody waits, and the pool has nothing to say: the lock is not needed
        self.generation = 0  # bumped to expire every connection made before
        self.idle: list[Any] = []  # leases, ready to be lent; a stack: the last one returned is lent first
        self.dropped: deque[Slot] = deque()  # not empty: look for the ownerless; appended to without the lock
        self.waiters: OrderedDict[int, Waiter] = OrderedDict()  # by arrival; the first is served first
        self._living: dict[Slot, None] = {}  # every slot that is not FREE; len() of it is the capacity taken
        self._new_lease = new_lease
        self._arrivals = 0
        self._lent_before = 0  # by slots that are FREE again

    # -- questions -----------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Slots that are not free."""
        return len(self._living)

    def slots(self) -> list[Slot]:
        return list(self._living)

    @property
    def lent(self) -> int:
        """How often a connection was lent, since the beginning."""
        return self._lent_before + sum(slot.lent for slot in self.slots())

    def idle_slots(self) -> list[Slot]:
        return [lease._slot for lease in self.idle.copy()]

    def count(self, state: SlotState) -> int:
        return sum(1 for slot in self._living if slot.state is state)

    # -- lending -------------------------------------------------------------------------------------------

    def take(self, lease: Lease) -> Slot | None:
        """Lend the most recently used idle slot; None when nothing is idle or somebody waits already."""
        return None if self.waiters else self._take_idle(lease)

    def set_plain(self, plain: bool) -> None:
        """Whether connections may come and go without the lock while nobody waits."""
        self.plain = plain
        self.calm = plain and not self.waiters

    def open(self, lease: Lease, limit: int) -> Slot | None:
        """Reserve capacity for a connection yet to be made (Invariant 5); None when `limit` slots are taken."""
        if len(self._living) >= limit:
            return None
        slot = Slot(self.dropped, self.generation)
        self._own(slot, lease, CONNECTING)
        self._living[slot] = None
        return slot

    def connected(self, slot: Slot, wire: Any) -> None:
        """The reserved slot has its connection now, and still its owner."""
        slot.wire = wire
        slot.state = IN_USE
        slot.lent += 1

    def give(self, slot: Slot) -> Waiter | None:
        """A usable connection has come home: to the first waiter (who is returned, to be woken), else idle."""
        waiter = self._first_waiter()
        if waiter is not None:
            self._hand_over(slot, waiter, IN_USE)
            return waiter
        ready = self._new_lease(slot)
        slot.state = IDLE
        slot.holder = id(ready)
        self.idle.append(ready)
        return None

    def serve(self) -> Waiter | None:
        """Give what is idle to the first waiter. Returns who is to be woken; to be asked again then."""
        waiter = self._first_waiter()
        if waiter is None or self._take_idle(waiter.lease) is None:
            return None
        self._served(waiter)
        return waiter

    def yield_to_earlier(self, slot: Slot, arrival: int) -> Waiter | None:
        """Give `slot`, just connected by the caller who came as number `arrival`, to an earlier waiter if any."""
        waiter = self._first_waiter()
        if waiter is None or waiter.arrival > arrival:
            return None
        self._hand_over(slot, waiter, IN_USE)
        return waiter

    def expire_all(self, reason: Reason) -> None:
        """Start a new generation: nothing that is connected now, or is being connected, will be lent again."""
        self.generation += 1
        for slot in self._living:
            slot.expire(reason)

    def resize(self, size: int, maxsize: int) -> None:
        """Change the bounds. While more than `maxsize` are connected, those that come home are surplus."""
        self.size, self.maxsize = size, maxsize
        self._pardon_surplus()
        if len(self._living) > maxsize:
            for slot in self._living:
                slot.expire(Reason.SURPLUS)

    def _pardon_surplus(self) -> None:
        if len(self._living) <= self.maxsize:
            for slot in self._living:
                slot.pardon(Reason.SURPLUS)

    # -- ending --------------------------------------------------------------------------------------------

    def reserve(self, ready: Lease, keeper: Lease) -> Slot | None:
        """Take an idle connection out of circulation for maintenance: the one that `ready` would be. None when it was
        lent in the meantime."""
        try:
            self.idle.remove(ready)
        except ValueError:
            return None
        slot = ready._slot
        assert slot is not None
        self._own(slot, keeper, RESERVED)
        ready._slot = None
        return slot

    def close(self, slot: Slot, lease: Lease, reason: Reason) -> Any:
        """The connection is to be closed by `lease`, which owns the slot until `free`. Returns the wire to close."""
        slot.expire(reason)  # whoever had it cannot put it back
        self._own(slot, lease, CLOSING)
        return slot.wire

    def free(self, slot: Slot) -> None:
        """The connection is closed (or was never made): its capacity can be used again."""
        slot.state = FREE
        slot.holder = 0
        slot.wire = None
        self._living.pop(slot, None)
        self._lent_before += slot.lent
        slot.lent = 0
        if slot.expired is Reason.SURPLUS:
            self._pardon_surplus()

    def grant(self) -> Waiter | None:
        """Give the first waiter the right to connect, if there is capacity for it. Returns who is to be woken."""
        waiter = self._first_waiter()
        if waiter is None:
            return None
        if len(self._living) >= (self.maxsize if waiter.may_grow else self.size):
            return None
        slot = Slot(self.dropped, self.generation)
        self._living[slot] = None
        self._hand_over(slot, waiter, CONNECTING)
        return waiter

    def ownerless(self, look_for_dead_borrowers: bool = False) -> list[Slot]:
        """The slots that nobody will give back: their owner was thrown away, or its thread or task has ended."""
        nobodys = Slot(self.dropped, self.generation)  # as it looks to be in the books without an owner
        self.dropped.clear()
        slots = [*self._living, nobodys]
        references = [getrefcount(slot) for slot in slots]
        unowned = references.pop()
        return [
            slot
            for slot, count in zip(self._living, references, strict=True)
            if slot.holder == DROPPED or count <= unowned or (look_for_dead_borrowers and slot.is_of_the_dead())
        ]

    def borrowed(self) -> list[Slot]:
        """Slots whose connection somebody has, also one who has just popped it from the stack."""
        idle = self.idle_slots()
        return [slot for slot in self._living if slot.state is IN_USE or (slot.state is IDLE and slot not in idle)]

    # -- the queue -----------------------------------------------------------------------------------------

    def arrive(self, waiter: Waiter) -> None:
        """Number the caller; who came earlier has the smaller number."""
        self._arrivals += 1
        waiter.arrival = self._arrivals

    def enqueue(self, waiter: Waiter) -> None:
        """Join the queue at the place that its arrival gives; a new one at the end."""
        self.calm = False
        waiter.state = WAITING
        latest = next(reversed(self.waiters), 0)
        self.waiters[waiter.arrival] = waiter
        if waiter.arrival < latest:
            for arrival in sorted(self.waiters):
                self.waiters.move_to_end(arrival)

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the queue. What was given in that very instant stays in the waiter's lease."""
        self.waiters.pop(waiter.arrival, None)
        self.calm = self.plain and not self.waiters
        if waiter.state is WAITING:
            waiter.state = WaiterState.GONE

    def fail_all(self) -> list[Waiter]:
        """The pool closes: nobody in the queue will be served."""
        failed = [waiter for waiter in self.waiters.values() if waiter.state is WAITING]
        for waiter in failed:
            waiter.state = WaiterState.FAILED
        self.waiters.clear()
        return failed

    # -- one assignment changes the owner ------------------------------------------------------------------

    def _first_waiter(self) -> Waiter | None:
        while self.waiters:
            waiter = next(iter(self.waiters.values()))
            if waiter.state is WAITING:
                return waiter
            self.waiters.pop(waiter.arrival, None)  # served, but the step that removes it was cut short
        self.calm = self.plain
        return None

    def _take_idle(self, lease: Lease) -> Slot | None:
        try:
            ready = self.idle.pop()  # owns the slot, so it must live until the slot has another owner
        except IndexError:
            return None
        slot: Slot = ready._slot
        slot.lent += 1
        self._own(slot, lease, IN_USE)
        ready._slot = None
        return slot

    def _hand_over(self, slot: Slot, waiter: Waiter, state: SlotState) -> None:
        slot.lent += state is IN_USE
        self._own(slot, waiter.lease, state)
        self._served(waiter)

    def _served(self, waiter: Waiter) -> None:
        waiter.state = GIVEN
        self.waiters.pop(waiter.arrival, None)
        self.calm = self.plain and not self.waiters

    @staticmethod
    def _own(slot: Slot, lease: Lease, state: SlotState) -> None:
        lease._slot = slot
        slot.holder = id(lease)
        slot.state = state
        slot.borrower = slot.user = None
        slot.in_transaction = False
