"""`Express`: the endpoints that a decision led to, for the borrows that come soon after it.

A decision takes the cluster's lock; a borrow from an express does not. It is opened when a borrow was served and no
caller of the target waits, and holds for a quarter of a second, or until there is other news.

Owns: how long a decision holds, and which of its endpoints is next. Never: takes the lock, decides which endpoints fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from ..pool import ConnectionPool

SLICE = 0.25  # seconds after which a decision is made again, by callers that wait at an endpoint as well


class Express:
    """An express for one target.

    Attributes:
        until: monotonic time until which it holds.
        only: the pool to borrow from, where there is but one. None: ask `pool`.

    Args:
        pools: those of the endpoints.
        choose: returns the place in `pools` of the endpoint that is next, where there is more than one.
    """

    __slots__ = ("_choose", "_pools", "only", "until")

    def __init__(self, pools: list[ConnectionPool], choose: Callable[[], int]) -> None:
        self.until: float = monotonic() + SLICE
        self._pools = pools
        self.only = pools[0] if len(pools) == 1 else None
        self._choose = choose

    def pool(self) -> ConnectionPool:
        """Return the pool to borrow from."""
        return self.only or self._pools[self._choose()]


class Counted(Protocol):
    """The numbers of a pool's connections: all, and those that are idle."""

    @property
    def connection_num(self) -> int: ...

    @property
    def size(self) -> int: ...


def least_used(hosts: Sequence[tuple[Counted, float]]) -> int:
    """Return the place of the host that `spread` with balance="least-used" puts first. It is asked at each borrow, so
    it sorts nothing, and reads no endpoint.

    Args:
        hosts: the pool of each, and its weight.
    """
    place, first, least = 0, 0, float("inf")
    for pool, weight in hosts:
        usage = (pool.connection_num - pool.size) / weight
        if usage < least:
            first, least = place, usage
        place += 1  # noqa: SIM113 - `enumerate` makes a tuple for each
    return first
