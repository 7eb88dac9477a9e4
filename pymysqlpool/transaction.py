"""All of it or nothing: `with transaction(connection):`, nested by savepoints.

The outermost block is a transaction: COMMIT at a good end, ROLLBACK at an exception. A block inside is a savepoint:
its exception undoes the block and nothing else. When the server ends the transaction inside the block (DDL commits, a
deadlock rolls back), the block refuses all further statements and ends in ROLLBACK: see `_driver/block.py`. A savepoint
set right after BEGIN is the proof, asked for with COMMIT, that the transaction is still the one that the block began,
for the ways to end it that no reply shows.

While a block is open, the with-blocks of its connection, and `execute_query()`, neither commit nor give it back.

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
    """Run the block as one unit: committed at its end, rolled back at an exception. Blocks may be nested.

    Raises:
        TransactionError: there are uncommitted changes already, which BEGIN would commit.
        TransactionLostError: by the next statement, or at the end of the block, when something inside ended the
            transaction.
    """
    opened = carry_out(connection, enter(connection))
    try:
        yield connection
    except BaseException as error:
        carry_out(connection, undo(connection, opened, error))
        raise
    carry_out(connection, leave(connection, opened))


def begin(connection: Connection) -> None:
    """Open the outermost block; `commit` or `rollback` ends it."""
    carry_out(connection, begin_steps(connection))


def commit(connection: Connection) -> None:
    """End the outermost block well.

    Raises:
        TransactionLostError: something inside ended the transaction. What came after that was rolled back.
    """
    carry_out(connection, commit_steps(connection))


def rollback(connection: Connection) -> None:
    """End the outermost block and undo it.

    Raises:
        TransactionLostError: part of it had been committed by the server already.
    """
    carry_out(connection, rollback_steps(connection))


# -- the steps: each yields what is to be said next, in one round trip if possible; for threads and tasks ------


def enter(connection: Connection) -> Steps:
    """A block begins. Returns what `leave` or `undo` is to be given."""
    block = connection.block
    if block is None:
        yield from begin_steps(connection)
        return None, 0
    depth = block.depth
    yield (f"SAVEPOINT {_savepoint(depth)}",)
    block.depth = depth + 1
    return block, depth


def leave(connection: Connection, opened: tuple[Block | None, int]) -> Steps:
    """The block has ended well."""
    block, depth = opened
    if block is None:
        yield from commit_steps(connection)
    else:
        block.depth = depth
        yield (f"RELEASE SAVEPOINT {_savepoint(depth)}",)


def undo(connection: Connection, opened: tuple[Block | None, int], error: BaseException) -> Steps:
    """The block has ended by `error`, which matters more than any from here."""
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
    if connection.block is not None:
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
    """Say what `steps` yield, and return what they return."""
    try:
        statements = next(steps)
        while True:
            try:
                _say(connection, *statements)
            except BaseException as error:  # noqa: BLE001 - theirs to handle
                statements = steps.throw(error)
            else:
                statements = next(steps)
    except StopIteration as end:
        return end.value


def _savepoint(depth: int) -> str:
    return f"pymysqlpool_{depth}"


def _say(connection: Connection, *statements: str) -> None:
    """Say all `statements`, in one round trip where the server is known to take it; then raise the first error."""
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
    """Raise what the first error of some statements means, if there was one."""
    if number_of(failure) == ER.SP_DOES_NOT_EXIST:
        raise TransactionLostError(
            "something inside the transaction block ended its transaction: DDL and LOCK TABLES commit by themselves, "
            "an explicit COMMIT or ROLLBACK ends it, and a deadlock rolls it back"
        ) from failure
    if failure is not None:
        raise failure
