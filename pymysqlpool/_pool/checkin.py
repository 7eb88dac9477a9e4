"""The return of a connection: its facts, its verdict, its cleaning, its next owner.

Owns: the order of events of a return. The usual returns take shortcuts; each asks one number, `slot.expires_at`, and
the marks that the session left. Never: decides (`reuse.py` does), or waits for other connections.

Invariants that live here: 6 (only quiet wires become idle), 7 (dead leases stay dead), 8 (nothing crosses), 9 (a clean
return costs no round trip, a dirty one never blocks without a bound), 10 (never drain), 12 (closed is closed).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from types import FrameType

from .. import reuse
from .._util import callsite, late
from .._util.log import DEBUG, logger
from ..errors import ReturnConnectionToPoolError
from ..reuse import Facts, Reason, Verdict
from .core import INTERVAL, PoolCore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bisect import bisect_left
    from typing import Any, Protocol

    from .._driver import reset
    from .._driver.cleanup import Cleanup
    from .._driver.commits import kept_after_the_end
    from .._driver.lasting import lasting
    from .._driver.statements import READ_ONLY, STATE, TRANSACTION, WROTE
    from .._driver.wire import Wire, abandon
    from .._util.lock import InsideOwnStepError
    from ..stats import BOUNDS
    from . import counters, maintenance
    from .counters import QUICK, TOTAL
    from .idle_lease import HAS_GIL, UnusedLease, return_clean
    from .lease import Connection, slot_of
    from .log_fields import fields
    from .slot import Slot
    from .spent_lease import SpentLease
    from .waiter import Waiter

    class Cleaner(Protocol):
        """Cleans a session without blocking, for a return on an event loop; see `for_loops.clean_by`."""

        def is_here(self) -> bool:
            """Whether its loop runs in this thread."""

        def at_work(self) -> object | None:
            """As `Slot.user`: not None as long as it may go on."""

        def begin(self, exchanges: reset.Exchanges, ended: Callable[[BaseException | None], None]) -> None:
            """Carry out the `exchanges`, then call `ended`, with the error if they failed."""


else:
    late.names(globals(), "pymysqlpool._driver", "commits:kept_after_the_end", "cleanup:Cleanup", "reset")
    late.names(globals(), "pymysqlpool._driver", "lasting:lasting", "wire:abandon")
    late.names(globals(), "pymysqlpool._driver", "statements:READ_ONLY,STATE,TRANSACTION,WROTE")
    late.names(globals(), "pymysqlpool._util", "lock:InsideOwnStepError")
    late.names(
        globals(), "pymysqlpool._pool", "counters", "counters:BOUNDS,QUICK,TOTAL,bisect_left", "log_fields:fields"
    )
    late.names(globals(), "pymysqlpool._pool", "idle_lease:HAS_GIL,UnusedLease,return_clean", "lease:slot_of")
    late.names(globals(), "pymysqlpool._pool", "maintenance", "spent_lease:SpentLease")

_MOST_PLACES = 1000  # that are remembered, so that each is reported once
_A_MOMENT = 0.1  # seconds; a loop does no maintenance, and the next return sees to it


def give_back(
    core: PoolCore, lease: Connection, exception: BaseException | None, frame: FrameType | callsite.Spot
) -> None:
    """Return `lease` for its borrower, after `exception` where one is known."""
    slot = lease._slot
    attributes = lease.detach_session()
    assert slot is not None
    # From here on the handle is dead: its attributes are taken out in one step (Invariant 7).
    lease._returned_code = callsite.stack() if core._records_stacks else frame.f_code
    lease._returned_offset = frame.f_lasti
    lease.__dict__ = kept_after_the_end(attributes) if core._settings.track_commits else {}
    if HAS_GIL:
        lease.__class__ = SpentLease
    now = monotonic()
    held = now - slot.since
    bucket = 0 if held <= QUICK else bisect_left(BOUNDS, held)
    use = core._counters.use
    use[bucket] += 1.0
    use[TOTAL] += held
    marks = STATE
    wire = slot.wire  # before the ownership check: the wire is present as long as the lease owns the slot
    if exception is None and core._ledger.allows_lock_free and slot.holder == id(lease) and slot.expires_at > now:
        marks = wire.marks_left(attributes)
    # Without marks, or with those of a transaction alone, which most returns are, the verdict is known.
    if not marks and core._ledger.lock_free:
        slot.since = now
        lease._claim = None  # as `return_clean`, without the call
        UnusedLease.close(lease)
        return
    lease._code, lease._offset, lease._lasting = slot.place, slot.offset, slot.lasting
    if not marks:
        slot.since = now
        give_to_next(core, lease)
        return
    if core._lock.locked() and core._lock.put_off(_check_in, core, lease, slot, attributes, exception):
        return  # a finalizer or a signal handler inside a step: no I/O there
    elif marks & ~(WROTE | READ_ONLY) == TRANSACTION and core._here[0]:
        if marks & WROTE:
            _tell_of_lost_changes(core, lease, is_explained=exception is not None)
        is_fit = _clean(core, lease, slot, attributes, Cleanup.ROLLBACK)
    else:
        is_fit = _judge(core, lease, slot, attributes, exception)
    if is_fit:
        slot.since = now
        return_clean(lease)


def _check_in(
    core: PoolCore, lease: Connection, slot: Slot, attributes: dict[str, Any], exception: BaseException | None
) -> None:
    """Judge a connection, and pass it on if it is kept: a return without any shortcut."""
    if _judge(core, lease, slot, attributes, exception):
        slot.since = monotonic()
        return_clean(lease)


def give_to_next(core: PoolCore, lease: Connection) -> None:
    """Pass on the clean connection of `lease`, which has ended: to the first waiter, else to the idle ones."""
    slot = lease._slot
    assert slot is not None
    try:
        waiter: Waiter | None = core._lock.step(core._ledger.give, slot, lease)
    except InsideOwnStepError:
        core._lock.put_off(give_to_next, core, lease)
        return
    if waiter is not None:
        waiter.wake()
    if core._closed:
        core._close_if_closed()
    if slot.since >= core._tend_at or core._verbose:
        after_return(core, slot.since)


def after_return(core: PoolCore, now: float) -> None:
    """Log, and look after the idle connections when it is time."""
    if now >= core._tend_at:
        core._tend_at = now + INTERVAL
        if core._life.maintenance is None:
            maintenance.run_once(core)
    core._verbose = logger.isEnabledFor(DEBUG)
    if core._verbose:
        logger.debug("Put connection back to pool(%s)", core.name, extra=fields(core, "return"))


# -- the verdict ---------------------------------------------------------------------------------------------


def _judge(
    core: PoolCore, lease: Connection, slot: Slot, attributes: dict[str, Any], exception: BaseException | None
) -> bool:
    """Judge a returned connection, and clean it if it is kept. False when it was discarded."""
    if not core._here[0]:
        core._enter_process()
    wire: Wire = slot.wire
    if slot.holder != id(lease):
        lease._slot = None  # taken back meanwhile: forked, reclaimed, or cut off by close()
        return False
    left = wire.facts(attributes)
    if left.reconnected:
        lease._lasting = lasting(attributes, {})
    recipe = core._connector.recipe
    assert recipe is not None  # there is a connection, so there was a first one
    cleanup = reset.needed(attributes, recipe, core._settings.reset)
    facts = Facts(
        exception=exception if exception is not None else left.error,
        quiet=left.quiet,
        open=left.open,
        reconnected=left.reconnected,
        expired=slot.why_expired(monotonic()),
        cleanup=cleanup,
        said_read_only=recipe.says_read_only or reset.may_be_read_only(attributes),
        just_renewed=slot.generation == core._ledger.generation and not core._backoff.may_renew(monotonic()),
    )
    try:
        decision = reuse.judge(facts, core._policy)
    except BaseException:  # the error is its author's to see; the slot must not be lost with it
        abandon(attributes, wire)
        core._discard(lease, slot, Reason.RESET_FAILED, left.quiet)
        raise
    if reset.has_uncommitted_changes(attributes):
        _tell_of_lost_changes(core, lease, is_explained=exception is not None or not left.open)
    if decision.reason is Reason.READ_ONLY:
        core._tell_of_refusal()
    if decision.expire_generation and core._expire_generation(slot.generation):
        core._lock.step(core._backoff.record_renewal, monotonic())
        core._close_expired()
    if decision.ask_siblings:
        core._lock.step(core._ledger.doubt_idle)
    if decision.verdict is Verdict.DISCARD:
        abandon(attributes, wire)
        core._discard(lease, slot, decision.reason or Reason.LOST, left.quiet)
        return False
    wire.exchange.release()
    return _clean(core, lease, slot, attributes, cleanup)


def _tell_of_lost_changes(core: PoolCore, lease: Connection, *, is_explained: bool) -> None:
    """Warn about changes that are rolled back, once for each call site that returns without an error, or the loss of
    the session, to explain it."""
    place = lease._returned_code, lease._returned_offset
    told = lease._code, lease._offset, *place  # the borrow as well: a scope returns at one place for all its users
    if is_explained or told in core._told_places:
        logger.debug("Uncommitted changes are rolled back in pool(%s)", core.name, extra=fields(core, "rollback"))
        return
    if len(core._told_places) < _MOST_PLACES:
        core._told_places.add(told)
    way_out = ", or make the pool with autocommit=True, which was the default of pymysql-pool 0.5.0 and is not here"
    logger.warning(
        "Uncommitted changes are rolled back in pool(%s): the connection was borrowed at %s and given back at %s "
        "without a commit(). Commit before, or use `with pool.get_connection() as connection:`%s",
        core.name,
        callsite.describe_place(callsite.resolve(lease._code, lease._offset)),
        callsite.describe_place(callsite.resolve(*place)),
        "" if core._connect_args.get("autocommit") else way_out,
        extra=fields(core, "rollback", place=callsite.describe_place(callsite.resolve(*place))),
    )


def _clean(core: PoolCore, lease: Connection, slot: Slot, attributes: dict[str, Any], cleanup: Cleanup) -> bool:
    """Undo what `lease` left behind in its session. False when that failed, and the connection was discarded."""
    own, recipe = core._settings, core._connector.recipe
    assert recipe is not None  # there is a connection, so there was a first one
    deadline = monotonic() + own.reset_timeout
    cleaner: Cleaner | None = attributes.get("_cleaner")
    try:
        if cleaner is not None and cleaner.is_here() and cleanup is not Cleanup.NOTHING:
            slot.user = cleaner.at_work  # so that it does not look like the slot of an ended task
            exchanges = reset.exchanges(slot.wire, attributes, cleanup, recipe)
            cleaner.begin(exchanges, partial(_cleaned, core, lease, slot))
            return False
        if own.on_checkin is None:
            reset.clean(slot.wire, attributes, cleanup, recipe, deadline)
        else:
            cleanup = reset.clean_after(own.on_checkin, slot.wire, attributes, recipe, own.reset, deadline)
    except BaseException as error:  # whatever went wrong, the connection is in no known state
        _not_cleaned(core, lease, slot, error)
        if not isinstance(error, Exception):
            raise
        return False
    if cleanup is not Cleanup.NOTHING:
        core._counters.add(counters.RESET)
    slot.in_transaction = False
    return True


def _cleaned(core: PoolCore, lease: Connection, slot: Slot, error: BaseException | None) -> None:
    """A `Cleaner` has done its work, or failed: the end of the return."""
    if error is not None:
        _not_cleaned(core, lease, slot, error)
        return
    core._counters.add(counters.RESET)
    slot.in_transaction = False
    slot.since = now = monotonic()
    core._tend_at = max(core._tend_at, now + _A_MOMENT)
    return_clean(lease)


def _not_cleaned(core: PoolCore, lease: Connection, slot: Slot, error: BaseException) -> None:
    logger.debug(
        "Discard a connection that could not be reset in pool(%s): %s",
        core.name,
        error,
        extra=fields(core, "reset failed", error=type(error).__name__),
    )
    core._discard(lease, slot, Reason.RESET_FAILED)


# -- a connection that leaves --------------------------------------------------------------------------------


def detach(core: PoolCore, lease: Connection) -> None:
    """Let `lease` keep its connection, and free its slot.

    Raises:
        ReturnConnectionToPoolError: it does not own it any more.
    """
    if core._lock.is_taken_here():
        raise ReturnConnectionToPoolError(
            f"detach() was called inside a step of pool({core.name}), by a finalizer or a signal handler; not done"
        )
    lease.marks  # noqa: B018 - the access gives an unused lease its session, and raises for a dead one
    slot = slot_of(lease)
    if slot is None:
        lease._refuse_closed()
    notes = slot.info
    is_mine, woken = core._lock.step(_detach_locked, core, lease, slot)
    if not is_mine:
        lease._refuse_closed()
    if notes is not None:
        lease.__dict__["_session_info"] = notes
    core._wake(woken)
    core._life.a_lease_ended.wake()


def _detach_locked(core: PoolCore, lease: Connection, slot: Slot) -> tuple[bool, list[Waiter]]:
    if slot.holder != id(lease):
        return False, []
    core._counters.discard(Reason.DETACHED)
    lease._slot = None
    lease._pool = None
    return True, core._free_locked(slot)
