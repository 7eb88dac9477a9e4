"""One place in the queue: what became of it, and how its owner is woken.

States, with exactly one transition, under the pool's lock (Invariant 3):

    WAITING -> GIVEN    a slot was put into its lease: a connection, or the right to make one
    WAITING -> FAILED   the pool closed
    WAITING -> GONE     its owner left: timed out, interrupted, cancelled

A waiter owns no lock of the pool's and decides nothing. `wake` may be called from any thread and never blocks.
"""

from __future__ import annotations

import threading
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class WaiterState(Enum):
    WAITING = "waiting"
    GIVEN = "given"
    FAILED = "failed"
    GONE = "gone"


WAITING = WaiterState.WAITING
GIVEN = WaiterState.GIVEN  # set last: a reader that sees it may use what the lease has, without the lock


class Waiter:
    """A caller in the queue, in order of `arrival`. Subclasses implement the waking."""

    __slots__ = ("arrival", "borrower", "lease", "may_grow", "since", "state")

    def __init__(self, lease: Any) -> None:
        self.lease = lease
        self.borrower: Any = None  # the waiting thread or task, as in `Slot.user`; known when it begins to wait
        self.since = 0.0  # monotonic; when it came; known when it begins to wait
        self.arrival = 0  # set by the ledger; smaller is earlier
        self.state = WAITING  # guarded by the pool's lock
        self.may_grow = False  # its patience is over: it may use capacity between size and maxsize

    def wake(self) -> None:
        raise NotImplementedError


class ThreadWaiter(Waiter):
    """A thread (or, monkey-patched, a greenlet) that sleeps on a lock of its own until woken."""

    __slots__ = ("_gate",)

    def __init__(self, lease: Any, borrower: Any = None) -> None:
        # As `Waiter.__init__`, without the call: this runs at every wait.
        self.lease = lease
        self.borrower = borrower
        self.since = 0.0
        self.arrival = 0
        self.state = WAITING
        self.may_grow = False
        self._gate = gate = threading.Lock()
        gate.acquire()

    def wait(self, timeout: float) -> bool:
        """Sleep until woken or for `timeout` seconds; True when woken."""
        return self._gate.acquire(True, timeout if timeout > 0.0 else 0.0)

    def wake(self) -> None:
        try:  # noqa: SIM105 - `suppress` would cost more than the rest
            self._gate.release()
        except RuntimeError:
            pass  # it is awake
