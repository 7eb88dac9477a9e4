"""The errors of the pool.

Every class is also the `pymysql.err` class that fits, so code written for PyMySQL catches it where it already
catches its database errors. A message names the pool, what failed, the numbers, the last cause and the way out;
it never holds a password (Invariant 16).

Owns: the classes. Their texts are in the files that raise them. Never: decides when one is raised.
"""

from __future__ import annotations

from pymysql import err

_NO_ROOM = 1040  # ER_CON_COUNT_ERROR, as a server without a free connection
_NOT_REACHED = 2003  # CR_CONN_HOST_ERROR
_UNUSABLE = 0  # PyMySQL's number for a connection that cannot be used
_ENDED = 2006  # CR_SERVER_GONE_ERROR
_READ_ONLY = 1290  # ER_OPTION_PREVENTS_STATEMENT, the server's error for a write
_NOT_READY = 1047  # the error of a Galera node that is not ready


class PoolError(Exception):
    """Base of everything this package raises by itself.

    Those that are PyMySQL's errors too carry a number, as PyMySQL's do: `number, text = error.args`.

    Attributes:
        number: the number that PyMySQL or a server uses for such an error; None for a class that has none.
    """

    number: int | None = None

    def __init__(self, *args: object) -> None:
        if len(args) == 1 and self.number is not None:
            args = (self.number, *args)
        super().__init__(*args)

    def __str__(self) -> str:
        return str(self.args[-1]) if self.args else ""


class SettingsError(PoolError, ValueError, TypeError):
    """An option is unknown, out of bounds or contradicts another (Invariant 17)."""


class GetConnectionFromPoolError(PoolError, err.OperationalError):
    """The pool could not lend a connection.

    Attributes:
        pool: the pool's name.
        waited: seconds this call spent waiting and connecting.
        in_use: connections that were lent at that moment.
        idle: connections that were idle.
        waiting: callers that waited.
        maxsize: the bound.

    `__cause__` is the last error of an attempt to connect, if one was made.
    """

    number: int = _NO_ROOM

    def __init__(
        self,
        *args: object,
        pool: str = "",
        waited: float = 0.0,
        in_use: int = 0,
        idle: int = 0,
        waiting: int = 0,
        maxsize: int = 0,
    ) -> None:
        super().__init__(*args)
        self.pool = pool
        self.waited = waited
        self.in_use = in_use
        self.idle = idle
        self.waiting = waiting
        self.maxsize = maxsize


class PoolTimeout(GetConnectionFromPoolError):
    """No connection became free in time, and `maxsize`, or the time, did not allow a new one."""


class PoolDeadlock(PoolTimeout):
    """Every connection was held by a caller that waited for another one; this call gave up so that the rest go on."""


class PoolUnavailable(GetConnectionFromPoolError):
    """The server could not be reached in time; `__cause__` is the last connect error."""

    number: int = _NOT_REACHED


class PoolOverloaded(GetConnectionFromPoolError):
    """More than `max_waiting` callers wait already; this one was refused at once."""


class PoolClosed(GetConnectionFromPoolError):
    """The pool has been closed: it lends nothing any more (Invariant 12)."""

    number: int = _NOT_REACHED


class AmbiguousPrimary(GetConnectionFromPoolError):
    """More than one server of a cluster reports that it accepts writes, and only one may: none is lent for writing."""


class WrongRole(PoolError, err.OperationalError):
    """The server can be reached, but does not have the pool's `role`: it is read-only, or accepts writes, or serves no
    queries at this moment.

    Attributes:
        wanted: the pool's `role`.
        said: the server's variables that show it.
    """

    def __init__(self, wanted: str, ready: bool, said: str) -> None:
        number = _READ_ONLY if ready else _NOT_READY
        is_it = "is not ready" if not ready else "takes writes" if wanted == "replica" else "is read-only"
        super().__init__(number, f"the server {is_it} ({said}), and the pool wants role={wanted!r}")
        self.wanted = wanted
        self.said = said


class ReturnConnectionToPoolError(PoolError, err.InterfaceError):
    """The connection has gone back to its pool already: it can be neither used nor returned again."""

    number: int = _UNUSABLE


class ConnectionTakenBackError(ReturnConnectionToPoolError):
    """The pool has ended this connection while it was lent: it was closed, or its borrower's thread had ended. For a
    library on top of PyMySQL it is a lost connection."""

    number: int = _ENDED


class _NoAttributeAnyMore(ReturnConnectionToPoolError, AttributeError):
    """As its base class, for access to an attribute of the session: `hasattr()` returns False."""


class _NoAttributeTakenBack(ConnectionTakenBackError, AttributeError):
    """The same."""


# Tracebacks show the public names.
_NoAttributeAnyMore.__name__ = _NoAttributeAnyMore.__qualname__ = "ReturnConnectionToPoolError"
_NoAttributeTakenBack.__name__ = _NoAttributeTakenBack.__qualname__ = "ConnectionTakenBackError"


def as_attribute_error(error: ReturnConnectionToPoolError) -> ReturnConnectionToPoolError:
    """Return `error` as a class that `hasattr()`, `getattr()` with a default and `inspect` understand."""
    kind = _NoAttributeTakenBack if isinstance(error, ConnectionTakenBackError) else _NoAttributeAnyMore
    return kind(*error.args)


class ConnectionInterruptedError(PoolError, err.InterfaceError):
    """The connection is in the middle of another exchange with the server.

    Either another thread is using it at this moment, or an earlier statement was interrupted before its reply
    had been read. Sending now would mix up answers, so nothing was sent.
    """

    number: int = _UNUSABLE


class ForkedConnectionError(PoolError, err.InterfaceError):
    """The connection was borrowed before a fork and belongs to the parent process (Invariant 13)."""

    number: int = _UNUSABLE


class TransactionError(PoolError, err.ProgrammingError):
    """The transaction cannot begin, or is not the one that the block began any more."""


class TransactionLostError(TransactionError):
    """Something inside the block ended its transaction, so it was not all or nothing.

    DDL (CREATE, ALTER, DROP, TRUNCATE ...), LOCK TABLES and an explicit COMMIT commit what came before them; a
    deadlock, or a new session in place of a lost one, undoes it. Nothing that came after was kept.
    """
