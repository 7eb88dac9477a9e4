"""All of it or nothing: `with transaction(connection):`, nested by savepoints.

The outermost block is a transaction: COMMIT at a good end, ROLLBACK at an exception. A block inside is a savepoint:
its exception undoes the block and nothing else. A savepoint set right after BEGIN is the proof, asked for in the same
round trip as COMMIT, that the transaction is still the one that the block began: MySQL commits by itself at DDL
(CREATE, ALTER, TRUNCATE ...), and rolls back by itself after a deadlock.

Never: borrows or returns a connection, repeats a statement (Invariant 18), changes autocommit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from pymysql import err
from pymysql.constants import COMMAND, ER

from ._driver.statements import WROTE
from ._pool.lease import Connection
from .errors import PoolError
from .reuse import error_number

# How many blocks are open on a connection. Each lease is a new object, so nothing is inherited from the last one.
_depths: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()


class TransactionError(PoolError, err.ProgrammingError):
    """The transaction cannot begin, or is not the one that the block began any more."""


class TransactionLostError(TransactionError):
    """Something inside the block ended its transaction, so it was not all or nothing.

    DDL (CREATE, ALTER, DROP, TRUNCATE ...), LOCK TABLES and an explicit COMMIT commit what came before them;
    a deadlock rolls it back. What came after was committed when the block ended well.
    """


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block as one unit: committed at its end, rolled back at an exception. Blocks may be nested.

    Raises:
        TransactionError: there are uncommitted changes already, which BEGIN would commit.
        TransactionLostError: at the end of the block, when something inside ended the transaction.
    """
    depth = _depths.get(connection, 0)
    if depth == 0:
        begin(connection)
    else:
        connection.query(f"SAVEPOINT {_savepoint(depth)}")
        _depths[connection] = depth + 1
    try:
        yield connection
    except BaseException as error:
        _undo(connection, depth, error)
        raise
    if depth == 0:
        commit(connection)
    else:
        _depths[connection] = depth
        _say(connection, f"RELEASE SAVEPOINT {_savepoint(depth)}")


def begin(connection: Connection) -> None:
    """Open the outermost block; `commit` or `rollback` ends it."""
    if _depths.get(connection):
        raise TransactionError("a transaction block is open on this connection already")
    if connection._marks & WROTE:
        raise TransactionError(
            "this connection has uncommitted changes, which BEGIN would commit: commit() or rollback() first, or "
            "make all changes inside the block"
        )
    _say(connection, "BEGIN", f"SAVEPOINT {_savepoint(0)}")
    _depths[connection] = 1


def commit(connection: Connection) -> None:
    """End the outermost block well.

    Raises:
        TransactionLostError: everything is committed now, but it was not one transaction.
    """
    _depths.pop(connection, None)
    _say(connection, f"RELEASE SAVEPOINT {_savepoint(0)}", "COMMIT")


def rollback(connection: Connection) -> None:
    """End the outermost block and undo it.

    Raises:
        TransactionLostError: part of it had been committed by the server already.
    """
    _depths.pop(connection, None)
    _say(connection, f"RELEASE SAVEPOINT {_savepoint(0)}", "ROLLBACK")


def _undo(connection: Connection, depth: int, error: BaseException) -> None:
    """Undo the block at `depth`, which ended by `error`; that error matters more than any from here."""
    try:
        if depth == 0:
            rollback(connection)
        else:
            _depths[connection] = depth
            _say(connection, f"ROLLBACK TO SAVEPOINT {_savepoint(depth)}")
    except TransactionLostError as lost:
        error.add_note(f"Not all of the block was undone: {lost}")
    except err.MySQLError:
        pass  # the connection is lost or in mid-exchange: the server rolls back, and the pool will not keep it


def _savepoint(depth: int) -> str:
    return f"pymysqlpool_{depth}"


def _say(connection: Connection, *statements: str) -> None:
    """Say all `statements`, in one round trip where the server is known to take it; then raise the first error."""
    baseline = connection._pool._connector.baseline if connection._pool is not None else None
    failure: err.MySQLError | None = None
    if baseline is not None and baseline.pipelines and connection.open:
        try:
            connection.pipeline([(COMMAND.COM_QUERY, statement.encode()) for statement in statements])
        except err.MySQLError as error:
            failure = error
    else:
        for statement in statements:
            try:
                connection.query(statement)
            except err.MySQLError as error:
                failure = failure or error
    if error_number(failure) == ER.SP_DOES_NOT_EXIST:
        raise TransactionLostError(
            "something inside the block ended its transaction: DDL and LOCK TABLES commit by themselves, an explicit "
            "COMMIT or ROLLBACK ends it, and a deadlock rolls it back"
        ) from failure
    if failure is not None:
        raise failure
