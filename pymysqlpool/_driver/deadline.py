"""Bound every send and every receive by one deadline.

`within(connection, deadline)` bounds an exchange that the pool itself makes. It covers every single receive, so that a
server which sends one byte a minute cannot hold a caller longer (Invariant 14). Owns: the timeouts within an exchange.
Never: chooses a deadline.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from pymysql import err
from pymysql.constants import CR

if TYPE_CHECKING:
    from .pymysql_names import PyMySQLConnection

UNKNOWN_TIMEOUT = -1.0  # makes PyMySQL set the socket's timeout anew


_LONGEST = 365 * 86400.0  # seconds


class Within:
    """A block in which every send and every receive of `connection` is bounded by `deadline`, a monotonic instant.

    A class, because a generator would cost twice the calls.
    """

    __slots__ = ("_connection", "_deadline", "_timeouts")

    def __init__(self, connection: PyMySQLConnection, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def __enter__(self) -> None:
        connection = self._connection
        self._timeouts = connection._read_timeout, connection._write_timeout
        connection.__dict__.update(limits(connection, self._deadline))

    def __exit__(self, *exc_info: object) -> None:
        connection = self._connection
        attributes = connection.__dict__
        for name in LIMITS:
            attributes.pop(name, None)
        connection._read_timeout, connection._write_timeout = self._timeouts
        connection._current_timeout = UNKNOWN_TIMEOUT


def within(connection: PyMySQLConnection, deadline: float) -> Within:
    """Bound every send and every receive in the block by `deadline`, a monotonic instant."""
    return Within(connection, deadline)


LIMITS = ("_deadline", "_read_bytes", "_write_bytes")  # the attributes


def limits(connection: PyMySQLConnection, deadline: float) -> dict[str, Any]:
    """Return the attributes that bound every send and receive of `connection`, as long as it has them."""
    return {
        "_deadline": deadline,  # of each receive of the protocol core; PyMySQL's login reads by itself
        "_read_bytes": partial(_read_bytes_until, connection, deadline),
        "_write_bytes": partial(_write_bytes_until, connection, deadline),
    }


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
    if received is not None:
        start = source.position
        if len(received) - start >= num_bytes:
            source.position = start + num_bytes
            return bytes(received[start : start + num_bytes])
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
