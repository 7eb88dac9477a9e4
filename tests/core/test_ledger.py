"""The ledger's rules, driven through random histories: no server, no thread, no sleep."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pymysqlpool._pool.first_step import AT_ONCE, FirstStep, NotLent
from pymysqlpool._pool.for_loops import lend_idle
from pymysqlpool._pool.idle_lease import UnusedLease, make_idle_lease, return_clean
from pymysqlpool._pool.ledger import Ledger
from pymysqlpool._pool.slot import CLOSING, CONNECTING, FREE, IDLE, IN_USE, RESERVED, Slot
from pymysqlpool._pool.spent_lease import SpentLease
from pymysqlpool._pool.waiter import Waiter, WaiterState
from pymysqlpool.reuse import Reason


class Lease:
    """Anything that can own a slot."""

    def __init__(self, slot: Slot | None = None) -> None:
        self._slot = slot


class WaitersSeeing(list[Any]):
    """An idle stack beside which a caller begins to wait in the instant before a lease is put on it."""

    home: Home

    def append(self, ready: Any) -> None:
        waiter, self.home.meanwhile = self.home.meanwhile, None
        if waiter is not None:
            self.home.enqueue(waiter)
        super().append(ready)


class Home:
    """A pool that is nothing but its books: what the lock-free steps need of it."""

    name = "home"
    _here = (1,)
    _has_checkout_hooks = _verbose = False
    _tend_at = float("inf")
    get_connection = FirstStep.get_connection

    def __init__(self, size: int, maxsize: int) -> None:
        self._ledger = Ledger(size, maxsize, make_idle_lease)
        self._ledger.idle = WaitersSeeing()
        self._ledger.idle.home = self
        self.went_slowly = 0
        self.meanwhile: Waiter | None = None
        self.enqueue: Any = None

    def _borrow_slowly(self, lease: Any, retry_num: Any, *others: Any) -> NotLent:
        assert retry_num is AT_ONCE
        return NotLent(lease)

    def _give_back(self, lease: Any, exception: BaseException | None, frame: Any) -> None:
        self.went_slowly += 1

    def _give_to_next(self, lease: Any) -> None:
        self.went_slowly += 1

    def _look_again(self) -> None:
        self._ledger.serve()


class Books(RuleBasedStateMachine):
    """Borrowers, waiters, connects that succeed and fail, timeouts, maintenance, close."""

    @initialize(size=st.integers(1, 3), extra=st.integers(0, 3))
    def open_the_books(self, size: int, extra: int) -> None:
        self.home = Home(size, size + extra)
        self.ledger = self.home._ledger
        self.home.enqueue = self.a_caller_queues
        self.lent: list[Lease] = []
        self.connecting: list[tuple[Lease, Waiter]] = []
        self.reserved: list[Lease] = []
        self.closing: list[Lease] = []
        self.queue: list[Waiter] = []  # the model of the queue, in order of arrival
        self.woken: list[Waiter] = []
        self.served: list[int] = []
        self.closed = False
        self.wires = 0

    def a_caller_queues(self, waiter: Waiter) -> None:
        self.ledger.arrive(waiter)
        self.ledger.enqueue(waiter)
        self.queue.append(waiter)

    # -- a caller comes -------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed)
    @rule(may_grow=st.booleans())
    def a_caller_asks(self, may_grow: bool) -> None:
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
            assert not self.ledger.lock_free

    @precondition(lambda self: not self.closed)
    @rule()
    def a_caller_joins_the_queue_where_only_a_return_can_help(self) -> None:
        waiter = Waiter(Lease())
        can_only_wait = not self.ledger.idle and self.ledger.total >= self.ledger.size
        assert self.ledger.join(waiter) == can_only_wait
        if can_only_wait:
            self.queue.append(waiter)
            assert not self.ledger.lock_free

    @precondition(lambda self: self.ledger.lock_free and self.ledger.idle)
    @rule(for_a_task=st.booleans())
    def a_borrow_takes_no_lock(self, for_a_task: bool) -> None:
        expected = self.ledger.idle[-1]._slot
        if for_a_task:
            lease, is_lent = lend_idle(self.home, None, None, 0)  # type: ignore[arg-type]
            assert is_lent
        else:
            lease = self.home.get_connection()
        assert not self.queue, "a newcomer overtook a waiter"
        assert lease._slot is expected, "the last one returned is lent first"
        assert self.home.went_slowly == 0
        self.lent.append(lease)

    @precondition(lambda self: not (self.ledger.lock_free and self.ledger.idle))
    @rule()
    def a_borrow_that_must_not_block_gets_none(self) -> None:
        assert lend_idle(self.home, None, None, 0) == (None, False)  # type: ignore[arg-type]

    @precondition(lambda self: self.ledger.idle)
    @rule()
    def a_lease_is_between_the_stack_and_its_borrower(self) -> None:
        lease = self.ledger.idle.pop()
        assert lease._slot in self.ledger.borrowed(), "taken is borrowed, before the borrower says so"
        self.ledger.idle.append(lease)

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), used=st.booleans(), a_caller_comes_meanwhile=st.booleans())
    def a_return_takes_no_lock_if_it_need_not(self, data: Any, used: bool, a_caller_comes_meanwhile: bool) -> None:
        """By the functions that the pool itself uses, of a lease that was used and of one that was not."""
        lease = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        slot = lease._slot
        assert slot is not None
        slot.since = 1.0
        waiter = Waiter(Lease())
        lock_free = self.ledger.lock_free
        if a_caller_comes_meanwhile and lock_free and not self.ledger.idle:
            self.home.meanwhile = waiter
        if used or type(lease) is not UnusedLease:
            lease = self.spent(lease, slot)
            return_clean(lease)
        else:
            lease.close()
        is_home = self.home.went_slowly == 0
        self.home.went_slowly = 0
        assert is_home == lock_free
        if not is_home:
            assert slot.holder == id(lease), "it is still its own"
            if self.closed:
                self.ledger.close(slot, lease, Reason.CLOSED)
                self.closing.append(lease)
                return
            self.wake(self.ledger.give(slot, lease))
        elif waiter.state is WaiterState.GIVEN:
            self.wake(waiter)
        assert self.ledger.serve() is None

    def spent(self, lease: Any, slot: Slot) -> SpentLease:
        """What a return makes of a lease that was used."""
        if type(lease) is UnusedLease:
            del lease._claim
            lease.__class__ = SpentLease  # type: ignore[assignment]  # of the same layout
            return lease  # type: ignore[return-value]
        spent: SpentLease = SpentLease()
        spent._pool = self.home  # type: ignore[assignment]
        spent._slot, lease._slot = slot, None
        slot.holder = id(spent)
        return spent

    @precondition(lambda self: self.ledger.idle)
    @rule()
    def a_lease_is_lost_on_the_way_from_the_stack(self) -> None:
        self.take_back(self.ledger.idle.pop())

    def take_back(self, lease: Lease) -> Slot:
        """`lease` is collected, and its connection closed."""
        slot = lease._slot
        assert slot is not None
        slot.mark_leaked(lease)
        assert self.ledger.leaked.pop() is slot
        assert self.ledger.leaked_slots() == [slot]
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
        slot.live_until(float("inf"))
        slot.fresh_until = float("inf")
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
        assert self.queue, "a caller was woken that did not wait"
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
    def a_caller_asks_a_closed_pool(self) -> None:
        assert self.ledger.take(Lease()) is None

    # -- and goes -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), keep=st.booleans())
    def a_borrower_returns_with_the_lock(self, data: Any, keep: bool) -> None:
        lease = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        slot = lease._slot
        assert slot is not None
        assert slot.holder == id(lease)
        if keep and not self.closed:
            assert self.ledger.give(slot, Lease()) is None, "it is not this one's"
            assert slot.holder == id(lease)
            self.wake(self.ledger.give(slot, lease))
            assert lease._slot is None
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
        assert not self.ledger.leaked_slots(), "reclaimed twice"
        slot.mark_leaked(lease)
        assert not self.ledger.leaked, "it was not the owner any more"

    @precondition(lambda self: self.lent)
    @rule()
    def a_lease_is_thrown_away_and_its_finalizer_is_struck(self) -> None:
        self.lent.pop()._slot = None  # what is left of it, when Python has collected it
        [slot] = self.ledger.leaked_slots()
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
            self.wake(self.ledger.give(slot, keeper))
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
        self.ledger.require_lock()
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
        assert not (self.queue and self.ledger.lock_free)

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
        assert not self.ledger.leaked_slots()

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
