"""ConnectionPool: is it open, may I have one, by when?

    NEW -> OPEN -> CLOSING -> CLOSED        (CLOSED is terminal; a fork is no state: it starts with fresh books)

Every operation reads: take the lock, ask the ledger, drop the lock, do what it said, report back. What the lock
guards is marked; nothing slow happens under it: no I/O, no callback, no logging, no `close()` (Invariant 4). While
the ledger is calm, a connection is lent and comes home in one atomic step each, without the lock (`_ledger.py`).

Waiting, connecting and checking share one deadline per call (Invariant 14). A caller that may connect does so itself,
in its own thread: no background thread is needed for anything here (Invariant 15).
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from contextlib import AbstractContextManager, suppress
from enum import Enum
from functools import cache
from logging import DEBUG
from random import uniform
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, Self

from pymysql import err

from . import reuse, settings
from ._driver import reset as _session
from ._driver import wire as _wire
from ._driver.connector import Connector
from ._driver.exchange import TRUST
from ._driver.reset import Cleanup
from ._driver.statements import STATE, TRANSACTION, WROTE
from ._driver.wire import Wire
from ._pool import deadlock as _deadlock
from ._pool import diagnostics as _report
from ._pool import maintenance as _maintenance
from ._pool.backoff import ConnectGate
from ._pool.lease import (
    HAS_GIL,
    Connection,
    MortalConnection,
    learn_attributes,
    new_lease,
    ready_lease,
    standalone,
)
from ._pool.ledger import CLOSING, CONNECTING, IDLE, IN_USE, RESERVED, Ledger, Slot
from ._pool.waiter import GIVEN, ThreadWaiter, Waiter
from ._util import callsite as _borrower
from ._util import farewell as _farewell
from ._util.lock import Lock, new_lock
from ._util.log import logger
from ._util.namesakes import warn_of_namesakes
from ._util.process import Mark, mark_process
from .errors import (
    GetConnectionFromPoolError,
    PoolClosed,
    PoolDeadlock,
    PoolOverloaded,
    PoolTimeout,
    PoolUnavailable,
    ReturnConnectionToPoolError,
)
from .request_scope import RequestScope, request_scope
from .reuse import Facts, Reason, Verdict
from .stats import Counters, PoolStats

# How often a waiter looks for leases that nobody will return: dropped ones, and those of dead threads.
_LOOK_AROUND = 0.25  # seconds
_DEADLOCK_AFTER = 0.5  # seconds that a call has waited when it asks whether it waits for itself
_CONNECT_TIMEOUT = 10.0  # seconds; PyMySQL's default
_LIFETIME_JITTER = 0.05
_NEVER = float("inf")  # monotonic

# Errors of a connect that waiting may cure: the server is starting, stopping, full or out of reach.
_TRANSIENT = frozenset({1040, 1203, 1053, 1047, 1290, 1158, 1159, 1160, 1161, 2002, 2003, 2006, 2013, 2055, 3032})

_getframe = sys._getframe
_thread = _borrower.local


_open_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


@cache
def _close_at_exit() -> None:
    """Registered once, with the first pool."""
    atexit.register(_say_goodbye)


def _say_goodbye() -> None:
    """At the interpreter's exit: COM_QUIT on idle connections, so that the server counts no aborted clients. Nothing
    is waited for, and nobody is woken: daemon threads, all that are left, could only complain."""
    for pool in list(_open_pools):
        if pool._here[0]:
            _maintenance.discard_idle(pool, lambda slot: Reason.POOL_CLOSED)


class PoolState(Enum):
    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class _Wish:
    """What one call of `get_connection` wants, and until when."""

    __slots__ = ("deadline", "give_up_at", "grow_at", "last_error", "next_retry", "retry_interval", "started")

    def __init__(
        self, retry_num: int, retry_interval: float, timeout: float | None, connect_timeout: float, verbose: bool
    ) -> None:
        patience = retry_num * retry_interval
        self.started = monotonic()
        self.retry_interval = retry_interval
        if timeout is None:
            # The old package's rule: wait for that long, then make a new connection if maxsize allows.
            self.grow_at = self.give_up_at = self.started + patience
            self.deadline = self.started + patience + connect_timeout
        else:
            # The same, but the timeout bounds the new connection too, so half of it is left for that.
            self.grow_at = self.started + min(patience, timeout / 2)
            self.give_up_at = self.deadline = self.started + timeout
        self.next_retry = self.started if verbose else _NEVER  # when to say that the call is waiting
        self.last_error: BaseException | None = None

    def was_late(self, began: float, ended: float) -> bool:
        """Whether a connect failed for want of time that the call had spent in the queue: no news of the server."""
        return ended >= self.deadline and began - self.started > self.deadline - began


class ConnectionPool:
    """A pool of PyMySQL connections to one server.

    Args:
        size: connections made as soon as they are asked for; None: 10, or `maxsize` if that is less.
        maxsize: the bound on connections; never exceeded.
        name: shown in messages; default host-port-user-database.
        pre_create_num: connections to make now.
        con_lifetime: seconds after which a connection is replaced; 0 or None: never.
        **options: the further options of `pymysqlpool.settings.Settings` (keyword only), `reuse_policy` (a function
            from `reuse.Facts` to `reuse.Decision`), and everything that `pymysql.connect()` takes. `password`,
            `user` and `host` may be callables, asked at every connect.

    Raises:
        SettingsError: an option is unknown, out of bounds or contradicts another.
    """

    def __init__(
        self,
        size: int | None = None,
        maxsize: int = settings.DEFAULT_MAXSIZE,
        name: str | None = None,
        pre_create_num: int = 0,
        con_lifetime: float | None = 3600,
        *,
        reuse_policy: reuse.Policy = reuse.decide,
        **options: Any,
    ) -> None:
        self._settings, self._connect_args = settings.split(
            {
                "size": size,
                "maxsize": maxsize,
                "name": name,
                "pre_create_num": pre_create_num,
                "con_lifetime": con_lifetime,
                **options,
            }
        )
        self.name = name or settings.default_name(self._connect_args)
        self.endpoint = settings.endpoint_of(self._connect_args)
        self._policy = reuse_policy
        own = self._settings
        self._checks_more = bool(own.pre_ping or own.on_checkout or own.record_stacks or own.max_uses)
        self._records_stacks = own.record_stacks
        usual = own.reset != "always" and own.on_checkin is None and not own.record_stacks
        self._plain = usual and reuse_policy is reuse.decide and HAS_GIL
        self._lifetime = con_lifetime if con_lifetime and con_lifetime > 0 else _NEVER
        self._closed = False  # the user's wish; it outlives a fork
        self._verbose = False  # somebody reads what is logged of each lease; asked when a socket is looked at
        self._books: dict[int, tuple[Any, ...]] = {}  # by process id; see _enter_process
        self._pid = 0
        self._enter_process()
        _open_pools.add(self)
        _close_at_exit()
        warn_of_namesakes()
        try:
            self._pre_create(self._settings.pre_create_num)
        except BaseException:
            self.close(timeout=0)
            raise

    # -- per process ---------------------------------------------------------------------------------------

    # All guarded by _lock, and all new in a forked child.
    _lock: Lock
    _ledger: Ledger
    _gate: ConnectGate
    _counters: Counters
    _state: PoolState
    _here: Mark  # whether this is still the process whose books these are
    _connector: Connector
    _caretaker: _maintenance.Caretaker | None
    _tend_at: float  # monotonic; when a returning thread tends the idle ones; a lost update only tends twice
    _came_home: ThreadWaiter  # close() waits for the last lease to end

    def _enter_process(self) -> None:
        """Open the books of this process (Invariant 13).

        In a forked child the parent's lock may be taken by a thread that does not exist here, so nothing of the
        parent's is used: the first to put its books into the dict wins, and all threads then use the same. No hook
        has to run at the fork; uWSGI does not run them.
        """
        pid = os.getpid()
        inherited: Ledger | None = self._ledger if self._pid else None
        sizes = inherited or self._settings  # resize() may have changed them
        fresh = (
            new_lock(),
            Ledger(sizes.size, sizes.maxsize, ready_lease, plain=self._plain),
            ConnectGate(),
            Counters(),
            mark_process(),
        )
        winner = self._books.setdefault(pid, fresh)
        self._lock, self._ledger, self._gate, self._counters, here = winner
        self._connector = Connector(self.name, self._settings, self._connect_args, standalone)
        self._state = PoolState.CLOSED if self._closed else PoolState.NEW
        self._tend_at = monotonic() + _maintenance.INTERVAL
        self._caretaker = None
        self._came_home = ThreadWaiter(None)
        self._pid, self._here = pid, here
        if inherited is not None and winner is fresh:
            self._books.clear()
            self._books[pid] = fresh
            for slot in inherited.slots():
                slot.holder = 0  # leases that came along with the fork own nothing here
                slot.expire(Reason.CLOSED)
                if slot.wire is not None:
                    slot.wire.forget()

    # -- borrowing -----------------------------------------------------------------------------------------

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
    ) -> Connection:
        """Borrow a connection. Give it back with `close()`, or use it as a context manager.

        When none is idle and `size` is reached, the call waits for one to come back, in order of arrival. After its
        patience a new one is made if `maxsize` allows.

        Args:
            retry_num, retry_interval: the patience is their product, in seconds.
            pre_ping: ask the server before lending: always (True), or when it was idle for longer than so many
                seconds. Dead sockets are found without it.
            timeout: seconds that bound everything: waiting, connecting (handshake included), checking. Default is
                the pool's `timeout`; without either, the patience bounds the waiting and `connect_timeout` the rest.

        Raises:
            PoolTimeout: none came back in time and `maxsize` is reached.
            PoolDeadlock: a PoolTimeout, with `deadlock="raise"`: all who hold a connection wait for another.
            PoolUnavailable: the server could not be reached in time; the cause is the last connect error.
            PoolOverloaded: more than `max_waiting` callers wait already.
            PoolClosed: the pool is closed.
            pymysql.err.Error: the server refused the login or the set-up; waiting would not help.

        All but the last are `GetConnectionFromPoolError`, which is a `pymysql.err.OperationalError`.
        """
        if self._here[0]:
            ledger = self._ledger
            if ledger.calm:
                try:
                    lease: Connection = ledger.idle.pop()
                except IndexError:
                    return self._borrow_slowly(new_lease(self), retry_num, retry_interval, pre_ping, timeout)
                slot: Any = lease._slot
                lease._pool = self
                slot.borrower = slot.user = _thread.reference
                slot.lent += 1
                now = monotonic()
                if now >= slot.heard_until or pre_ping or self._checks_more or self._verbose:
                    if (
                        pre_ping
                        or self._checks_more
                        or now >= slot.expires_at
                        or slot.wire.readable(0)
                        or logger.isEnabledFor(DEBUG)
                    ):
                        slot.state = IN_USE
                        return self._borrow_slowly(lease, retry_num, retry_interval, pre_ping, timeout)
                    slot.heard_until = now + TRUST
                slot.since = now
                frame = _getframe(1)
                slot.place = frame.f_code
                slot.offset = frame.f_lasti
                slot.state = IN_USE
                return lease
        else:
            self._enter_process()
        return self._borrow_slowly(new_lease(self), retry_num, retry_interval, pre_ping, timeout)

    def _borrow_slowly(
        self,
        lease: Connection,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
    ) -> Connection:
        """Wait, connect or check: everything that the fast path of `get_connection` does not need."""
        own = self._settings
        connect_timeout = self._connect_args.get("connect_timeout", _CONNECT_TIMEOUT)
        verbose = self._verbose = logger.isEnabledFor(DEBUG)
        wish = _Wish(retry_num, retry_interval, own.timeout if timeout is None else timeout, connect_timeout, verbose)
        waiter = ThreadWaiter(lease)
        try:
            while True:
                slot = self._obtain(lease, waiter, wish)
                if self._is_fit(lease, slot, pre_ping or own.pre_ping, wish):
                    break
                waiter.may_grow = True  # it replaces a connection that was there
            if own.record_stacks:
                slot.place = _borrower.stack()
            else:
                frame = _getframe(2)  # who called `get_connection`
                slot.place = frame.f_code
                slot.offset = frame.f_lasti
            slot.since = monotonic()
            slot.borrower = slot.user = _thread.reference
            self._note_use(slot)
            if isinstance(lease, MortalConnection):
                lease.live(slot.wire)
            if verbose:
                self._tell_of_lease()
            if own.background and self._caretaker is None:
                _maintenance.hire(self)
            if own.on_checkout is not None:
                own.on_checkout(lease)
        except BaseException:
            self._withdraw(lease, waiter)
            raise
        return lease

    def _note_use(self, slot: Slot) -> None:
        most = self._settings.max_uses
        if most is not None and slot.lent >= most:
            slot.expire(Reason.WORN)

    def _obtain(self, lease: Connection, waiter: ThreadWaiter, wish: _Wish) -> Slot:
        """Wait for, or make, a connection; returns its slot, owned by `lease`."""
        while True:
            now = monotonic()
            with self._lock:
                slot, failure = self._step_locked(lease, waiter, wish, now)
            if slot is None and failure is None:
                slot, failure = self._wait(lease, waiter, wish, now)
            if failure is not None:
                cause = wish.last_error or self._gate.error
                raise _report.failure(self, failure, waiter, monotonic() - wish.started, cause) from cause
            assert slot is not None
            if slot.state is IN_USE:
                return slot
            self._connect(lease, slot, waiter, wish)

    def _wait(
        self, lease: Connection, waiter: ThreadWaiter, wish: _Wish, since: float
    ) -> tuple[Slot | None, type[GetConnectionFromPoolError] | None]:
        """Wait in the queue until there is something to answer: a slot, or a failure."""
        waiter.borrower = _thread.reference
        if self._ledger.dropped:
            _maintenance.reap(self)
        if self._ledger.idle:  # became so while this call queued
            self._serve()
        now = since
        in_deadlock = False
        try:
            while True:
                if waiter.wait(self._patience(waiter, wish, now)):
                    slot = lease._slot
                    if waiter.state is GIVEN and slot is not None and slot.holder == id(lease):
                        return slot, None
                else:
                    _maintenance.reap(self, look_for_dead_borrowers=True)
                    in_deadlock = in_deadlock or self._meets_deadlock(waiter, wish)
                now = monotonic()
                with self._lock:
                    slot, failure = self._step_locked(lease, waiter, wish, now)
                if slot is not None or failure is not None:
                    return slot, failure
        finally:
            self._counters.waited(monotonic() - since)

    def _meets_deadlock(self, waiter: Waiter, wish: _Wish) -> bool:
        """Whether this call, once it has waited for a while, closed a circle of callers that wait for each other.
        Warns of it, or raises."""
        if monotonic() - wish.started < _DEADLOCK_AFTER:
            return False
        raises = self._settings.deadlock == "raise"
        with self._lock:
            circle = _deadlock.find(self._ledger)
            if not circle or circle[-1] is not waiter:
                return False
            if raises:
                self._counters.timeouts += 1
                self._ledger.withdraw(waiter)
        if raises:
            raise _report.failure(self, PoolDeadlock, waiter, monotonic() - wish.started, None)
        if monotonic() < wish.give_up_at:  # else the timeout says it
            _report.warn_of_deadlock(self, waiter)
        return True

    def _step_locked(
        self, lease: Connection, waiter: Waiter, wish: _Wish, now: float
    ) -> tuple[Slot | None, type[GetConnectionFromPoolError] | None]:
        """What the caller has, or may do, at this moment: a slot, or a failure, or neither: then it is queued."""
        slot = lease._slot
        if slot is not None and slot.holder == id(lease):
            return slot, None
        if not waiter.arrival:
            self._ledger.arrive(waiter)
        if self._closed:
            return None, PoolClosed
        ledger = self._ledger
        slot = ledger.take(lease)
        if slot is not None:
            return slot, None
        if now >= wish.grow_at:
            waiter.may_grow = True
        limit = ledger.maxsize if waiter.may_grow else ledger.size
        if ledger.total < limit or self._gate.failing:
            in_time = now < wish.deadline or wish.last_error is None
            if in_time and self._gate.allows(ledger.count(CONNECTING), now):
                slot = ledger.open(lease, limit)
                if slot is not None:
                    ledger.withdraw(waiter)
                    return slot, None
            elif self._settings.fail_fast and self._gate.failing:
                return None, PoolUnavailable
        if now >= wish.give_up_at:
            if ledger.total >= ledger.maxsize or (self._gate.error is None and wish.last_error is None):
                self._counters.timeouts += 1
                return None, PoolTimeout
            return None, PoolUnavailable
        if waiter.arrival not in ledger.waiters:
            most = self._settings.max_waiting
            if most is not None and len(ledger.waiters) >= most:
                self._counters.rejected += 1
                return None, PoolOverloaded
            ledger.enqueue(waiter)
        return None, None

    def _patience(self, waiter: Waiter, wish: _Wish, now: float) -> float:
        """After how many seconds a waiter that nobody wakes should look again."""
        if now >= wish.next_retry:
            wish.next_retry = now + wish.retry_interval
            logger.debug("Retry to get connection from pool(%s)", self.name)
        look = now + _LOOK_AROUND
        if wish.give_up_at < look:
            look = wish.give_up_at
        if wish.grow_at < look and not waiter.may_grow:
            look = wish.grow_at
        if wish.next_retry < look:
            look = wish.next_retry
        gate = self._gate
        if gate.failing and gate.next_attempt < look:
            look = gate.next_attempt
        return look - now

    def _withdraw(self, lease: Connection, waiter: Waiter) -> None:
        """The call ends without a lease: whatever it had in hand goes to the next one."""
        broken = False
        woken: list[Waiter] = []
        with self._lock:
            self._ledger.withdraw(waiter)
            slot = lease._slot
            if slot is None or slot.holder != id(lease):
                return
            if slot.state is CONNECTING:
                self._ledger.free(slot)
                woken = self._grant_locked()
            elif slot.wire.exchange.locked() or lease.is_used:
                broken = True
            else:
                with suppress(AttributeError):
                    del lease._untouched
                following = self._ledger.give(slot)
                if following is not None:
                    woken.append(following)
                lease._slot = None
        if broken:
            self._discard(lease, slot, Reason.INTERRUPTED)
        self._wake(woken)

    # -- connecting ----------------------------------------------------------------------------------------

    def _connect(self, lease: Connection, slot: Slot, waiter: Waiter, wish: _Wish) -> None:
        """Make the connection for the slot that `lease` has reserved, then let an earlier waiter have it."""
        began = monotonic()
        try:
            wire = self._connector.make_wire(wish.deadline)
            learn_attributes(wire.attributes().keys())
        except BaseException as error:
            with self._lock:
                self._ledger.free(slot)
                if isinstance(error, Exception):
                    self._counters.connect_errors += 1
                    if not wish.was_late(began, monotonic()):
                        self._gate.failed(monotonic(), error)
                woken = self._grant_locked()
            self._wake(woken)
            if reuse.error_number(error) not in _TRANSIENT:
                raise
            wish.last_error = error
            return
        now = monotonic()
        with self._lock:
            slot.live_until(now + self._lifetime * (1 - uniform(0, _LIFETIME_JITTER)))
            if slot.expires_at > now:
                slot.heard_until = now + TRUST
            slot.since = now
            self._ledger.connected(slot, wire)
            self._counters.created += 1
            self._gate.succeeded()
            if self._state is PoolState.NEW:
                self._state = PoolState.OPEN
            too_late = self._state is not PoolState.OPEN  # closed meanwhile (Invariant 12)
            woken = []
            earlier = self._ledger.yield_to_earlier(slot, waiter.arrival)
            if earlier is not None:
                lease._slot = None
                woken.append(earlier)
            woken += self._grant_locked()
        self._wake(woken)
        _farewell.arrange(self._pid, _say_goodbye)
        if too_late:
            self._discard(lease, slot, Reason.POOL_CLOSED, quiet=True)

    def _pre_create(self, number: int) -> None:
        leases = []
        try:
            for _ in range(number):
                lease = new_lease(self)
                leases.append(lease)
                wish = _Wish(0, 0.0, None, self._connect_args.get("connect_timeout", _CONNECT_TIMEOUT), verbose=False)
                waiter = ThreadWaiter(lease)
                with self._lock:
                    self._ledger.arrive(waiter)
                    slot = self._ledger.open(lease, self._ledger.maxsize)
                if slot is not None:
                    self._connect(lease, slot, waiter, wish)
                if wish.last_error is not None:
                    cause = wish.last_error
                    raise _report.failure(self, PoolUnavailable, waiter, monotonic() - wish.started, cause) from cause
        finally:
            for lease in leases:
                with self._lock:
                    slot = lease._slot
                    if slot is not None and slot.holder == id(lease) and slot.state is IN_USE:
                        slot.lent = 0
                        self._ledger.give(slot)
                    lease._slot = None

    def _grant_locked(self) -> list[Waiter]:
        """Let waiters connect, as many as capacity and the gate allow."""
        woken: list[Waiter] = []
        if not self._ledger.waiters:
            return woken
        now = monotonic()
        while self._gate.allows(self._ledger.count(CONNECTING), now):
            waiter = self._ledger.grant()
            if waiter is None:
                break
            woken.append(waiter)
        return woken

    def _serve(self) -> None:
        """Give what is idle to those who wait."""
        served: list[Waiter] = []
        with self._lock:
            while (waiter := self._ledger.serve()) is not None:
                served.append(waiter)
        self._wake(served)

    @staticmethod
    def _wake(waiters: list[Waiter]) -> None:
        for waiter in waiters:
            waiter.wake()

    # -- checking ------------------------------------------------------------------------------------------

    def _is_fit(self, lease: Connection, slot: Slot, pre_ping: bool | float, wish: _Wish) -> bool:
        """Whether the connection in `slot` can be lent; if not, it is discarded."""
        now = monotonic()
        wire = slot.wire
        expired = slot.why_expired(now)
        dead = False
        if expired is None:
            dead = wire.exchange.locked() or bool(now >= slot.heard_until and wire.readable(0))
            if not dead and pre_ping and self._wants_ping(pre_ping, now - slot.since):
                dead = not self._answers(wire, wish.deadline)
                if dead:
                    self._expire_generation(slot.generation)
        reason = reuse.unfit(expired, dead=dead)
        if reason is None:
            return True
        self._discard(lease, slot, reason)
        if dead:
            _maintenance.discard_idle(self, lambda other: reuse.unfit(None, dead=bool(other.wire.readable(0))))
        return False

    @staticmethod
    def _wants_ping(pre_ping: bool | float, idle_for: float) -> bool:
        return pre_ping if isinstance(pre_ping, bool) else idle_for > pre_ping

    @staticmethod
    def _answers(wire: Wire, deadline: float) -> bool:
        probe = wire.borrow_privately()
        try:
            with probe.within(deadline):
                probe.ping(reconnect=False)
        except err.MySQLError:
            return False
        finally:
            wire.take_back(probe)
        return True

    # -- giving back ---------------------------------------------------------------------------------------

    def _give_back(self, lease: Connection, exception: BaseException | None, frame: FrameType) -> None:
        """The borrower returns `lease`, after `exception` if it knows of one."""
        slot = lease._slot
        attributes = lease.take_out()
        assert slot is not None
        # From here on the handle is dead: its attributes are taken out in one step (Invariant 7).
        lease._code = slot.place
        lease._offset = slot.offset
        lease._returned_code = _borrower.stack() if self._records_stacks else frame.f_code
        lease._returned_offset = frame.f_lasti
        lease.__dict__ = {}
        if HAS_GIL:
            lease.__class__ = MortalConnection
        now = monotonic()
        marks = STATE
        if exception is None and self._ledger.plain and slot.holder == id(lease) and slot.expires_at > now:
            marks = slot.wire.marks_left(attributes)
        # Of the first two, which most returns are, it is plain what `_settle` would come to.
        if not marks:
            is_fit = True
        elif marks & ~WROTE == TRANSACTION and self._here[0]:
            self._tell_of_lost_changes(marks)
            is_fit = self._clean(lease, slot, attributes, Cleanup.ROLLBACK)
        else:
            is_fit = self._settle(lease, slot, attributes, exception)
        if is_fit:
            slot.since = now
            self._come_home(lease, slot)

    def _come_home(self, lease: Connection, slot: Slot) -> None:
        """`lease`, which is dead, has a clean connection in `slot`: it is to be lent again."""
        ledger = self._ledger
        mine = id(lease)
        is_home = False
        if not ledger.waiters:
            ready = ready_lease(slot)
            yours = id(ready)
            # No call from the question to the last answer, so nothing comes between them.
            if ledger.calm and slot.holder == mine:
                slot.state = IDLE
                slot.holder = yours
                ledger.idle.append(ready)
                lease._slot = None
                is_home = True
        if not is_home:
            with self._lock:
                waiter = ledger.give(slot) if slot.holder == mine else None
            if waiter is not None:
                waiter.wake()
            lease._slot = None
            self._discard_if_closed()
        elif not ledger.calm:
            self._look_again()
        if slot.since >= self._tend_at or self._verbose:
            self._attend(slot.since)

    def _tell_of_lease(self) -> None:
        logger.debug("Get connection from pool(%s)", self.name)

    def _attend(self, now: float) -> None:
        """After a return: tell who reads the log, and look after the idle ones when it is time."""
        if now >= self._tend_at:
            self._tend_at = now + _maintenance.INTERVAL
            if self._caretaker is None:
                _maintenance.tend(self)
        self._verbose = logger.isEnabledFor(DEBUG)
        if self._verbose:
            logger.debug("Put connection back to pool(%s)", self.name)

    def _look_again(self) -> None:
        """While a connection became idle, somebody came to wait, or the pool began to close."""
        self._serve()
        self._discard_if_closed()

    def _discard_if_closed(self) -> None:
        """What became idle may have been judged before the pool began to close (Invariant 12)."""
        if self._closed:
            _maintenance.discard_idle(self, lambda slot: Reason.POOL_CLOSED)

    def give_back(self, connection: Connection, exception: BaseException | None = None) -> None:
        """Return `connection` after `exception`: what `connection.close()` does, for those who know what happened.

        Raises:
            ReturnConnectionToPoolError: it has been given back already, or it is not of this pool.
        """
        if connection._pool is not self:
            owner = "no pool" if connection._pool is None else f"pool({connection._pool.name})"
            raise ReturnConnectionToPoolError(
                f"this connection is of {owner}, not of pool({self.name}); nothing was done"
            )
        self._give_back(connection, exception, _getframe(1))

    def _settle(
        self,
        lease: Connection,
        slot: Slot,
        attributes: dict[str, Any],
        exception: BaseException | None,
    ) -> bool:
        """Judge a connection that comes home, and clean it if it is kept. False when it was discarded."""
        if not self._here[0]:
            self._enter_process()
        if slot.holder != id(lease):
            lease._slot = None  # taken back meanwhile: forked, reclaimed, or cut off by close()
            return False
        wire: Wire = slot.wire
        quiet = wire.is_quiet(attributes)
        assert self._connector.recipe is not None  # there is a connection, so there was a first one
        cleanup = _session.needed(attributes, self._connector.recipe, self._settings.reset)
        facts = Facts(
            exception=exception if exception is not None else _wire.last_error(attributes),
            quiet=quiet,
            open=_wire.is_open(attributes),
            reconnected=_wire.is_reconnected(attributes, wire),
            expired=slot.why_expired(monotonic()),
            cleanup=cleanup,
        )
        decision = reuse.judge(facts, self._policy)
        self._tell_of_lost_changes(attributes["_marks"])
        if decision.expire_generation:
            self._expire_generation(slot.generation)
        if decision.verdict is Verdict.DISCARD:
            _wire.abandon(attributes, wire)
            self._discard(lease, slot, decision.reason or Reason.LOST, quiet)
            return False
        wire.exchange.release()
        return self._clean(lease, slot, attributes, cleanup)

    def _tell_of_lost_changes(self, marks: int) -> None:
        if marks & WROTE and marks & TRANSACTION:
            logger.debug("Uncommitted changes are rolled back in pool(%s)", self.name)

    def _clean(self, lease: Connection, slot: Slot, attributes: dict[str, Any], cleanup: Cleanup) -> bool:
        """Undo what `lease` left behind in its session. False when that failed, and the connection was discarded."""
        own, recipe = self._settings, self._connector.recipe
        assert recipe is not None  # there is a connection, so there was a first one
        deadline = monotonic() + own.reset_timeout
        try:
            if own.on_checkin is None:
                _session.clean(slot.wire, attributes, cleanup, recipe, deadline)
            else:
                cleanup = _session.clean_after(own.on_checkin, slot.wire, attributes, recipe, own.reset, deadline)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the connection is in no known state
            logger.debug("Discard a connection that could not be reset in pool(%s): %s", self.name, error)
            self._discard(lease, slot, Reason.RESET_FAILED)
            return False
        if cleanup is not Cleanup.NOTHING:
            self._counters.reset += 1
        slot.in_transaction = False
        return True

    def _discard(
        self, owner: Connection | _maintenance.Keeper, slot: Slot, reason: Reason, quiet: bool = False
    ) -> None:
        """Close the connection in `slot`, which `owner` owns, and let its capacity be used again."""
        with self._lock:
            if slot.holder != id(owner):
                return
            wire: Wire | None = self._ledger.close(slot, owner, reason)
            self._counters.discard(reason.value)
        try:
            if wire is not None:
                wire.close(quiet)
        finally:
            with self._lock:
                self._ledger.free(slot)
                woken = self._grant_locked()
            owner._slot = None
            self._wake(woken)
            self._came_home.wake()
        logger.debug("Discard connection of pool(%s): %s", self.name, reason.value)
        if self._settings.on_discard is not None:
            with suppress(Exception):  # a failing hook must not break a return
                self._settings.on_discard(reason.value)

    # -- the pool's own life -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Renew all connections without refusing anybody: idle ones now, lent ones as they come home."""
        if not self._here[0]:
            self._enter_process()
        self._expire_generation(self._ledger.generation)

    def _expire_generation(self, generation: int) -> None:
        """Renew the connections of `generation`, unless that has been said before: old news expires nothing new."""
        with self._lock:
            if generation != self._ledger.generation:
                return
            self._ledger.expire_all(Reason.GENERATION)
        self._connector.forget_certificates()
        self._discard_expired()

    def _discard_expired(self) -> None:
        now = monotonic()
        _maintenance.discard_idle(self, lambda slot: slot.why_expired(now))

    def scope(self) -> AbstractContextManager[RequestScope]:
        """`with pool.scope() as scope:` for what is no request: a script, a thread, a job. `scope.connection()` borrows
        at its first call; the connection goes back when the block ends."""
        return request_scope(self)

    def resize(self, size: int, maxsize: int) -> None:
        """Change the bounds. Lent connections beyond the new `maxsize` are closed as they come home.

        Raises:
            SettingsError: a bound is not a whole number of at least 1, or `size` is larger than `maxsize`.
        """
        settings.Settings(size=size, maxsize=maxsize)
        if not self._here[0]:
            self._enter_process()
        with self._lock:
            self._ledger.resize(size, maxsize)
            woken = self._grant_locked()
        self._wake(woken)
        self._discard_expired()

    def close(self, timeout: float = 10.0) -> None:
        """End the pool: it lends nothing more, and waiters fail at once. May be called again.

        Args:
            timeout: seconds to wait for lent connections to come home; those that do not are cut off.
        """
        if not self._here[0]:
            self._enter_process()
        with self._lock:
            if self._state is PoolState.CLOSED:
                return
            self._state = PoolState.CLOSING
            self._closed = True
            self._ledger.set_plain(False)
            self._ledger.expire_all(Reason.POOL_CLOSED)
            failed = self._ledger.fail_all()
        self._wake(failed)
        deadline = monotonic() + timeout
        if self._caretaker is not None:
            self._caretaker.stop()
        _maintenance.discard_idle(self, lambda slot: Reason.POOL_CLOSED)
        while self._ledger.total and monotonic() < deadline:
            _maintenance.reap(self, look_for_dead_borrowers=True)
            _maintenance.discard_idle(self, lambda slot: Reason.POOL_CLOSED)  # what maintenance had in hand
            if self._ledger.total:
                self._came_home.wait(min(_LOOK_AROUND, max(0.0, deadline - monotonic())))
        cut_off: list[tuple[_maintenance.Keeper, Slot]] = []
        with self._lock:
            for slot in self._ledger.borrowed():
                keeper = _maintenance.Keeper()
                self._ledger.close(slot, keeper, Reason.POOL_CLOSED)
                cut_off.append((keeper, slot))
        for keeper, slot in cut_off:
            slot.wire.cut()
            self._discard(keeper, slot, Reason.POOL_CLOSED)
        with self._lock:
            self._state = PoolState.CLOSED

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, is_finalizing: Any = sys.is_finalizing) -> None:
        if "_here" not in self.__dict__ or not self._here[0]:
            return
        try:
            for slot in self._ledger.slots():
                if slot.wire is not None:
                    slot.wire.close(quiet=slot.state is IDLE)
        except TypeError:
            if not is_finalizing():  # then the names of modules may be gone already, and the system closes the sockets
                raise

    # -- numbers -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it lends: from its first connection until `close`."""
        return self._state is PoolState.OPEN

    @property
    def size(self) -> int:
        """Connections available now (the old package's meaning); the configured size is `stats().size`."""
        return len(self._ledger.idle)

    available_num = size

    @property
    def connection_num(self) -> int:
        """All connections, used and available."""
        return self._ledger.total

    total_num = connection_num

    def stats(self) -> PoolStats:
        """The pool's numbers at this instant."""
        if not self._here[0]:
            self._enter_process()
        with self._lock:
            ledger, counters = self._ledger, self._counters
            states = [slot.state for slot in ledger.slots()]
            return PoolStats(
                name=self.name,
                size=ledger.size,
                maxsize=ledger.maxsize,
                idle=states.count(IDLE),
                in_use=states.count(IN_USE),
                connecting=states.count(CONNECTING),
                reserved=states.count(RESERVED),
                closing=states.count(CLOSING),
                waiting=len(ledger.waiters),
                borrowed=ledger.lent,
                returned=ledger.lent - states.count(IN_USE),
                created=counters.created,
                reset=counters.reset,
                discarded=counters.discarded_snapshot(),
                timeouts=counters.timeouts,
                rejected=counters.rejected,
                connect_errors=counters.connect_errors,
                leaked=counters.leaked,
                waits=counters.waits,
                wait_time=counters.wait_time,
            )

    def __repr__(self) -> str:
        now = self.stats()
        return (
            f"<ConnectionPool {self.name!r} {self._state.value} size={now.total}/{now.maxsize} "
            f"in_use={now.in_use} idle={now.idle} waiting={now.waiting}>"
        )
