"""One borrow, for threads and tasks: wait, connect, check.

`checkout` is a generator that decides, and a small loop drives it and carries out what it yields:

* a `float`: sleep for so many seconds unless woken; answered by whether it was woken;
* `Work(call)`: run it where blocking is allowed; answered by its result;
* `None`: the lease is lent.

The loop for threads is in `pool.py`, the one for tasks in `aio.py`. Both call `withdraw` where the borrow fails.

Owns: the order of events of a borrow that needs more than `first_step.FirstStep`, and its deadlines
(Invariant 14). Never: blocks, or runs a hook or any I/O itself.

Invariants that live here: 2 (order of arrival), 3 (one hand-over), 5 (slot before socket), 14 (one deadline), 19 (no
lock waits for itself).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

from .. import failures, reuse
from .._driver.bounded import call_hook
from .._util import callsite
from .._util.lock import InsideOwnStepError
from .._util.log import logger
from ..errors import GetConnectionFromPoolError, PoolClosed, PoolOverloaded, PoolTimeout, PoolUnavailable
from ..failures import SILENT, WRONG_ROLE, Server
from ..reuse import Reason
from . import counters, diagnostics, maintenance, observed
from .asking import LONG_ENOUGH, ask, time_for_check
from .attempt import Attempt, has_no_answer
from .checkout_request import CheckoutRequest, Work
from .core import CONNECT_TIMEOUT, PoolCore
from .idle_lease import HAS_GIL
from .lease import Connection, slot_of
from .log_fields import fields
from .slot import CONNECTING, IN_USE, Slot
from .spent_lease import SpentLease
from .waiter import GIVEN, Waiter
from .while_waiting import count_timeout, looks_around, meets_deadlock, sleep_of_one

Failure = type[GetConnectionFromPoolError]


def checkout(
    core: PoolCore, lease: Connection, waiter: Waiter, request: CheckoutRequest
) -> Generator[float | Work | None, Any, None]:
    """Lend a connection to `lease`, whose place in the queue is `waiter`.

    Raises:
        GetConnectionFromPoolError: see `get_connection`.
    """
    waiter.borrower = request.borrower
    waiter.since = request.started
    lock, ledger, mine = core._lock, core._ledger, id(lease)
    waiting_since = 0.0
    in_deadlock = served = connects = False
    failure_seen: BaseException | None = None
    try:
        while True:
            now = monotonic()
            slot = lease._slot
            if slot is None or slot.holder != mine or not served:
                try:
                    slot, failure = lock.step(_next_move_locked, core, lease, waiter, request, now)
                except InsideOwnStepError:
                    slot, failure = _move_inside_a_step(core, lease, request), None
                if failure is not None:
                    if request.refusal is not None:
                        raise failures.said_again(request.refusal) from request.refusal  # the same for every caller
                    cause = core._backoff.error or request.last_error
                    raise diagnostics.failure(core, failure, waiter, now - request.started, cause, request) from cause
            if slot is None:
                if not waiting_since:
                    waiting_since = now - request.queued
                    if ledger.leaked or lock.pending:
                        yield Work(partial(maintenance.reclaim_leaked, core), awaited=False)
                    if ledger.idle:  # became idle while this call queued
                        core._serve()
                if (yield _patience(core, waiter, request, now)):
                    served = waiter.state is GIVEN
                elif looks_around(core, waiter):
                    if maintenance.has_leaked(core):
                        look = partial(maintenance.reclaim_leaked, core, look_for_dead_borrowers=True)
                        yield Work(look, awaited=False)
                    in_deadlock = in_deadlock or meets_deadlock(core, waiter, request)
            elif slot.state is CONNECTING:
                connects = True
                served = yield Work(partial(connect, core, lease, slot, waiter, request))
            elif slot.state is not IN_USE:
                served = False  # close() has cut it off at this moment
            elif _looks_fit(slot, request, now) or (yield Work(partial(is_fit, core, lease, slot, waiter, request))):
                break
            else:
                if slot.holder == mine:  # inside a step, where closing it is put off
                    raise diagnostics.inside_a_step(core, callsite.resolve(request.place, request.offset))
                served = False
                waiter.may_grow = True  # it replaces a connection that was there
    except BaseException as error:
        failure_seen = error
        raise
    finally:
        if request.call is not None:
            request.call.waited |= bool(waiting_since)
            request.call.connected |= connects
        elif waiting_since or connects:
            if waiting_since:
                core._counters.waited(monotonic() - waiting_since)
            if observed.observer is not None:
                observed.observer(core, request.started, connects, request.what_ended_it(failure_seen))
    own, wire = core._settings, slot.wire
    if wire is None:
        raise diagnostics.failure(core, PoolClosed, waiter, now - request.started, None)  # cut off at this moment
    slot.place = request.place
    slot.offset = request.offset
    slot.since = now
    slot.borrower = slot.user = request.borrower
    if own.max_uses is not None and slot.lent >= own.max_uses:
        slot.expire(Reason.WORN)
    if not HAS_GIL and isinstance(lease, SpentLease):
        lease.put_on(wire)
    if core._verbose:
        logger.debug("Get connection from pool(%s)", core.name, extra=fields(core, "borrow"))
    if (own.background or own.keepalive is not None) and core._life.maintenance is None:
        maintenance.start_thread(core)
    if own.on_checkout is not None:
        until = max(request.deadline, now + LONG_ENOUGH)
        yield Work(partial(call_hook, own.on_checkout, lease, wire, until), wire.cut)
    yield None


# -- what the caller may do now ------------------------------------------------------------------------------


def _move_inside_a_step(core: PoolCore, lease: Connection, request: CheckoutRequest) -> Slot:
    """Borrow for a finalizer, signal handler or hook that runs inside a step of its own thread: it can pop an idle
    connection, and nothing else."""
    slot = slot_of(lease) or (None if core._closed else core._ledger.take(lease))
    if slot is None:
        raise diagnostics.inside_a_step(core, callsite.resolve(request.place, request.offset))
    return slot


def _next_move_locked(
    core: PoolCore, lease: Connection, waiter: Waiter, request: CheckoutRequest, now: float
) -> tuple[Slot | None, Failure | None]:
    slot = lease._slot
    if slot is not None and slot.holder == id(lease):
        return slot, None
    ledger, backoff = core._ledger, core._backoff
    if not waiter.arrival:
        ledger.arrive(waiter)
    if core._closed:
        return None, PoolClosed
    slot = ledger.take(lease)
    if slot is not None:
        return slot, None
    if now >= request.grow_at:
        waiter.may_grow = True
    limit = ledger.maxsize if waiter.may_grow else ledger.size
    if ledger.total < limit or backoff.failing:
        if backoff.failing and ledger.total == 0 and backoff.refuses_us(now):
            return None, _unavailable_locked(core, request)
        if now < request.deadline and backoff.may_connect(ledger.count(CONNECTING), now):
            slot = ledger.open(lease, limit)
            if slot is not None:
                ledger.withdraw(waiter)
                backoff.record_attempt(now)
                return slot, None
        elif core._settings.fail_fast and backoff.is_down(ledger.total - ledger.count(CONNECTING)):
            return None, _unavailable_locked(core, request)
    if now >= request.give_up_at:
        is_told = backoff.error is not None or request.last_error is not None
        lent = ledger.total >= ledger.maxsize and ledger.count(IN_USE)
        if lent or not (is_told or has_no_answer(core, now)):
            count_timeout(core, request)
            return None, PoolTimeout
        return None, _unavailable_locked(core, request)
    if waiter.arrival not in ledger.waiters:
        most = core._settings.max_waiting
        if most is not None and len(ledger.waiters) >= most:
            core._counters.add(counters.REJECTED)
            return None, PoolOverloaded
        ledger.enqueue(waiter)
    return None, None


def _unavailable_locked(core: PoolCore, request: CheckoutRequest) -> Failure:
    if core._backoff.says is Server.REFUSES_US:
        request.refusal = core._backoff.error
    return PoolUnavailable


def _patience(core: PoolCore, waiter: Waiter, request: CheckoutRequest, now: float) -> float:
    """Return after how many seconds a waiter that is not woken should look again."""
    if now >= request.next_retry:
        request.next_retry = now + request.retry_interval
        logger.debug("Retry to get connection from pool(%s)", core.name, extra=fields(core, "wait"))
    look = now + sleep_of_one(core)
    if request.give_up_at < look:
        look = request.give_up_at
    if request.grow_at < look and not waiter.may_grow:
        look = request.grow_at
    if request.next_retry < look:
        look = request.next_retry
    backoff = core._backoff
    if backoff.failing and backoff.next_attempt < look:
        look = backoff.next_attempt
    return look - now


# -- what may block ------------------------------------------------------------------------------------------


def connect(core: PoolCore, lease: Connection, slot: Slot, waiter: Waiter, request: CheckoutRequest) -> bool:
    """Make the connection for the slot that `lease` has reserved. False where it failed and waiting may help."""
    attempt = Attempt(core, slot)
    try:
        core._connect(lease, slot, waiter.arrival, request.deadline, attempt.is_overtaken)
    except BaseException as error:
        longest = core._connect_args.get("connect_timeout", CONNECT_TIMEOUT)
        had = 0.0 if attempt.given_up else min(request.deadline - attempt.began, longest)
        news = failures.of_connect(error, had=had)
        if slot.holder == id(lease) and slot.state is CONNECTING:
            core._connect_failed(slot, error, news.server, attempt.began)
        request.last_error = error
        if not news.retry:
            raise
        return False
    return True


def _looks_fit(slot: Slot, request: CheckoutRequest, now: float) -> bool:
    """Return whether it can be lent without a further check."""
    wire = slot.wire
    return bool(
        now < slot.expires_at
        and now - slot.role_known <= request.asks_role_after
        and wire is not None  # else close() has cut it off at this moment
        and not (request.pre_ping and request.wants_ping(now - slot.since))
        and not wire.exchange.locked()
        and (now < slot.fresh_until or not wire.readable(0))
    )


def is_fit(core: PoolCore, lease: Connection, slot: Slot, waiter: Waiter, request: CheckoutRequest) -> bool:
    """Return whether the connection in `slot` can be lent; if not, it is discarded.

    Raises:
        PoolTimeout: no time is left for the check. The connection is kept.
    """
    now = monotonic()
    wire = slot.wire
    if wire is None or core._lock.is_taken_here():
        return False  # close() has cut it off; or this is no place for I/O, and the next borrower finds it out
    expired = slot.why_expired(now)
    dead = expired is None and bool(wire.exchange.locked() or (now >= slot.fresh_until and wire.readable(0)))
    wrong_role = silent = False
    if expired is None and not dead:
        asks_role = now - slot.role_known > request.asks_role_after
        if asks_role or slot.doubted or (request.pre_ping and request.wants_ping(now - slot.since)):
            until = time_for_check(core, now, request.deadline, request.checks_until)
            if until <= now:
                count_timeout(core, request)
                raise diagnostics.failure(core, PoolTimeout, waiter, now - request.started, None, request)
            answer = ask(core, wire, until, asks_role)
            dead, wrong_role = answer is not None, answer is WRONG_ROLE
            # the failure of a very short timeout says nothing about other connections
            silent = answer is SILENT and until - now >= LONG_ENOUGH
            if not dead:
                slot.trust()
                slot.role_known = now if asks_role else slot.role_known
    reason = reuse.unfit(expired, dead=dead, wrong_role=wrong_role)
    if reason is None:
        return True
    idle_since = slot.since
    generation = slot.generation
    if wrong_role:
        core._tell_of_refusal()
    core._discard(lease, slot, reason)
    if wrong_role:
        core._expire_generation(generation)
        core._close_expired()
    elif silent:  # a NAT or load balancer has dropped its flow, and probably those that have been idle for longer
        core._close_idle(lambda other: reuse.unfit(None, dead=other.since <= idle_since))
    elif dead:
        core._lock.step(core._ledger.doubt_idle)
        core._close_idle(lambda other: reuse.unfit(None, dead=bool(other.wire.readable(0))))
    return False


# -- a borrow that ends without a lease ----------------------------------------------------------------------


def withdraw(core: PoolCore, lease: Connection, waiter: Waiter) -> None:
    """End the call without a lease: a slot that it owns goes to the next waiter."""
    if core._lock.put_off(withdraw, core, lease, waiter):
        return
    broken, woken = core._lock.step(_withdraw_locked, core, lease, waiter)
    if broken is not None:
        core._discard(lease, broken, Reason.INTERRUPTED)
    core._wake(woken)


def _withdraw_locked(core: PoolCore, lease: Connection, waiter: Waiter) -> tuple[Slot | None, list[Waiter]]:
    core._ledger.withdraw(waiter)
    slot = slot_of(lease)
    if slot is None:
        return None, []
    if slot.state is CONNECTING:
        return None, core._free_locked(slot)
    if slot.wire.exchange.locked() or lease.is_used:
        return slot, []
    with suppress(AttributeError):
        del lease._claim
    following = core._ledger.give(slot, lease)
    return None, [following] if following is not None else []
