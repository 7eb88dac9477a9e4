"""Transaction blocks: `with transaction(connection):`, nested by savepoints.

The outermost block is a transaction: COMMIT at its normal end, ROLLBACK at an exception. An inner block is a savepoint:
an exception undoes that block only. If the server ends the transaction inside the block (DDL commits, a deadlock rolls
back), the block refuses all further statements and ends in ROLLBACK: see `_driver/block.py`. Some ends of a transaction
show in no reply. For these, a savepoint is set right after BEGIN and released together with COMMIT: the release fails
unless the transaction is still the one that the block began.

While a block is open, the with-blocks of its connection and `execute_query()` neither commit nor return it.

Never: borrows or returns a connection, repeats a statement (Invariant 18), changes autocommit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND, ER

from ._driver.block import Block
from ._driver.statements import STATE, WROTE
from ._pool.lease import Connection
from .errors import TransactionError, TransactionLostError
from .failures import number_of

__all__ = ["TransactionError", "TransactionLostError", "begin", "commit", "rollback", "transaction"]


Steps = Generator[tuple[str, ...], None, Any]


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Run the block as one transaction: committed at its end, rolled back at an exception. Blocks may be nested.

    Raises:
        TransactionError: there are uncommitted changes, which BEGIN would commit.
        TransactionLostError: something inside the block ended the transaction; raised by the next statement, or at the
            end of the block.
    """
    opened = carry_out(connection, enter(connection))
    try:
        yield connection
    except BaseException as error:
        carry_out(connection, undo(connection, opened, error))
        raise
    carry_out(connection, leave(connection, opened))


def begin(connection: Connection) -> None:
    """Open the outermost block. `commit` or `rollback` ends it."""
    carry_out(connection, begin_steps(connection))


def commit(connection: Connection) -> None:
    """End the outermost block and commit it.

    Raises:
        TransactionLostError: something inside ended the transaction; the statements after that were rolled back.
    """
    carry_out(connection, commit_steps(connection))


def rollback(connection: Connection) -> None:
    """End the outermost block and undo it.

    Raises:
        TransactionLostError: the server had committed part of it before.
    """
    carry_out(connection, rollback_steps(connection))


# -- the steps, for threads and tasks: each yields the statements to send next, in one round trip if possible --


def enter(connection: Connection) -> Steps:
    """Begin a block. Returns the value that `leave` or `undo` needs."""
    block = connection.block
    if block is None or not block.is_transaction:
        yield from begin_steps(connection)
        return None, 0
    depth = block.depth
    yield (f"SAVEPOINT {_savepoint(depth)}",)
    block.depth = depth + 1
    return block, depth


def leave(connection: Connection, opened: tuple[Block | None, int]) -> Steps:
    """End a block without an error."""
    block, depth = opened
    if block is None:
        yield from commit_steps(connection)
    else:
        block.depth = depth
        yield (f"RELEASE SAVEPOINT {_savepoint(depth)}",)


def undo(connection: Connection, opened: tuple[Block | None, int], error: BaseException) -> Steps:
    """End a block after `error`, which takes precedence over errors of the roll-back."""
    block, depth = opened
    try:
        if block is None:
            yield from rollback_steps(connection)
        else:
            block.depth = depth
            if not block.lost:
                yield (f"ROLLBACK TO SAVEPOINT {_savepoint(depth)}",)
    except TransactionLostError as lost:
        if block is None and not isinstance(error, TransactionLostError):
            error.add_note(f"Not all of the block was undone: {lost}")
    except err.MySQLError:
        pass  # the connection is lost or in mid-exchange: the server rolls back, and the pool will not keep it


def begin_steps(connection: Connection) -> Steps:
    if connection.in_transaction_block:
        raise TransactionError("a transaction block is open on this connection already")
    if connection.marks & WROTE:
        raise TransactionError(
            "this connection has uncommitted changes, which BEGIN would commit: commit() or rollback() first, or "
            "make all changes inside the block"
        )
    yield "BEGIN", f"SAVEPOINT {_savepoint(0)}"
    connection.block = Block()


def commit_steps(connection: Connection) -> Steps:
    block, connection.block = connection.block, None
    release = f"RELEASE SAVEPOINT {_savepoint(0)}"
    if block is None or not (block.lost or block.in_doubt or connection.marks & STATE):
        yield release, "COMMIT"
        return
    try:
        if not block.lost:
            yield (release,)
    except BaseException:
        if connection.open:
            yield ("ROLLBACK",)
        raise
    if block.lost:
        yield ("ROLLBACK",)
        raise block.error() from block.cause
    yield ("COMMIT",)


def rollback_steps(connection: Connection) -> Steps:
    block, connection.block = connection.block, None
    if block is None or not (block.lost or (block.in_doubt and block.is_undone_if_lost)):
        yield f"RELEASE SAVEPOINT {_savepoint(0)}", "ROLLBACK"
        return
    yield ("ROLLBACK",)
    if block.committed:
        raise block.error() from block.cause


def carry_out(connection: Connection, steps: Steps) -> Any:
    """Execute the statements that `steps` yield, and return the result of `steps`."""
    try:
        statements = next(steps)
        while True:
            try:
                _execute(connection, *statements)
            except BaseException as error:  # noqa: BLE001 - theirs to handle
                statements = steps.throw(error)
            else:
                statements = next(steps)
    except StopIteration as end:
        return end.value


def _savepoint(depth: int) -> str:
    return f"pymysqlpool_{depth}"


def _execute(connection: Connection, *statements: str) -> None:
    """Execute all `statements`, in one round trip if the server is known to support it; then raise the first error."""
    failure: err.MySQLError | None = None
    if len(statements) > 1 and connection.can_pipeline:
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
    raise_first(failure)


def raise_first(failure: err.MySQLError | None) -> None:
    """Raise the exception for the first error among the replies, if there is one."""
    if number_of(failure) == ER.SP_DOES_NOT_EXIST:
        raise TransactionLostError(
            "something inside the transaction block ended its transaction: DDL and LOCK TABLES commit by themselves, "
            "an explicit COMMIT or ROLLBACK ends it, and a deadlock rolls it back"
        ) from failure
    if failure is not None:
        raise failure
