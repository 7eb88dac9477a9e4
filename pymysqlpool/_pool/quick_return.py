"""The usual return on an event loop, in one step: of a lease whose session is as it was lent.

It is `checkin.give_back` for these leases, with the questions of `for_loops.return_takes` before it. A task's return
takes it a third of the calls. Owns: these steps. Never: judges a connection, does I/O, calls a hook.

Invariants that live here: 2 (nothing idle beside a waiter), 6 (only quiet wires become idle), 7 (dead leases stay
dead), 8 (nothing crosses), 9 (a clean return costs no round trip).
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import Any

from .._driver.steps import is_unchanged
from .._util import callsite
from ..stats import BOUNDS
from .counters import QUICK, TOTAL
from .idle_lease import HAS_GIL, UnusedLease
from .lease import Connection
from .spent_lease import SpentLease

# Seconds. A return does maintenance that is due, so on a loop it is left to another kind of return before it is due.
SOON = 0.1


def give_back_unchanged(lease: Connection, place: Any, offset: int) -> bool:
    """Return `lease`, if it left nothing behind. `place`, `offset`: the call site, as in `Slot.place`.

    Returns:
        Whether it was returned. If not, nothing was done.
    """
    if type(lease) is not Connection or not HAS_GIL:
        return isinstance(lease, UnusedLease) and _give_back_unused(lease, place, offset)
    core: Any = lease._pool
    slot = lease._slot
    attributes = lease.__dict__
    if slot is None or core is None or "_live" not in attributes:
        return False
    wire, ledger, mine = slot.wire, core._ledger, id(lease)
    if wire is None or core._settings.track_commits or core._verbose:
        return False
    exchange = wire.exchange
    if not exchange.acquire(False):
        return False
    # With the exchange lock, no thread that has the handle can begin a statement.
    now = monotonic()
    if (
        not is_unchanged(wire, attributes)
        or slot.holder != mine
        or now >= slot.expires_at
        or now >= core._tend_at - SOON
        or not ledger.allows_lock_free
    ):
        exchange.release()
        return False
    lease._returned_code = place
    lease._returned_offset = offset
    lease.__dict__ = {}  # from here on the handle is dead (Invariant 7)
    lease.__class__ = SpentLease
    is_mine = attributes.pop("_live", None) is not None
    exchange.release()
    if not is_mine:
        return True  # another thread returns it at this moment
    held = now - slot.since
    bucket = 0 if held <= QUICK else bisect_left(BOUNDS, held)
    use = core._counters.use
    use[bucket] += 1.0
    use[TOTAL] += held
    slot.since = now
    if ledger.lock_free:
        lease._claim = None  # as `return_clean`, without the call
        UnusedLease.close(lease)
    else:
        lease._code, lease._offset, lease._lasting = slot.place, slot.offset, slot.lasting
        core._give_to_next(lease)
    return True


def _give_back_unused(lease: UnusedLease, place: Any, offset: int) -> bool:
    core: Any = lease._pool
    slot = lease._slot
    if slot is None or slot.holder != id(lease) or core._verbose or not core._ledger.allows_lock_free:
        return False
    now = monotonic()
    if now >= slot.expires_at or now >= core._tend_at - SOON:
        return False
    if core._ledger.lock_free:
        lease.close()
    else:  # as `close` would, which takes this line for the call site
        core._give_back(lease, None, callsite.Spot((place, offset)))
    return True
