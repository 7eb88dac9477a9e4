"""PoolCore: the state of a pool in one process, the one lock that guards it, and the operations that change it.

Its state: `_ledger` (owners of connections, and the queue), `_backoff` (may another connect be tried), `_counters`,
`_connector` (how a session is made), and `_life` (open or closed, and its maintenance thread).

Every operation reads: run a step of the ledger under the lock, then do outside the lock what its answer says. Nothing
slow happens in a step: no I/O, no callback, no logging, no `close()` (Invariant 4). Code that runs inside a step of its
own thread, such as a finalizer or a signal handler, is deferred until that step has ended (`_util/lock.py`).

Never: waits, judges a connection, knows of threads and tasks.

Invariants that live here: 4 (nothing slow under the lock), 5 (slot before socket), 12 (closed), 13 (fork), 15 (no
required threads), 19 (no lock waits for itself).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from time import monotonic

from .. import reuse
from .._driver.usage import SOCKET_CHECK_INTERVAL
from .._util import late
from .._util.log import load, logger
from ..failures import Server, kind_of
from ..reuse import Reason
from ..settings import Settings, patience_within
from .life import Life, PoolState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._driver.connector import Connector
    from .._driver.dial import GiveUp
    from .._driver.wire import Wire
    from .._util import child_exit
    from .._util.lock import StepLock
    from .._util.process import Mark, mark_process
    from . import counters, observed
    from .backoff import ConnectBackoff
    from .counters import Counters
    from .idle_lease import HAS_GIL, learn_attributes, make_idle_lease
    from .lease import standalone
    from .ledger import Ledger
    from .registry import all_pools, register
    from .slot import CONNECTING, Lease, MaintenanceLease, Slot
    from .waiter import ThreadWaiter, Waiter
else:
    late.names(globals(), "pymysqlpool._driver", "connector:Connector")
    late.names(globals(), "pymysqlpool._util", "child_exit", "lock:StepLock", "process:mark_process")
    late.names(globals(), "pymysqlpool._pool", "backoff:ConnectBackoff", "counters", "counters:Counters", "observed")
    late.names(globals(), "pymysqlpool._pool", "idle_lease:HAS_GIL,learn_attributes,make_idle_lease")
    late.names(globals(), "pymysqlpool._pool", "lease:standalone", "ledger:Ledger", "registry:all_pools,register")
    late.names(globals(), "pymysqlpool._pool", "slot:CONNECTING,MaintenanceLease", "waiter:ThreadWaiter")

INTERVAL = 1.0  # seconds between two rounds of maintenance
CONNECT_TIMEOUT = 10.0  # seconds; PyMySQL's default
NEVER = float("inf")  # monotonic
_LIFETIME_JITTER = 0.05


@cache
def _close_at_exit() -> None:
    """Registered once, with the first pool."""
    atexit.register(_quit_idle_connections)


def _quit_idle_connections() -> None:
    """At the interpreter's exit: COM_QUIT on idle connections, so that the server counts no aborted clients. Waits for
    nothing and wakes no waiter: daemon threads, all that are left, could only log errors."""
    for pool in all_pools():
        if pool._here[0]:
            pool._close_idle(_because_closed)


def _because_closed(slot: Slot) -> Reason:
    return Reason.POOL_CLOSED


class PoolCore:
    name: str
    endpoint: str

    # New in a forked child; the first to put them into `_books` wins, and `_here` is assigned last.
    _lock: StepLock
    _ledger: Ledger
    _backoff: ConnectBackoff
    _counters: Counters
    _connector: Connector
    _life: Life
    _here: Mark  # whether this is still the process whose state this is

    def __init__(self, name: str, endpoint: str, own: Settings, connect_args: Mapping[str, Any], policy: reuse.Policy):
        self.name = name
        self.endpoint = endpoint
        load()  # `logging`, and what a first borrow needs; here, so that it imports nothing
        late.load()
        self._settings = own
        self._connect_args = connect_args
        self._policy = policy
        self._records_stacks = own.record_stacks
        self._asks_role_after = own.role_check if own.role != "any" else NEVER  # seconds since it was asked
        asks_always = own.pre_ping or self._asks_role_after < SOCKET_CHECK_INTERVAL
        self._has_checkout_hooks = bool(asks_always or own.on_checkout or own.record_stacks or own.max_uses)
        usual = own.reset != "always" and own.on_checkin is None and not own.record_stacks
        self._allows_lock_free = usual and policy is reuse.decide and HAS_GIL
        waits_plainly = HAS_GIL and own.max_waiting is None and not own.background
        self._waits_plainly = waits_plainly and not self._has_checkout_hooks  # see `while_waiting`
        self._usual_patience = patience_within(own.timeout)  # seconds; of a call without arguments
        self._lifetime = own.con_lifetime if own.con_lifetime and own.con_lifetime > 0 else NEVER
        self._closed = False  # the user's wish; it outlives a fork
        self._tell_of_refusal: Callable[[], object] = observed.unheard
        self._told_places: set[Any] = set()  # call sites that returned uncommitted changes
        self._verbose = False  # whether the debug log is enabled; sampled when a socket is polled
        # monotonic; when a returning thread does the next maintenance; a lost update only does it twice
        self._tend_at = 0.0
        self._look_at = 0.0  # monotonic; when a waiter looks around again, see `checkout`
        self._suspect = 0  # id() of the waiter that the last look has found in a deadlock; 0: there was none
        self._books: dict[int, tuple[Any, ...]] = {}  # by process id
        self._pid = 0
        self._enter_process()
        _close_at_exit()

    def _enter_process(self) -> None:
        """Make the ledger, the lock and the rest of this process (Invariant 13).

        In a forked child the parent's lock may be taken by a thread that does not exist here, so nothing of the
        parent's is used: the first to put its own into the dict wins, and all threads then use the same. No hook
        has to run at the fork; uWSGI does not run them.
        """
        pid = os.getpid()
        inherited: Ledger | None = self._ledger if self._pid else None
        sizes = inherited or self._settings  # resize() may have changed them
        assert sizes.size is not None
        fresh = (
            StepLock(),
            Ledger(sizes.size, sizes.maxsize, make_idle_lease, allows_lock_free=self._allows_lock_free),
            ConnectBackoff(),
            Counters(),
            Connector(self.name, self._settings, self._connect_args, standalone),
            Life(PoolState.CLOSED if self._closed else PoolState.NEW, ThreadWaiter(None)),
            mark_process(),
        )
        winner = self._books.setdefault(pid, fresh)
        self._lock, self._ledger, self._backoff, self._counters, self._connector, self._life, here = winner
        self._tend_at = monotonic() + (INTERVAL if observed.after_maintenance is None else 0.0)
        self._pid, self._here = pid, here
        if winner is not fresh:
            return
        if inherited is not None:
            self._books.clear()
            self._books[pid] = fresh
            for slot in inherited.slots():
                slot.holder = 0  # leases that came along with the fork own nothing here
                slot.expire(Reason.CLOSED)
                if slot.wire is not None:
                    slot.wire.forget()
        register(self, self._counters)

    # -- making connections --------------------------------------------------------------------------------

    def _connect(self, lease: Lease, slot: Slot, arrival: int, deadline: float, give_up: GiveUp = None) -> None:
        """Make the connection for the slot that `lease` has reserved, then let an earlier waiter have it.

        Args:
            arrival: the number of the caller; one with a smaller number goes first.
            deadline: monotonic.
            give_up: asked while the server has not answered.

        Raises:
            pymysql.err.MySQLError: the server cannot be reached, refuses, or does not answer in time.
        """
        slot.since = began = monotonic()
        wire = self._connector.make_wire(deadline, give_up)
        self._counters.created(monotonic() - began)
        learn_attributes(wire.names)
        too_late, woken = self._lock.step(self._connected_locked, lease, slot, wire, arrival)
        if woken:
            self._wake(woken)
        child_exit.register(self._pid, _quit_idle_connections)
        if too_late:
            self._discard(lease, slot, Reason.POOL_CLOSED, quiet=True)

    def _connected_locked(self, lease: Lease, slot: Slot, wire: Wire, arrival: int) -> tuple[bool, list[Waiter]]:
        now = monotonic()
        slot.live_until(now + self._lifetime * (1 - _LIFETIME_JITTER * int.from_bytes(os.urandom(2)) / 0xFFFF))
        if slot.expires_at > now:
            slot.fresh_until = now + SOCKET_CHECK_INTERVAL
        self._backoff.record_success(now, began=slot.since)
        slot.since = slot.role_known = now
        self._ledger.connected(slot, wire)
        slot.lasting = wire.lasting
        if self._life.state is PoolState.NEW:
            self._life.state = PoolState.OPEN
        woken = []
        earlier = self._ledger.yield_to_earlier(slot, arrival)
        if earlier is not None:
            lease._slot = None
            woken.append(earlier)
        woken += self._grant_locked()
        return self._life.state is not PoolState.OPEN, woken  # closed meanwhile (Invariant 12)

    def _connect_failed(self, slot: Slot, error: BaseException, says: Server, began: float) -> None:
        """Give the capacity back (Invariant 5). `says`: what the failure says about the server; `began`: when the
        attempt started."""
        self._counters.happened("connect error", kind_of(error))
        self._wake(self._lock.step(self._connect_failed_locked, slot, error, says, began))

    def _connect_failed_locked(self, slot: Slot, error: BaseException, says: Server, began: float) -> list[Waiter]:
        self._ledger.free(slot)
        if isinstance(error, Exception):
            self._counters.add(counters.CONNECT_ERRORS)
            if says is not Server.NOTHING:
                self._backoff.record_failure(monotonic(), error, says, began)
            else:
                self._backoff.record_silence(monotonic(), began)
            if says is Server.REFUSES_US:
                return list(self._ledger.waiters.values())  # it is their error too: they need not wait
        return self._grant_locked()

    # -- ending connections --------------------------------------------------------------------------------

    def _discard(self, owner: Lease, slot: Slot, reason: Reason, quiet: bool = False) -> None:
        """Close the connection in `slot`, which `owner` owns, and let its capacity be used again."""
        if self._lock.put_off(self._discard, owner, slot, reason, quiet):
            return
        is_mine, wire = self._lock.step(self._close_locked, owner, slot, reason)
        if not is_mine:
            return
        try:
            if wire is not None:
                wire.close(quiet)
        finally:
            woken = self._lock.step(self._free_locked, slot)
            owner._slot = None
            self._wake(woken)
            self._life.a_lease_ended.wake()
        said = {"event": "discard", "pool": self.name, "reason": reason.value}
        logger.debug("Discard connection of pool(%s): %s", self.name, reason.value, extra=said)
        if self._settings.on_discard is not None:
            with suppress(Exception):  # a failing hook must not break a return
                self._settings.on_discard(reason.value)

    def _close_locked(self, owner: Lease, slot: Slot, reason: Reason) -> tuple[bool, Wire | None]:
        if slot.holder != id(owner):
            return False, None
        self._counters.discard(reason)
        return True, self._ledger.close(slot, owner, reason)

    def _free_locked(self, slot: Slot) -> list[Waiter]:
        self._ledger.free(slot)
        return self._grant_locked()

    def _expire_generation(self, generation: int) -> bool:
        """Expire the connections of `generation`, unless that has been done: old news expires no newer connection."""
        if not self._lock.step(self._expire_generation_locked, generation):
            return False
        self._connector.learn_anew()
        return True

    def _expire_generation_locked(self, generation: int) -> bool:
        if generation != self._ledger.generation:
            return False
        self._ledger.expire_all(Reason.GENERATION)
        return True

    def _close_idle(self, why: Callable[[Slot], Reason | None]) -> None:
        """Close the idle connections for which `why` returns a reason. At most one is out of circulation at a time."""
        if self._lock.put_off(self._close_idle, why):
            return
        for ready in self._ledger.idle.copy():
            owner = MaintenanceLease()
            slot = self._lock.step(self._ledger.reserve, ready, owner)
            if slot is None:
                continue
            reason = why(slot)
            if reason is not None:
                self._discard(owner, slot, reason, quiet=True)
            else:
                waiter = self._lock.step(self._ledger.give, slot, owner)
                if waiter is not None:
                    waiter.wake()
                elif self._closed:  # meanwhile, and close() has not seen this one
                    self._close_idle(_because_closed)

    def _close_expired(self) -> None:
        now = monotonic()
        self._close_idle(lambda slot: slot.why_expired(now))

    def _look_again(self) -> None:
        """Serve the queue again: while a connection became idle, a caller began to wait, or the pool began to close."""
        self._serve()
        self._close_if_closed()

    def _close_if_closed(self) -> None:
        """Close idle connections that were judged before the pool began to close (Invariant 12)."""
        if self._closed:
            self._close_idle(_because_closed)

    def _begin_to_close_locked(self) -> list[Waiter] | None:
        if self._life.state is PoolState.CLOSED:
            return None
        self._life.state = PoolState.CLOSING
        self._closed = True
        self._ledger.require_lock()
        self._ledger.expire_all(Reason.POOL_CLOSED)
        return self._ledger.fail_all()

    def _end_locked(self) -> None:
        self._life.state = PoolState.CLOSED

    # -- waiters -------------------------------------------------------------------------------------------

    def _grant_locked(self) -> list[Waiter]:
        """Let waiters connect, as many as capacity and back-off allow."""
        woken: list[Waiter] = []
        if not self._ledger.waiters:
            return woken
        now = monotonic()
        while self._backoff.may_connect(self._ledger.count(CONNECTING), now):
            waiter = self._ledger.grant()
            if waiter is None:
                break
            self._backoff.record_attempt(now)
            woken.append(waiter)
        return woken

    def _serve(self) -> None:
        """Give idle connections to the waiters."""
        if not self._lock.put_off(self._serve):
            self._wake(self._lock.step(self._serve_locked))

    def _serve_locked(self) -> list[Waiter]:
        served: list[Waiter] = []
        while (waiter := self._ledger.serve()) is not None:
            served.append(waiter)
        return served

    @staticmethod
    def _wake(waiters: list[Waiter]) -> None:
        for waiter in waiters:
            waiter.wake()
