"""What a failed statement means for the connection and for the transaction it was in.

Owns two rules:

* After the server has rolled a transaction back (at a deadlock, at the loss of the connection, and with some settings
  at a lock wait timeout), the `atomic()` block refuses further statements until it ends, by Django's own means. Else
  the later statements would be committed without the earlier ones. A block that ends without an exception then is a
  warning.
* A connection that was lost outside of a transaction is given back at once, so that the next statement borrows another.

Never: repeats a statement, or decides what becomes of a connection; the pool does.

Protocol: an error packet has no status flags, so the server is asked with a ping whether the transaction is still open.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Protocol

import pymysql
from django.db.transaction import TransactionManagementError

from pymysqlpool import PoolError, failures

from .holds import Hold, Holder, Lease, in_transaction, reasons

_logger = logging.getLogger("pymysqlpool")


class Wrapper(Holder, Protocol):
    alias: str
    needs_rollback: bool
    undone_by: pymysql.Error | None


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
            wrapper.undone_by = error
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


def refuse_to_go_on(wrapper: Wrapper) -> None:
    """Called by `set_rollback(False)`: there is no savepoint to go on from after the server has rolled back all.

    Raises:
        TransactionManagementError: it has.
    """
    if wrapper.in_atomic_block and wrapper.undone_by is not None:
        raise TransactionManagementError(
            "The server has rolled back all of this 'atomic' block, so it cannot go on: what comes after would be "
            "committed without what came before. Leave the block and run it again."
        ) from wrapper.undone_by


def block_ended(wrapper: Wrapper) -> None:
    """A block was rolled back: warn of one that ends without an exception, since its caller is not told."""
    undone_by, wrapper.undone_by = wrapper.undone_by, None
    if undone_by is not None and sys.exc_info()[1] is None:
        _logger.warning(
            "An 'atomic' block of DATABASES[%r] has ended without an exception, but the server had rolled it back, so "
            "nothing of it was kept: %s. Let the exception leave the block, and run it again",
            wrapper.alias,
            undone_by,
            extra={"event": "block undone", "pool": wrapper.alias},
        )


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
