"""The ledger's rules, driven through random histories: no server, no thread, no sleep."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pymysqlpool._pool.ledger import CLOSING, CONNECTING, FREE, IDLE, IN_USE, RESERVED, Ledger, Slot
from pymysqlpool._pool.waiter import Waiter, WaiterState
from pymysqlpool.reuse import Reason


class Lease:
    """Anything that can own a slot."""

    def __init__(self, slot: Slot | None = None) -> None:
        self._slot = slot


class Books(RuleBasedStateMachine):
    """Borrowers, waiters, connects that succeed and fail, timeouts, maintenance, close."""

    @initialize(size=st.integers(1, 3), extra=st.integers(0, 3))
    def open_the_books(self, size: int, extra: int) -> None:
        self.ledger = Ledger(size, size + extra, Lease)
        self.lent: list[Lease] = []
        self.connecting: list[tuple[Lease, Waiter]] = []
        self.reserved: list[Lease] = []
        self.closing: list[Lease] = []
        self.queue: list[Waiter] = []  # the model of the queue, in order of arrival
        self.woken: list[Waiter] = []
        self.served: list[int] = []
        self.closed = False
        self.wires = 0

    # -- a caller comes -------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed)
    @rule(may_grow=st.booleans())
    def somebody_asks(self, may_grow: bool) -> None:
        lease = Lease()
        waiter = Waiter(lease)
        waiter.may_grow = may_grow
        self.ledger.arrive(waiter)
        if self.ledger.take(lease) is not None:
            assert not self.queue, "a newcomer overtook a waiter"
            self.lent.append(lease)
            return
        slot = self.ledger.open(lease, self.ledger.maxsize if may_grow else self.ledger.size)
        if slot is not None:
            self.connecting.append((lease, waiter))
        else:
            self.ledger.enqueue(waiter)
            self.queue.append(waiter)
            assert not self.ledger.calm

    @precondition(lambda self: self.ledger.calm and self.ledger.idle)
    @rule()
    def somebody_takes_one_without_the_lock(self) -> None:
        lease = self.ledger.idle.pop()
        assert not self.queue, "a newcomer overtook a waiter"
        assert lease._slot in self.ledger.borrowed(), "taken is borrowed, before the borrower says so"
        lease._slot.lent += 1
        lease._slot.state = IN_USE
        self.lent.append(lease)

    @precondition(lambda self: self.ledger.calm and self.lent)
    @rule(data=st.data(), somebody_comes_meanwhile=st.booleans())
    def somebody_returns_without_the_lock(self, data: Any, somebody_comes_meanwhile: bool) -> None:
        lease = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        slot = lease._slot
        assert slot is not None
        waiter = Waiter(Lease())
        if somebody_comes_meanwhile and not self.ledger.idle:
            self.ledger.arrive(waiter)
            self.ledger.enqueue(waiter)
            self.queue.append(waiter)
        ready = Lease(slot)
        slot.state = IDLE
        slot.holder = id(ready)
        self.ledger.idle.append(ready)
        lease._slot = None
        if not self.ledger.calm:
            self.wake(self.ledger.serve())
            assert waiter.state is WaiterState.GIVEN
        assert self.ledger.serve() is None

    @precondition(lambda self: self.ledger.idle)
    @rule()
    def a_lease_is_lost_on_the_way_from_the_stack(self) -> None:
        self.take_back(self.ledger.idle.pop())

    def take_back(self, lease: Lease) -> Slot:
        """`lease` is collected, and its connection closed."""
        slot = lease._slot
        assert slot is not None
        slot.drop(lease)
        assert self.ledger.dropped.pop() is slot
        assert self.ledger.ownerless() == [slot]
        keeper = Lease()
        self.ledger.close(slot, keeper, Reason.CLOSED)
        self.closing.append(keeper)
        return slot

    @precondition(lambda self: self.connecting)
    @rule(data=st.data(), works=st.booleans())
    def a_connect_ends(self, data: Any, works: bool) -> None:
        lease, waiter = self.connecting.pop(data.draw(st.integers(0, len(self.connecting) - 1)))
        slot = lease._slot
        assert slot is not None
        if not works:
            self.ledger.free(slot)
            lease._slot = None
            self.wake(self.ledger.grant())
            return
        self.wires += 1
        self.ledger.connected(slot, self.wires)
        earlier = self.ledger.yield_to_earlier(slot, waiter.arrival)
        if earlier is None:
            assert all(other.arrival > waiter.arrival for other in self.queue)
            self.lent.append(lease)
        else:
            lease._slot = None
            self.wake(earlier)
            if self.closed:
                return
            self.ledger.enqueue(waiter)
            self.queue.append(waiter)
            self.queue.sort(key=lambda other: other.arrival)

    def wake(self, waiter: Waiter | None) -> None:
        """A waiter was given something: it must be the first, once."""
        if waiter is None:
            return
        assert waiter.state is WaiterState.GIVEN
        assert self.queue, "somebody was woken who did not wait"
        assert self.queue.pop(0) is waiter, "out of order"
        slot = waiter.lease._slot
        assert slot.holder == id(waiter.lease)
        if slot.state is CONNECTING:
            self.connecting.append((waiter.lease, waiter))
        else:
            assert slot.state is IN_USE
            self.lent.append(waiter.lease)

    @precondition(lambda self: self.closed)
    @rule()
    def somebody_asks_a_closed_pool(self) -> None:
        assert self.ledger.take(Lease()) is None

    # -- and goes -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), keep=st.booleans())
    def somebody_returns(self, data: Any, keep: bool) -> None:
        lease = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        slot = lease._slot
        assert slot is not None
        assert slot.holder == id(lease)
        if keep and not self.closed:
            self.wake(self.ledger.give(slot))
            lease._slot = None
        else:
            assert self.ledger.close(slot, lease, Reason.CLOSED) is not None
            self.closing.append(lease)

    @precondition(lambda self: self.closing)
    @rule()
    def a_socket_is_closed(self) -> None:
        lease = self.closing.pop()
        slot = lease._slot
        assert slot is not None
        self.ledger.free(slot)
        lease._slot = None
        assert slot.state is FREE
        if not self.closed:
            self.wake(self.ledger.grant())

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def a_waiter_gives_up(self, data: Any) -> None:
        waiter = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.ledger.withdraw(waiter)
        assert waiter.state is WaiterState.GONE
        assert waiter.lease._slot is None or waiter.lease._slot.holder != id(waiter.lease)

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def a_lease_is_thrown_away(self, data: Any) -> None:
        lease = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        slot = self.take_back(lease)
        assert not self.ledger.ownerless(), "reclaimed twice"
        slot.drop(lease)
        assert not self.ledger.dropped, "it was not the owner any more"

    @precondition(lambda self: self.lent)
    @rule()
    def a_lease_is_thrown_away_and_its_finalizer_is_struck(self) -> None:
        self.lent.pop()._slot = None  # what is left of it, when Python has collected it
        [slot] = self.ledger.ownerless()
        keeper = Lease()
        self.ledger.close(slot, keeper, Reason.CLOSED)
        self.closing.append(keeper)

    @precondition(lambda self: self.ledger.idle)
    @rule(data=st.data())
    def maintenance_takes_one(self, data: Any) -> None:
        ready = data.draw(st.sampled_from(self.ledger.idle))
        keeper = Lease()
        assert self.ledger.reserve(ready, keeper) is not None
        assert self.ledger.reserve(ready, Lease()) is None, "it is out of circulation"
        self.reserved.append(keeper)

    @precondition(lambda self: self.reserved)
    @rule(keep=st.booleans())
    def maintenance_is_done(self, keep: bool) -> None:
        keeper = self.reserved.pop()
        slot = keeper._slot
        assert slot is not None
        if keep and not self.closed:
            self.wake(self.ledger.give(slot))
            keeper._slot = None
        else:
            self.ledger.close(slot, keeper, Reason.CLOSED)
            self.closing.append(keeper)

    @precondition(lambda self: not self.closed)
    @rule()
    def the_pool_closes(self) -> None:
        failed = self.ledger.fail_all()
        assert failed == self.queue
        assert all(waiter.state is WaiterState.FAILED for waiter in failed)
        self.queue.clear()
        self.ledger.set_plain(False)
        for ready in self.ledger.idle.copy():
            keeper = Lease()
            slot = self.ledger.reserve(ready, keeper)
            assert slot is not None
            self.ledger.close(slot, keeper, Reason.CLOSED)
            self.closing.append(keeper)
        self.closed = True

    # -- what holds at every release of the lock --------------------------------------------------------------

    @invariant()
    def invariant_1_conservation(self) -> None:
        if not hasattr(self, "ledger"):
            return
        ledger = self.ledger
        states = {state: ledger.count(state) for state in (CONNECTING, IDLE, IN_USE, RESERVED, CLOSING)}
        assert sum(states.values()) == ledger.total <= ledger.maxsize
        assert states[IDLE] == len(ledger.idle) == len(set(map(id, ledger.idle)))
        assert states[IN_USE] == len(self.lent) == len(self.ledger.borrowed())
        assert states[CONNECTING] == len(self.connecting)
        assert states[RESERVED] == len(self.reserved)
        assert states[CLOSING] == len(self.closing)

    @invariant()
    def invariant_2_nothing_idle_beside_a_waiter(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert not (self.queue and self.ledger.idle)
        assert [waiter.arrival for waiter in self.queue] == list(self.ledger.waiters)
        assert not (self.queue and self.ledger.calm)

    @invariant()
    def invariant_3_every_slot_has_one_owner(self) -> None:
        if not hasattr(self, "ledger"):
            return
        owners = [*self.lent, *self.reserved, *self.closing]
        owners += [lease for lease, _ in self.connecting]
        slots = [lease._slot for lease in owners]
        assert len({id(slot) for slot in slots}) == len(slots)
        assert all(slot is not None and slot.holder == id(lease) for lease, slot in zip(owners, slots, strict=True))
        assert all(ready._slot.holder == id(ready) for ready in self.ledger.idle)
        assert not self.ledger.ownerless()

    @invariant()
    def invariant_5_no_wire_without_a_slot(self) -> None:
        if not hasattr(self, "ledger"):
            return
        wires = [slot.wire for slot in self.ledger.slots() if slot.wire is not None]
        assert len(wires) == len(set(wires)) <= self.ledger.maxsize

    @invariant()
    def invariant_12_closed_is_closed(self) -> None:
        if getattr(self, "closed", False):
            assert not self.ledger.idle
            assert not self.ledger.waiters


Books.TestCase.settings = settings(stateful_step_count=60)
test_the_ledger_keeps_its_books = Books.TestCase
