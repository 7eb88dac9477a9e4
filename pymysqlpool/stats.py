"""What an operator would ask a pool. Never consulted for a decision.

Gauges are counted from the ledger when asked, without any lock: a look disturbs and waits for nothing. The words follow
OpenTelemetry's `db.client.connection.*` metrics ("in use" is its `used`, `waiting` its `pending_requests`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The pool's numbers at one instant.

    Gauges: `idle`, `in_use`, `connecting`, `reserved`, `closing` (connections by state), `waiting` (callers in the
    queue), `size` and `maxsize` (as configured). Counters since the pool was made, in this process: `borrowed`,
    `returned`, `created`, `reset` (sessions cleaned on return), `discarded` (reason to number), `timeouts`,
    `rejected` (refused by `max_waiting`), `connect_errors`, `leaked` (leases reclaimed because their borrower was
    gone), `waits` (calls that had to wait) and `wait_time` (seconds they waited, altogether).
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

    @property
    def total(self) -> int:
        """Slots that are not free: every connection, being made, being closed, idle or lent."""
        return self.idle + self.in_use + self.connecting + self.reserved + self.closing
