"""What a failed statement means for the connection and for the transaction it was in.

Owns two rules:

* After the server has rolled a transaction back (at a deadlock, at the loss of the connection, and with some settings
  at a lock wait timeout), the `atomic()` block refuses further statements until it ends, by Django's own means. Else
  the later statements would be committed without the earlier ones.
* A connection that was lost outside of a transaction is given back at once, so that the next statement borrows another.

Never: repeats a statement, or decides what becomes of a connection; the pool does.

Protocol: an error packet has no status flags, so the server is asked with a ping whether the transaction is still open.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import pymysql

from pymysqlpool import PoolError, failures

from .holds import Hold, Holder, Lease, in_transaction, reasons


class Wrapper(Holder, Protocol):
    needs_rollback: bool


def of_failure(wrapper: Wrapper, lease: Lease | None, error: pymysql.Error) -> bool:
    """Apply the rules to `error`, which a statement raised.

    Returns:
        Whether the wrapper should give its connection back now.
    """
    if isinstance(error, PoolError):
        return False  # nothing was sent
    if wrapper.in_atomic_block:
        if not wrapper.needs_rollback and _is_rolled_back(wrapper):
            wrapper.needs_rollback = True
            wrapper.rollback_exc = error  # type: ignore[attr-defined]  # not in the stubs
        return False
    if lease is None or not is_lost(wrapper, error):
        return False
    held = reasons(wrapper, lease) - {Hold.CURSOR, Hold.TRANSACTION}  # those ended with the connection
    if lease.remembers:
        held.add(Hold.SESSION)
    if held:
        error.add_note(
            f"The connection is not replaced before connection.close() or the end of the request, because "
            f"{', and '.join(sorted(hold.value for hold in held))}; that is lost with its session."
        )
    return not held


def is_lost(wrapper: Holder, error: pymysql.Error) -> bool:
    """Return whether the connection is unusable after `error`."""
    return not wrapper.connection or not wrapper.connection.open or not failures.of_statement(error).keep


def _is_rolled_back(wrapper: Wrapper) -> bool:
    """Return whether the server has rolled back the transaction of the open block."""
    if not isinstance(wrapper.connection, pymysql.connections.Connection) or not wrapper.connection.open:
        return True
    if not in_transaction(wrapper):
        return False  # nothing came before the statement that failed
    with suppress(Exception):  # then it is lost, and the transaction with it
        wrapper.connection.ping(reconnect=False)
        return not in_transaction(wrapper)
    return True
