"""Who is served next: callers of one target of a cluster, in order of arrival.

A caller first takes a ticket. It may enter an endpoint's pool when fewer callers are inside than connections can be
had there; the others sleep here, not at an endpoint, so that a host that goes down takes no queue with it. A caller
that must choose again, since its endpoint went down, still has its ticket and goes before those that came later
(Invariant 2).

The queue holds tickets weakly: a caller that was struck at the worst moment, and never left, is out of the queue when
its ticket is gone.

Guarded by the cluster's lock. Never: connects, or knows what an endpoint is.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary


class Ticket:
    """One caller's place."""

    __slots__ = ("__weakref__", "_called", "number")

    def __init__(self) -> None:
        self.number = 0  # in order of arrival; 0: it is in no queue yet
        self._called = threading.Semaphore(0)

    def call(self) -> None:
        self._called.release()

    def wait(self, timeout: float) -> bool:
        """Until called, or for `timeout` seconds; True when called."""
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
        """Whether it is the caller's turn to go into a pool; if so, it is inside from now on.

        Args:
            room: how many callers can be served at this moment; one may always try.
        """
        if ticket.number in self._inside:
            return True
        first = self.first()
        if (first is not None and first is not ticket) or len(self._inside) >= max(1, room):
            return False
        self._inside[ticket.number] = ticket
        self._waiting.pop(ticket.number, None)
        return True

    def leave(self, ticket: Ticket) -> Ticket | None:
        """The caller is served, or gives up. Returns the next one, which is to be called."""
        self._inside.pop(ticket.number, None)
        self._waiting.pop(ticket.number, None)
        return self.first()

    def first(self) -> Ticket | None:
        return next(self._waiting.values(), None)

    def all(self) -> list[Ticket]:
        return list(self._waiting.values())
