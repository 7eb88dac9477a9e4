"""Who is served next: callers of one target of a cluster, in order of arrival.

A caller first takes a ticket. It may enter an endpoint's pool when fewer callers are inside than connections can be
had there; the others sleep here, not at an endpoint, so that a host that goes down takes no queue with it. A caller
that must choose again, since its endpoint went down, still has its ticket and goes before those that came later
(Invariant 2).

Guarded by the cluster's lock. Never: connects, or knows what an endpoint is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict


class Ticket:
    """One caller's place."""

    __slots__ = ("_called", "number")

    def __init__(self, number: int) -> None:
        self.number = number
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
        self._waiting: OrderedDict[int, Ticket] = OrderedDict()  # by arrival
        self._inside: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self) -> Ticket:
        self._arrivals += 1
        ticket = Ticket(self._arrivals)
        self._waiting[ticket.number] = ticket
        return ticket

    def may_enter(self, ticket: Ticket, room: int) -> bool:
        """Whether it is the caller's turn to go into a pool; if so, it is inside from now on.

        Args:
            room: how many callers can be served at this moment; one may always try.
        """
        if ticket.number in self._inside:
            return True
        first = next(iter(self._waiting.values()), ticket)
        if first is not ticket or len(self._inside) >= max(1, room):
            return False
        self._inside.add(ticket.number)
        self._waiting.pop(ticket.number, None)
        return True

    def leave(self, ticket: Ticket) -> Ticket | None:
        """The caller is served, or gives up. Returns the next one, which is to be called."""
        self._inside.discard(ticket.number)
        self._waiting.pop(ticket.number, None)
        return self.first()

    def first(self) -> Ticket | None:
        return next(iter(self._waiting.values()), None)

    def all(self) -> list[Ticket]:
        return list(self._waiting.values())
