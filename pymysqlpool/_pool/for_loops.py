"""The parts of a borrow and of a return that an event loop runs itself, because they never block.

Owns: these shortcuts. Never: judges a connection. One that does not look fit is left to `checkout`, a changed one to
`checkin`.

Invariants that live here: 2 (a newcomer never overtakes: only while the ledger needs no lock), 3 (one hand-over).
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import Any

from .._driver.exchange import is_between_commands
from .._util.lock import InsideOwnStepError
from ..stats import BOUNDS
from . import maintenance, observed
from .checkin import Cleaner
from .core import INTERVAL, PoolCore
from .counters import QUICK, TOTAL
from .idle_lease import AT_ONCE, FirstStep, NotLent
from .lease import Connection, slot_of
from .slot import IN_USE
from .waiter import GIVEN, Waiter
from .while_waiting import LOOK_AROUND

# Seconds that the server's last reply vouches for a connection that goes from one task to the next: such a hand-over
# takes a turn of the loop.
_HANDING_OVER = 0.001


def lend_idle(core: PoolCore, borrower: Any, place: Any, offset: int) -> tuple[Connection | None, bool]:
    """A lease of an idle connection on behalf of `borrower` (as in `Slot.user`), and whether it is lent: else it is in
    hand, and `checkout` has to see whether it is fit. None where there is none to be had at once. `place`, `offset`:
    the code that asked, as in `Slot.place`."""
    if not core._ledger.lock_free and core._here[0]:
        return None, False
    lease: Any = FirstStep.get_connection(core, AT_ONCE)
    if type(lease) is NotLent:
        return lease.lease, False
    slot = lease._slot
    slot.borrower = slot.user = borrower
    slot.place = place
    slot.offset = offset
    return lease, True


def queue_up(core: PoolCore, waiter: Waiter, timeout: float | None) -> float | None:
    """Join the queue, where a wait for a connection to come back is all that can be done: returns for how many seconds
    the caller is to wait, within its `timeout`. None: `checkout` knows what else there is to do, or to tell."""
    if not core._waits_plainly or core._verbose or core._ledger.leaked:
        return None
    if observed.observer is not None or observed.call.get() is not None:
        return None
    try:
        if not core._lock.step(_queue_up_locked, core, waiter):
            return None
    except InsideOwnStepError:
        return None
    if timeout is None:
        timeout = core._settings.timeout
    if timeout is None or timeout > LOOK_AROUND:
        return LOOK_AROUND
    return timeout if timeout > 0.0 else 0.0


def _queue_up_locked(core: PoolCore, waiter: Waiter) -> bool:
    ledger = core._ledger
    if core._closed or core._backoff.failing or ledger.idle or ledger.total < ledger.maxsize:
        return False
    ledger.join(waiter)
    return True


def lend_given(core: PoolCore, lease: Connection, waiter: Waiter, place: Any, offset: int) -> bool:
    """The connection that was handed over to the caller, which was sent to the queue by `queue_up`, is lent; False
    where there is none, or it does not look fit: then `checkout` goes on."""
    slot = lease._slot
    if slot is None or slot.holder != id(lease) or waiter.state is not GIVEN or slot.state is not IN_USE:
        return False
    now, wire = monotonic(), slot.wire
    if wire is None or now >= slot.expires_at or wire.exchange.locked():
        return False
    if now - slot.role_known > core._asks_role_after or (now >= slot.fresh_until + _HANDING_OVER and wire.readable(0)):
        return False
    # As `Counters.waited`, without its lock: with a GIL no other thread runs between reading a number and adding to it.
    waited = now - waiter.since
    bucket = 0 if waited <= QUICK else bisect_left(BOUNDS, waited)
    wait = core._counters.wait
    wait[bucket] += 1
    wait[TOTAL] += waited
    slot.since = now
    slot.borrower = slot.user = waiter.borrower
    slot.place = place
    slot.offset = offset
    return True


NOTHING, A_CLEANING, A_THREAD, A_CUT = "nothing", "a cleaning", "a thread", "a cut"


def return_takes(core: PoolCore, lease: Connection) -> str:
    """What the return of `lease` takes: nothing that waits; a cleaning that `clean_by` may do; a cut, because it is in
    the middle of an exchange; or a thread, which closes the connection or calls a hook."""
    slot = slot_of(lease)
    if slot is None:
        return NOTHING  # it was taken back already
    wire, attributes = slot.wire, lease.__dict__
    if wire is None or "_live" not in attributes:
        return A_THREAD if is_between_commands(lease) else A_CUT
    marks: int = wire.marks_left(attributes)
    if marks and not is_between_commands(lease):
        return A_CUT
    own = core._settings
    if monotonic() >= slot.expires_at or not (core._ledger.allows_lock_free or own.reset == "always"):
        return A_THREAD
    if not marks and core._ledger.allows_lock_free:
        return NOTHING
    recipe = core._connector.recipe
    if own.on_checkin is None and own.on_discard is None and recipe is not None and recipe.renews_by_commands:
        return A_CLEANING
    return A_THREAD


def clean_by(cleaner: Cleaner, lease: Connection) -> None:
    """The next return of `lease` has `cleaner` clean its session, if it is in the thread of the cleaner's loop."""
    lease.__dict__["_cleaner"] = cleaner


# Seconds. A return does maintenance that is due, so on a loop it is done before it is due.
_SOON = 0.1


def maintenance_due(core: PoolCore) -> bool:
    """Return whether maintenance is due: then the caller is to call `run_maintenance`."""
    now = monotonic()
    if core._life.maintenance is not None or now < core._tend_at - _SOON:
        return False
    core._tend_at = now + INTERVAL
    return True


def run_maintenance(core: PoolCore) -> None:
    """Do the maintenance of idle connections. Called in a thread."""
    maintenance.run_once(core)
