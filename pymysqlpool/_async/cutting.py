"""Interrupting a lease that another thread may be using.

Owns the order of the two steps (expire, then shut down) that keeps an interrupted connection out of the idle list.
Never: closes a socket, returns a lease.
"""

from __future__ import annotations

from .._pool.lease import Connection, slot_of
from ..reuse import Reason


def expire(lease: Connection) -> bool:
    """Mark `lease` so that its return discards it; False if its return has already begun."""
    slot = slot_of(lease)
    if slot is None:
        return False
    slot.expire(Reason.INTERRUPTED)
    return True


def cut(lease: Connection) -> None:
    """Wake the thread that uses `lease` with an error. Does nothing once a return of the lease has begun."""
    slot = slot_of(lease)
    # The order matters: a return that begins after the check finds the lease expired, and so does not keep a connection
    # that is being cut. If it was lent again at this moment, the new lease is replaced at its return.
    if expire(lease) and slot is not None and "_live" in lease.__dict__ and slot.holder == id(lease):
        slot.wire.cut()
