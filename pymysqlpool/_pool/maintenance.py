"""Maintenance: idle connections expire, shrink back to `size`, are kept alive; leaked leases are reclaimed.

It may be done by any thread that returns a connection, at most once a second (`run_once` is cheap when nothing is
due), or by a daemon thread of its own (`MaintenanceThread`): everything works without one, only later
(Invariant 15).

Owns: what is due, and the maintenance thread. Never: touches a connection it has not reserved, holds the pool other
than by a weak reference, starts anything before the first borrow.

Invariants that live here: 11 (capacity cannot leak), 15 (no required threads).
"""

from __future__ import annotations

import threading
import weakref
from time import monotonic

from .._driver.bounded import ping
from .._util import callsite
from .._util.log import logger
from ..reuse import Reason, unfit
from . import counters, observed
from .asking import LONG_ENOUGH, time_for_check
from .core import INTERVAL, NEVER, PoolCore
from .life import PoolState
from .log_fields import fields
from .slot import IN_USE, MaintenanceLease, Slot
from .waiter import ThreadWaiter

_LONGEST_END = 2.0  # seconds that close() waits for the thread; only a hook can take longer
_MOMENT = 0.05  # seconds


def has_leaked(core: PoolCore) -> bool:
    """Return whether `reclaim_leaked` has work to do, dead borrowers included."""
    return bool(core._lock.pending or core._lock.step(core._ledger.leaked_slots, True))


def reclaim_leaked(core: PoolCore, look_for_dead_borrowers: bool = False) -> None:
    """Reclaim the leases that were dropped, and those of threads that have ended (Invariant 11)."""
    if core._lock.put_off(reclaim_leaked, core, look_for_dead_borrowers):
        return
    core._lock.catch_up(everything=True)
    for owner, slot, was_lent in core._lock.step(_reclaim_locked, core, look_for_dead_borrowers):
        if was_lent:
            core._counters.add(counters.LEAKED)
            logger.warning(
                "A connection of pool(%s) was never given back; it was borrowed at %s and is taken back now",
                core.name,
                callsite.describe_place(callsite.resolve(slot.place, slot.offset)),
                extra=fields(
                    core,
                    "leak",
                    seconds=monotonic() - slot.since,
                    place=callsite.describe_place(callsite.resolve(slot.place, slot.offset)),
                ),
            )
        core._discard(owner, slot, Reason.LEAKED)


def _reclaim_locked(core: PoolCore, look_for_dead_borrowers: bool) -> list[tuple[MaintenanceLease, Slot, bool]]:
    found = []
    for slot in core._ledger.leaked_slots(look_for_dead_borrowers):
        owner = MaintenanceLease()
        found.append((owner, slot, slot.state is IN_USE))
        core._ledger.close(slot, owner, Reason.LEAKED)
    return found


def run_once(core: PoolCore) -> None:
    """Close the idle connections that are too old, dead or surplus. Waits for no server: a borrower may do it."""
    own = core._settings
    now = monotonic()
    longest = own.max_idle
    ledger = core._ledger

    def is_idle_for_too_long(slot: Slot) -> bool:
        return longest is not None and ledger.total > ledger.size and now - slot.since > longest

    def why(slot: Slot) -> Reason | None:
        is_dead = bool(slot.wire.readable(0))
        return unfit(slot.why_expired(now), dead=is_dead, idle_for_too_long=is_idle_for_too_long(slot))

    reclaim_leaked(core)
    core._close_idle(why)
    if observed.after_maintenance is not None:
        observed.after_maintenance()


def _keep_alive(core: PoolCore, before: float) -> None:
    """Ping the connections that have been idle since `before`. In the maintenance thread only: each may take as long as
    a check of a borrower's. One that a caller waits for is given up sooner."""

    def why(slot: Slot) -> Reason | None:
        if slot.since > before:
            return None
        began = monotonic()

        def is_wanted() -> bool:
            return core._closed or (bool(core._ledger.waiters) and monotonic() - began > LONG_ENOUGH)

        try:
            ping(slot.wire, time_for_check(core, began, NEVER, NEVER), is_wanted)
        except Exception:  # noqa: BLE001 - whatever it is, the connection is in no known state
            core._lock.step(core._ledger.doubt_idle)  # the network may have forgotten the others too
            return unfit(None, dead=True)
        slot.since = monotonic()
        slot.trust()
        return None

    core._close_idle(why)


def start_thread(core: PoolCore) -> None:
    """Start the pool's maintenance thread, if it is open and has none."""
    if core._lock.put_off(start_thread, core):
        return
    thread = MaintenanceThread(core)
    if core._lock.step(_employ_locked, core, thread):
        try:
            thread.start()
        except RuntimeError:  # the system has no room for one more: returning threads do it
            core._life.maintenance = None


def _employ_locked(core: PoolCore, thread: MaintenanceThread) -> bool:
    if core._life.maintenance is not None or core._life.state is not PoolState.OPEN:
        return False
    core._life.maintenance = thread
    return True


class MaintenanceThread(threading.Thread):
    """The thread that maintains one pool until the pool is closed or collected."""

    def __init__(self, core: PoolCore) -> None:
        super().__init__(name=f"pymysqlpool {core.name}", daemon=True)
        self._core = weakref.ref(core)
        self._end = ThreadWaiter(None)  # no Event: its lock would wait for itself in a signal handler
        self._is_over = False

    def run(self) -> None:
        try:
            while not self._is_over and not self._end.wait(INTERVAL):
                core = self._core()
                if core is None:
                    return
                run_once(core)
                if core._settings.keepalive is not None:
                    _keep_alive(core, monotonic() - core._settings.keepalive)
                del core
        finally:
            core = self._core()
            if core is not None and core._life.maintenance is self:  # a hook has ended it: the next borrow starts one
                core._life.maintenance = None

    def stop(self) -> None:
        self._is_over = True
        self._end.wake()
        give_up_at = monotonic() + _LONGEST_END
        while self is not threading.current_thread() and self.is_alive() and monotonic() < give_up_at:
            self.join(_MOMENT)  # in short looks: a signal handler may do the same in this thread, inside this one
