"""Ending the work of a lease that another thread, or nobody any more, is at.

Never: closes a socket, gives a lease back.
"""

from __future__ import annotations

from .._pool.lease import Connection, slot_of
from ..reuse import Reason


def expire(lease: Connection) -> bool:
    """Have `lease` discarded when it comes home; False when it is on its way already."""
    slot = slot_of(lease)
    if slot is None:
        return False
    slot.expire(Reason.INTERRUPTED)
    return True


def cut(lease: Connection) -> None:
    """Wake the thread that uses `lease` with an error. Nothing, once somebody has begun to give it back."""
    slot = slot_of(lease)
    # In this order: whoever begins to give it back after the question finds it expired, and so does not keep what is
    # being cut. Should it have been lent anew in this very instant, that one is replaced when it comes home.
    if expire(lease) and slot is not None and "_live" in lease.__dict__ and slot.holder == id(lease):
        slot.wire.cut()
