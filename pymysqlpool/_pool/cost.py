"""What a lease cost the request it was borrowed for: waiting, holding, statements.

Owns: the numbers for logs and for `Server-Timing`, and `Place`, where a scope keeps a lease with them. Never: borrows,
returns, or keeps a lease after its return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from .._util.lock import new_lock
from .._util.log import logger
from .lease import Connection


@dataclass(slots=True, init=False)
class Use:
    """What one lease cost the request: for logs and Server-Timing. Times are seconds."""

    pool: str
    place: str  # where it was borrowed; empty unless the scope is watched
    waited: float  # until the pool lent it
    since: float  # monotonic
    connection: Connection | None  # until its return
    held: float  # known after its return
    queries: int  # known after its return
    _before: int  # statements sent before this lease

    def __init__(self, pool: str, place: str, waited: float, since: float, connection: Connection) -> None:
        self.pool = pool
        self.place = place
        self.waited = waited
        self.since = since
        self.connection = connection
        self.held = 0.0
        self.queries = 0
        self._before = connection.sent

    def so_far(self, now: float) -> tuple[float, int]:
        """Seconds held, and statements sent."""
        if self.connection is None:
            return self.held, self.queries
        return now - self.since, max(0, self.connection.sent - self._before)

    def end(self) -> None:
        """The lease is about to be returned."""
        connection = self.connection
        if connection is not None:
            self.held = monotonic() - self.since
            self.queries = max(0, connection.sent - self._before)
            self.connection = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Which waits and holds to log; seconds, None for none."""

    slow_wait: float | None = None
    long_hold: float | None = None

    def __bool__(self) -> bool:
        return self.slow_wait is not None or self.long_hold is not None

    def report(self, use: Use, label: str) -> None:
        """Log what was slow or long about `use`, of the request `label`."""
        if self.slow_wait is not None and use.waited >= self.slow_wait:
            logger.warning(
                "%s waited %.3f s for a connection of pool(%s) at %s",
                label,
                use.waited,
                use.pool,
                use.place,
                extra={"event": "slow wait", "pool": use.pool, "seconds": use.waited, "place": use.place},
            )
        if self.long_hold is not None and use.held >= self.long_hold:
            logger.warning(
                "%s held a connection of pool(%s) for %.3f s, since %s",
                label,
                use.pool,
                use.held,
                use.place,
                extra={"event": "long hold", "pool": use.pool, "seconds": use.held, "place": use.place},
            )


NO_WATCH = Watch()


class Place:
    """A scope's lease of one pool."""

    __slots__ = ("asked", "connection", "lock", "seen", "use")

    def __init__(self) -> None:
        self.lock = new_lock()  # held while borrowing: threads of one request wait for the same lease
        self.asked = 0.0  # monotonic: the last request for the lease; kept only with `revalidate`; guarded by lock
        self.connection: Connection | None = None  # guarded by lock
        self.seen: Any = None  # the lease, as tasks see it, where it is used by tasks
        self.use: Use | None = None  # guarded by lock


def server_timing(uses: Sequence[Use]) -> str:
    """The value of a `Server-Timing` header: how long a request waited and held, in milliseconds, and how many
    statements it sent; or ''."""
    if not uses:
        return ""
    now = monotonic()
    waited = sum(use.waited for use in uses)
    held, queries = (sum(numbers) for numbers in zip(*(use.so_far(now) for use in uses), strict=True))
    said = "1 query" if queries == 1 else f"{queries} queries"
    return f'dbwait;dur={waited * 1000:.1f}, db;dur={held * 1000:.1f};desc="{said}"'
