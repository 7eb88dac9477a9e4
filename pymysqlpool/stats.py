"""Owns the classes of a pool's numbers, for operators. Never consulted for a decision.

Gauges are counted from the ledger on demand, without any lock: reading them never waits. The names follow
OpenTelemetry's `db.client.connection.*` metrics ("in use" is its `used`, `waiting` its `pending_requests`).
"""

from __future__ import annotations

from collections.abc import Mapping

from ._util.record import Record

#: Upper bounds in seconds of a `Histogram`'s buckets, those of the convention for `db.client.operation.duration`.
BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)


class Histogram(Record):
    """A histogram of durations.

    Attributes:
        counts: the number of durations in each bucket, whose upper bounds are `BOUNDS`; the last bucket has no bound.
        sum: the total, in seconds.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    sum: float = 0.0

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(tuple(map(sum, zip(self.counts, other.counts, strict=True))), self.sum + other.sum)


class PoolStats(Record):
    """The pool's numbers at one instant: gauges, and counters of this process since the pool was made.

    Attributes:
        name: the pool's name.
        size: as configured.
        maxsize: as configured.
        idle: connections that can be lent now.
        in_use: connections that are lent.
        connecting: connections that are being made.
        reserved: connections that a step of the pool has, between two states: to check, reset or ping them.
        closing: connections that are being closed.
        waiting: callers in the queue.
        borrowed: connections lent, since the pool was made, as all that follow.
        returned: connections given back.
        created: connects that succeeded.
        reset: sessions cleaned at their return.
        discarded: connections closed, by the value of `Reason`.
        timeouts: calls that got no connection in time.
        rejected: calls refused by `max_waiting`.
        connect_errors: connects that failed.
        leaked: leases that the pool took back because their borrower was gone.
        waits: calls that had to wait.
        wait_time: seconds that these calls waited, all together.
        wait: seconds of the calls that had to wait.
        use: seconds from a borrow to its return, of the leases that sent something.
        create: seconds of the connects that succeeded.
    """

    name: str
    size: int
    maxsize: int
    idle: int
    in_use: int
    connecting: int
    reserved: int
    closing: int
    waiting: int
    borrowed: int
    returned: int
    created: int
    reset: int
    discarded: Mapping[str, int]
    timeouts: int
    rejected: int
    connect_errors: int
    leaked: int
    waits: int
    wait_time: float
    wait: Histogram = Histogram()
    use: Histogram = Histogram()
    create: Histogram = Histogram()

    @property
    def total(self) -> int:
        """Slots that are not free: every connection, being made, being closed, idle or lent."""
        return self.idle + self.in_use + self.connecting + self.reserved + self.closing


class Borrower(Record):
    """A holder of a connection.

    Attributes:
        seconds: how long it has held the connection.
        who: the thread or task, by its name.
        where: file, line and function that borrowed it; with `record_stacks` the whole stack.
        in_transaction: as the last reply's status flags said.
    """

    seconds: float
    who: str
    where: str
    in_transaction: bool


class PoolEvent(Record):
    """A recent event of a pool.

    Attributes:
        at: when, in seconds since 1970.
        kind: "discard", "connect error" or "no connection".
        said: the reason of the discard, the kind and number of the error, or the kind of the refusal and the wait.
    """

    at: float
    kind: str
    said: str
