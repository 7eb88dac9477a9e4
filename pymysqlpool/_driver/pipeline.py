"""Commands of the pool itself: several in one go, all their replies read, and no needless ROLLBACK.

Owns: sending several commands at once and reading their replies. Never: chooses the commands, decides what follows from
a reply, or sends a local file: none of these commands asks for one.

An error packet is one reply like any other here: all of them are read, so the wire is quiet afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymysql import err

from .commands import Command, pack_all
from .pymysql_names import PyMySQLConnection
from .receive import SocketSource
from .session_state import SAME
from .statements import TRANSACTION


def outcomes(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Send `commands` and read all their replies, in order: for each its last result, or the error packet raised.

    Raises:
        pymysql.err.MySQLError: the connection was lost.
        ConnectionInterruptedError: the server has sent more than the replies; the connection is closed.
    """
    exchange = begin(connection)
    core = connection._rfile if type(connection._rfile) is SocketSource else None
    connection._write_bytes(pack_all(commands))
    replies: list[Any] = []
    for _ in commands:
        connection._next_seq_id = 1
        if core is not None:
            core.sequence = 1
        try:
            connection._read_query_result()
            while connection._result.has_next:
                connection._read_query_result()
            replies.append(connection._result)
        except err.MySQLError as error:
            if connection._sock is None:
                raise
            replies.append(error)
    end(connection, exchange)
    return replies


def begin(connection: Any) -> Any:
    """Begin the exchange of several commands; returns what `end` needs when all their replies were read."""
    exchange = connection._exchange
    if exchange is None or connection._sock is None:
        connection._refuse_closed()
    if not exchange.acquire(False):
        connection._refuse_interrupted()
    connection._exchange = None  # no single reply ends it
    connection._effect = SAME  # the pool's own commands leave nothing that a new session would not show
    connection._result = None
    connection._serves_file = False
    return exchange


def end(connection: Any, exchange: Any) -> None:
    connection._result = None
    connection._exchange = exchange
    source = connection._rfile
    if type(source) is SocketSource and source.position != len(source.buffer):
        connection._refuse_surplus()
    exchange.release()


def pipeline(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """As `outcomes`; the first error packet is raised when all replies are read."""
    replies = outcomes(connection, commands)
    for reply in replies:
        if isinstance(reply, err.MySQLError):
            raise reply
    return replies


def raise_first(replies: Sequence[Any]) -> None:
    """Raise the first error packet among `replies`."""
    for reply in replies:
        if isinstance(reply, err.MySQLError):
            raise reply


def rollback(connection: Any) -> None:
    """Roll the transaction back; without a round trip where none is open, as the last reply had it."""
    exchange = connection._exchange
    is_quiet = exchange is not None and not exchange.locked() and connection._sock is not None
    if not (is_quiet and connection._tracked and not connection._marks & TRANSACTION):
        PyMySQLConnection.rollback(connection)
