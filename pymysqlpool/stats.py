"""What an operator would ask a pool. Never consulted for a decision.

Gauges are counted from the ledger when asked; counters are added up under the pool's lock. The words follow
OpenTelemetry's `db.client.connection.*` metrics ("in use" is its `used`, `waiting` its `pending_requests`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ._util.lock import Lock, new_lock


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


@dataclass(slots=True)
class Counters:
    """The counters of one pool in one process. Guarded by the pool's lock, but for what `waited` counts."""

    created: int = 0
    reset: int = 0
    timeouts: int = 0
    rejected: int = 0
    connect_errors: int = 0
    leaked: int = 0
    waits: int = 0
    wait_time: float = 0.0
    discarded: dict[str, int] = field(default_factory=dict)

    _waiting: Lock = field(default_factory=new_lock)  # guards the two of `waited`; who was served needs no other lock

    def waited(self, seconds: float) -> None:
        with self._waiting:
            self.waits += 1
            self.wait_time += seconds

    def discard(self, reason: str) -> None:
        self.discarded[reason] = self.discarded.get(reason, 0) + 1

    def discarded_snapshot(self) -> Mapping[str, int]:
        return MappingProxyType(dict(self.discarded))
