"""The ledger: which lease owns which slot of one pool, its idle stack and its queue.

Pure bookkeeping: no I/O, no lock, no clock, no logging. The pool calls every method as a step under its one lock
(`core.py`), and then does, outside the lock, what the answer says.

While `lock_free` is true, two steps need no lock (`idle_lease.py`): a borrower pops a ready lease from `idle`, and a
return appends one. Each is one atomic step of a list. After appending, the returner reads `lock_free` again; after
queueing, the waiter reads `idle` again. At least one of them sees the other, so no connection stays idle beside a
waiter.

Invariants that live here: 1 (conservation: a slot is in exactly one state, and there are never more than `maxsize`
that are not FREE), 2 (nothing idle beside a waiter; order of arrival), 3 (one hand-over), 5 (slot before socket),
11 (capacity cannot leak), 12 (closed is closed).

**Interrupts.** An exception can be raised in a thread between any two bytecodes. The ledger survives it because
`slot.holder` alone names the owner of a slot, and one assignment changes the owner: an interrupted step leaves the slot
with its former owner or with its new one. An idle slot is owned by the lease that will be lent next, so a lease that
was popped and then lost is a dropped owner. A dropped owner marks its slot when Python collects it; if its finalizer
was interrupted too, only the ledger still refers to the slot (`leaked_slots`).

**Code inside a step** (a finalizer, a signal handler) changes nothing here but by the two lock-free steps and `take`,
which is one of them: a pop, and a slot that is its own from then on. Everything else it asks for is deferred.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from sys import getrefcount

from ..reuse import Reason
from .slot import CLOSING, CONNECTING, FREE, IDLE, IN_USE, LEAKED, RESERVED, Slot, SlotState
from .waiter import GIVEN, WAITING, Waiter, WaiterState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .slot import Lease


class Ledger:
    """The ledger of one pool in one process."""

    __slots__ = (
        "_arrivals",
        "_lent_before",
        "_living",
        "_new_lease",
        "allows_lock_free",
        "generation",
        "idle",
        "leaked",
        "lock_free",
        "maxsize",
        "size",
        "waiters",
    )

    def __init__(
        self, size: int, maxsize: int, new_lease: Callable[[Slot], Lease], *, allows_lock_free: bool = True
    ) -> None:
        """`new_lease(slot)` makes a lease whose `_slot` is `slot`. `allows_lock_free`: lock_free may be true."""
        self.size = size
        self.maxsize = maxsize
        self.allows_lock_free = allows_lock_free
        self.lock_free = allows_lock_free  # no caller waits, and the pool is not closing: the lock is not needed
        self.generation = 0  # bumped to expire every connection made before
        self.idle: list[Any] = []  # leases, ready to be lent; a stack: the last one returned is lent first
        self.leaked: deque[Slot] = deque()  # not empty: look for leaked slots; appended to without the lock
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
        """Return how often a connection was lent since the pool was made."""
        for _ in range(3):  # read without the lock too: a slot that is freed meanwhile counts once
            before, now = self._lent_before, sum([slot.lent for slot in self.slots()])
            if before == self._lent_before:
                break
        return before + now

    def idle_slots(self) -> list[Slot | None]:
        return [lease._slot for lease in self.idle.copy()]

    def count(self, state: SlotState) -> int:
        return sum(1 for slot in self._living if slot.state is state)

    # -- lending -------------------------------------------------------------------------------------------

    def take(self, lease: Lease) -> Slot | None:
        """Lend the most recently used idle slot; None when nothing is idle or a caller waits already."""
        return None if self.waiters else self._take_idle(lease)

    def require_lock(self) -> None:
        """From now on every step takes the lock: the pool closes."""
        self.allows_lock_free = self.lock_free = False

    def open(self, lease: Lease, limit: int) -> Slot | None:
        """Reserve capacity for a connection yet to be made (Invariant 5); None when `limit` slots are taken."""
        if len(self._living) >= limit:
            return None
        slot = Slot(self.leaked, self.generation)
        self._own(slot, lease, CONNECTING)
        self._living[slot] = None
        return slot

    def connected(self, slot: Slot, wire: Any) -> None:
        """The reserved slot has its connection now, and still its owner."""
        slot.wire = wire
        slot.state = IN_USE
        slot.lent += 1

    def give(self, slot: Slot, owner: Lease) -> Waiter | None:
        """Pass on the usable connection in `slot`, if `owner` still owns it: to the first waiter (returned, to be
        woken), else to the idle stack."""
        if slot.holder != id(owner):
            owner._slot = None
            return None
        waiters = self.waiters
        for waiter in waiters.values():
            if waiter.state is not WAITING:
                break
            # As `_hand_over`, without the calls: every wait ends here.
            lease = waiter.lease
            slot.lent += 1
            lease._slot = slot
            slot.holder = id(lease)
            slot.state = IN_USE
            slot.borrower = slot.user = waiter.borrower
            slot.in_transaction = False
            waiter.state = GIVEN
            waiters.pop(waiter.arrival, None)
            self.lock_free = self.allows_lock_free and not waiters
            owner._slot = None
            return waiter
        first = self._first_waiter()
        if first is not None:
            self._hand_over(slot, first, IN_USE)
        else:
            ready = self._new_lease(slot)
            slot.state = IDLE
            slot.holder = id(ready)
            self.idle.append(ready)
        owner._slot = None
        return first

    def serve(self) -> Waiter | None:
        """Give an idle connection to the first waiter. Return the waiter to wake; the caller then calls again."""
        waiter = self._first_waiter()
        if waiter is None or self._take_idle(waiter.lease) is None:
            return None
        self._served(waiter)
        return waiter

    def yield_to_earlier(self, slot: Slot, arrival: int) -> Waiter | None:
        """Give `slot`, just connected by the caller with number `arrival`, to an earlier waiter if there is one."""
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
        """Change the bounds. While more than `maxsize` are connected, returned ones are surplus."""
        self.size, self.maxsize = size, maxsize
        self._pardon_surplus()
        if len(self._living) > maxsize:
            for slot in self._living:
                slot.expire(Reason.SURPLUS)

    def _pardon_surplus(self) -> None:
        if len(self._living) <= self.maxsize:
            for slot in self._living:
                slot.pardon(Reason.SURPLUS)

    def doubt_idle(self) -> None:
        """Mark the idle connections as doubtful, after one was found dead."""
        for slot in self.idle_slots():
            if slot is not None:  # it is being lent at this moment
                slot.doubt()

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
        slot.expire(reason)  # its former owner cannot put it back
        self._own(slot, lease, CLOSING)
        return slot.wire

    def free(self, slot: Slot) -> None:
        """The connection is closed (or was never made): its capacity can be used again."""
        slot.state = FREE
        slot.holder = 0
        slot.wire = None
        self._lent_before += slot.lent
        slot.lent = 0
        self._living.pop(slot, None)
        if slot.expired is Reason.SURPLUS:
            self._pardon_surplus()

    def grant(self) -> Waiter | None:
        """Give the first waiter the right to connect, if there is capacity. Return the waiter to wake."""
        waiter = self._first_waiter()
        if waiter is None:
            return None
        if len(self._living) >= (self.maxsize if waiter.may_grow else self.size):
            return None
        slot = Slot(self.leaked, self.generation)
        self._living[slot] = None
        self._hand_over(slot, waiter, CONNECTING)
        return waiter

    def leaked_slots(self, look_for_dead_borrowers: bool = False) -> list[Slot]:
        """Return the leaked slots: their owner was dropped, or its thread or task has ended."""
        self.leaked.clear()
        # Counted without a variable that holds a slot: a debugger's look at a frame is one more reference to it.
        references = list(map(getrefcount, [*self._living, Slot.__new__(Slot)]))
        unowned = references.pop() + 1  # `_living` is one reference to each slot, but not to the last of the list
        return [
            slot
            for slot, count in zip(self._living, references, strict=True)
            if slot.holder == LEAKED or count <= unowned or (look_for_dead_borrowers and slot.has_dead_borrower())
        ]

    def borrowed(self) -> list[Slot]:
        """Return the slots that are lent, those included that were just popped from the stack."""
        idle = self.idle_slots()
        return [slot for slot in self._living if slot.state is IN_USE or (slot.state is IDLE and slot not in idle)]

    # -- the queue -----------------------------------------------------------------------------------------

    def arrive(self, waiter: Waiter) -> None:
        """Number the caller; an earlier caller has a smaller number."""
        self._arrivals += 1
        waiter.arrival = self._arrivals

    def join(self, waiter: Waiter) -> bool:
        """Join the queue as a new caller, `arrive` and `enqueue` in one; False where a connection is idle, or may be
        made at once."""
        if self.idle or len(self._living) < self.size:
            return False
        self._arrivals = arrival = self._arrivals + 1
        self.lock_free = False
        waiter.arrival = arrival
        waiter.state = WAITING
        self.waiters[arrival] = waiter
        return True

    def enqueue(self, waiter: Waiter) -> None:
        """Join the queue at the place given by the arrival number; a new caller at the end."""
        self.lock_free = False
        waiter.state = WAITING
        latest = next(reversed(self.waiters), 0)
        self.waiters[waiter.arrival] = waiter
        if waiter.arrival < latest:
            for arrival in sorted(self.waiters):
                self.waiters.move_to_end(arrival)

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the queue. A slot that was given at that instant stays in the waiter's lease."""
        self.waiters.pop(waiter.arrival, None)
        self.lock_free = self.allows_lock_free and not self.waiters
        if waiter.state is WAITING:
            waiter.state = WaiterState.GONE

    def fail_all(self) -> list[Waiter]:
        """Fail every waiter: the pool closes."""
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
        self.lock_free = self.allows_lock_free
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
        self.lock_free = self.allows_lock_free and not self.waiters

    @staticmethod
    def _own(slot: Slot, lease: Lease, state: SlotState) -> None:
        lease._slot = slot
        slot.holder = id(lease)
        slot.state = state
        slot.borrower = slot.user = None
        slot.in_transaction = False
