"""Cuts the sessions that are lent when their server is known to be dead: nothing else ends a statement on it before
`read_timeout`.

Never: takes a connection from its borrower, who returns it as after any other loss.

Invariants that live here: 4 (nothing slow under the lock), 13 (a forked child cuts no session of its parent), 22 (only
sessions that exist at the call are cut).
"""

from __future__ import annotations

from .._driver.wire import Wire
from .core import PoolCore


def cut_lent(core: PoolCore) -> int:
    """End the sessions that are lent at this moment, and return their number. A thread or task that waits for a reply
    gets error 2013 at once."""
    if not core._here[0]:
        core._enter_process()
    wires = core._lock.step(_lent_locked, core)
    for wire in wires:
        wire.cut()
    return len(wires)


def _lent_locked(core: PoolCore) -> list[Wire]:
    return [slot.wire for slot in core._ledger.borrowed() if slot.wire is not None]
