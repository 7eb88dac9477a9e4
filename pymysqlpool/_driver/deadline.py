"""Bound every send and every receive by one deadline.

`within(connection, deadline)` bounds an exchange that the pool itself makes. It covers every single receive, so that a
server which sends one byte a minute cannot hold a caller longer (Invariant 14). Owns: the timeouts within an exchange.
Never: chooses a deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.constants import CR

if TYPE_CHECKING:
    from .pymysql_names import PyMySQLConnection

UNKNOWN_TIMEOUT = -1.0  # makes PyMySQL set the socket's timeout anew


_LONGEST = 365 * 86400.0  # seconds


@contextmanager
def within(connection: PyMySQLConnection, deadline: float) -> Iterator[None]:
    """Bound every send and every receive in the block by `deadline`, a monotonic instant."""
    timeouts = connection._read_timeout, connection._write_timeout
    connection._deadline = deadline  # of each receive of the protocol core; PyMySQL's login reads by itself
    connection.__dict__["_read_bytes"] = partial(_read_bytes_until, connection, deadline)
    connection.__dict__["_write_bytes"] = partial(_write_bytes_until, connection, deadline)
    try:
        yield
    finally:
        connection.__dict__.pop("_deadline", None)
        connection.__dict__.pop("_read_bytes", None)
        connection.__dict__.pop("_write_bytes", None)
        connection._read_timeout, connection._write_timeout = timeouts
        connection._current_timeout = UNKNOWN_TIMEOUT


def remaining(deadline: float) -> float:
    """Seconds until `deadline`, a year at most: a socket takes no more than its clock can count, and no infinity.

    Raises:
        TimeoutError: there are none left.
    """
    seconds = deadline - monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return min(seconds, _LONGEST)


def _read_bytes_until(connection: Any, deadline: float, num_bytes: int) -> bytes:
    """PyMySQL's `_read_bytes`, at most one receive at a time, each within what is left of the deadline."""
    source = connection._rfile
    received = getattr(source, "buffer", None)  # of a `SocketSource`
    if received is not None and len(received) - source.position >= num_bytes:
        return bytes(source.read(num_bytes))
    data = b""
    try:
        while len(data) < num_bytes:
            connection._sock.settimeout(remaining(deadline))
            chunk = source.read1(num_bytes - len(data))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            data += chunk
    except OSError as error:
        connection._force_close()
        raise err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server ({error})") from error
    except BaseException:
        connection._force_close()
        raise
    return data


def _write_bytes_until(connection: Any, deadline: float, data: bytes) -> None:
    try:
        connection._sock.settimeout(remaining(deadline))
        connection._sock.sendall(data)
    except OSError as error:
        connection._force_close()
        raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error!r})") from error
