"""The parts of a borrow and of a return that an event loop runs itself, because they never block.

Owns: these shortcuts. Never: judges a connection. One that does not look fit is left to `checkout`, a changed one to
`checkin`.

Invariant that lives here: 2 (a newcomer never overtakes: only while the ledger needs no lock).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from .._driver.exchange import is_between_commands
from . import maintenance
from .core import INTERVAL, PoolCore
from .first_step import AT_ONCE, FirstStep, NotLent
from .idle_lease import UnusedLease
from .lease import Connection, slot_of
from .waiter import Waiter

if TYPE_CHECKING:
    from .checkin import Cleaner


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


def waiting(core: PoolCore) -> list[Waiter]:
    """The callers in the queue, in order of arrival."""
    return list(core._ledger.waiters.values())


NOTHING, A_CLEANING, A_THREAD, A_CUT = "nothing", "a cleaning", "a thread", "a cut"


def return_takes(core: PoolCore, lease: Connection) -> str:
    """What the return of `lease` takes: nothing that waits; a cleaning that `clean_by` may do; a cut, because it is in
    the middle of an exchange; or a thread, which closes the connection or calls a hook."""
    slot = slot_of(lease)
    if slot is None:
        return NOTHING  # it was taken back already
    wire, attributes = slot.wire, lease.__dict__
    if type(lease) is UnusedLease and wire is not None:
        is_kept = monotonic() < slot.expires_at and core._ledger.allows_lock_free
        return NOTHING if is_kept else A_THREAD
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
