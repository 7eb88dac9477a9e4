"""The queue of one target of a cluster: callers are served in order of arrival.

A caller first takes a ticket. It may enter an endpoint's pool while fewer callers are inside than connections are
available there. The others wait here, not at an endpoint, so a host that goes down takes no queue with it. A caller
whose endpoint went down keeps its ticket and is served before later arrivals (Invariant 2).

The queue refers to tickets weakly: a caller that an asynchronous exception interrupted before it could leave is removed
when its ticket is collected.

Guarded by the cluster's lock. Never: connects, knows about endpoints.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary


class Ticket:
    """One caller's place in the queue."""

    __slots__ = ("__weakref__", "_called", "number")

    def __init__(self) -> None:
        self.number: int = 0  # in order of arrival; 0: not queued yet
        self._called = threading.Semaphore(0)

    def call(self) -> None:
        self._called.release()

    def wait(self, timeout: float) -> bool:
        """Wait until called, at most `timeout` seconds; return True if called."""
        return self._called.acquire(timeout=max(0.0, timeout))


class Queue:
    """The callers of one target that have not been served."""

    __slots__ = ("_arrivals", "_inside", "_waiting")

    def __init__(self) -> None:
        self._arrivals = 0
        self._waiting: WeakValueDictionary[int, Ticket] = WeakValueDictionary()  # by arrival
        self._inside: WeakValueDictionary[int, Ticket] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, ticket: Ticket) -> None:
        self._arrivals += 1
        ticket.number = self._arrivals
        self._waiting[ticket.number] = ticket

    def may_enter(self, ticket: Ticket, room: int) -> bool:
        """Return whether it is the caller's turn to enter a pool; if True, the caller counts as inside from now on.

        Args:
            room: the number of callers that can be served at this moment; one caller may always try.
        """
        if ticket.number in self._inside:
            return True
        first = self.first()
        if (first is not None and first is not ticket) or len(self._inside) >= max(1, room):
            return False
        self._inside[ticket.number] = ticket
        self._waiting.pop(ticket.number, None)
        return True

    def beside(self, room: int) -> Ticket | None:
        """Return the next ticket if its caller may enter now, beside those that are inside; the caller must call it."""
        return self.first() if len(self._inside) < room else None

    def leave(self, ticket: Ticket) -> Ticket | None:
        """Remove a caller that was served or has given up; return the next ticket, which the caller must call."""
        self._inside.pop(ticket.number, None)
        self._waiting.pop(ticket.number, None)
        return self.first()

    def first(self) -> Ticket | None:
        return next(self._waiting.values(), None)

    def all(self) -> list[Ticket]:
        return list(self._waiting.values())
