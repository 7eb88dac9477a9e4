"""The borrow from a cluster that takes no decision: from the pool to which the last one has led.

A decision takes the cluster's lock. It is opened to later borrows as an `Express` when a borrow was served and no
caller of the target waits, and holds for a quarter of a second, or until there is other news. A borrow by an express is
the first step of that pool. The instant at which this lends the connection is compared with the end of the decision, so
the clock is read once.

Owns: this shortcut, and which of several pools is next. Never: decides which pools fit, blocks, takes a lock.

Invariant that lives here: 2 (a newcomer never overtakes: there is no express while a caller of the target waits).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from .core import NEVER, PoolCore
from .first_step import AT_ONCE, FirstStep
from .for_loops import lend_idle
from .lease import Connection, slot_of

_getframe = sys._getframe


class Express:
    """The pools to which a decision has led.

    Attributes:
        until: monotonic time until which it holds.
        only: the pool to borrow from, where there is but one. None: ask `pool`.
        first: where the least used pool is next, the one that is while nothing of it is lent. None: ask `pool`.

    Args:
        pools: those of the endpoints, in order of preference.
        weights: their shares, where the least used one is next.
        choose: returns the place in `pools` of the one that is next, where `weights` is None.
    """

    __slots__ = ("_choose", "_hosts", "_pools", "first", "only", "until")

    def __init__(
        self, until: float, pools: Sequence[PoolCore], weights: Sequence[float] | None, choose: Callable[[], int]
    ) -> None:
        self.until: float = until
        self.only: PoolCore | None = pools[0] if len(pools) == 1 else None
        self.first: PoolCore | None = pools[0] if weights is not None else None
        self._pools = pools
        self._hosts = list(zip(pools, weights, strict=True)) if weights is not None else []
        self._choose = choose

    def pool(self) -> Any:
        """Return the pool to borrow from, a `ConnectionPool`. It is asked at each borrow, so it sorts nothing."""
        if not self._hosts:
            return self.only or self._pools[self._choose()]
        best, least = self.first, NEVER
        for pool, weight in self._hosts:
            ledger = pool._ledger
            lent = len(ledger._living) - len(ledger.idle)
            if lent <= 0:
                return pool  # none is less used
            if lent / weight < least:
                best, least = pool, lent / weight
        return best


class Line:
    """The express of one target, for all that borrow from it.

    Attributes:
        express: None while the next borrow has to decide. Changed with the cluster's lock held, read without.
    """

    __slots__ = ("express",)

    def __init__(self) -> None:
        self.express: Express | None = None


def lend_to_task(express: Express, borrower: Any, place: Any, offset: int) -> tuple[Any, Connection] | None:
    """The pool and a lease of it, as `ClusterStep.get_connection` borrows, on behalf of `borrower`; see `lend_idle`."""
    pool: Any = express.only or express.pool()
    lease, is_lent = lend_idle(pool, borrower, place, offset)
    if is_lent:
        slot: Any = lease._slot  # type: ignore[union-attr]
        if slot.since < express.until:
            return pool, lease  # type: ignore[return-value]
    if lease is not None:
        _put_back(lease)
    return None


def _put_back(lease: Connection) -> None:
    """Give back what a borrow `AT_ONCE` got or had in hand: the caller borrows in another way, so it does not count as
    lent."""
    slot = slot_of(lease)
    if slot is not None:
        slot.lent -= 1
    lease.close()


class ClusterStep:
    """The `get_connection` of a cluster's target. What it costs more than a pool's is bounded by a test of calls."""

    _line: Line
    _borrow_by_decision: Callable[..., Connection]

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
        after: str | None = None,
    ) -> Connection:
        """Borrow a connection to a server that fits the target.

        Args:
            after: the `commit_token` of a connection of this cluster. The server that is lent has that commit: a
                replica is waited for, 0.1 s at most, and then the primary is lent. In a Galera cluster the node waits
                until it has what the others have committed. None: any server of the target.
            retry_num, retry_interval: without a `timeout`, their product plus 10 s for a connect bounds the call.
            pre_ping, timeout: as in `ConnectionPool.get_connection`.

        Raises:
            AmbiguousPrimary: more than one server claims to take writes.
            PoolTimeout, PoolUnavailable, PoolClosed: as in `ConnectionPool.get_connection`.
        """
        express = self._line.express
        if express is not None and not pre_ping and after is None:
            pool = express.only
            if pool is None:
                pool = express.first
                if pool is None or len((ledger := pool._ledger).idle) != len(ledger._living):
                    pool = express.pool()
            found: Any = FirstStep.get_connection(pool, AT_ONCE)
            slot = found._slot
            if slot is not None:
                if slot.since < express.until:
                    frame = _getframe(1)
                    slot.place = frame.f_code
                    slot.offset = frame.f_lasti
                    return found  # type: ignore[no-any-return]
                _put_back(found)  # it was not asked for: the decision does not hold any more
            elif found.lease is not None:
                _put_back(found.lease)  # it may not be usable, which the slow path finds out
        return self._borrow_by_decision(retry_num, retry_interval, pre_ping, timeout, after)
