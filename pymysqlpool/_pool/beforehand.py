"""Connections made before the first borrow: `pre_create_num`.

Owns: that the calling thread makes them one after the other, and ends at the first failure. Never: exceeds `maxsize`,
lends one.

Invariant that lives here: 5 (slot before socket).
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from .. import failures
from ..errors import PoolUnavailable
from . import diagnostics
from .core import CONNECT_TIMEOUT, PoolCore
from .idle_lease import make_lease
from .lease import Connection
from .slot import IN_USE, Slot
from .waiter import ThreadWaiter, Waiter


def pre_create(core: Any, number: int) -> None:
    """Make `number` connections of the pool `core`.

    Raises:
        PoolUnavailable: the server cannot be reached.
        pymysql.err.MySQLError: it refuses.
    """
    leases = []
    try:
        for _ in range(number):
            lease = make_lease(core)
            leases.append(lease)
            started = monotonic()
            waiter = ThreadWaiter(lease)
            slot = core._lock.step(_reserve_locked, core, lease, waiter)
            if slot is None:
                continue
            try:
                deadline = started + core._connect_args.get("connect_timeout", CONNECT_TIMEOUT)
                core._connect(lease, slot, waiter.arrival, deadline)
            except BaseException as error:
                news = failures.of_connect(error, had=deadline - started)
                core._connect_failed(slot, error, news.server, started)
                if not news.retry:
                    raise
                raise diagnostics.failure(core, PoolUnavailable, waiter, monotonic() - started, error) from error
    finally:
        for lease in leases:
            core._lock.step(_put_back_locked, core, lease)


def _reserve_locked(core: PoolCore, lease: Connection, waiter: Waiter) -> Slot | None:
    core._ledger.arrive(waiter)
    return core._ledger.open(lease, core._ledger.maxsize)


def _put_back_locked(core: PoolCore, lease: Connection) -> None:
    slot = lease._slot
    if slot is not None and slot.holder == id(lease) and slot.state is IN_USE:
        slot.lent = 0
        core._ledger.give(slot, lease)
    lease._slot = None
