"""The one table of failures: what each says about the connection, its siblings and the server.

A failed connect or statement is news of up to four things: of the connection it happened on, of the other connections
of the same age, of the server, and of the chances of another try. Each row of `TABLE` answers for one kind of failure;
`of_connect` and `of_statement` find the row. The pool, the reuse policy and the adapters ask here and nowhere else, so
that they cannot disagree (Invariant 22).

Owns: the table. Never: acts on the answer, counts, waits or logs.

Error numbers are those of the manuals: MySQL 9 Reference, "Error Messages" (server 1000-, client 2000-), and MariaDB
Knowledge Base, "MariaDB Error Code Reference". Where the servers give one number to several things, the message
decides: 1290 is every refusal of an option, of which only read-only concerns the server's role.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from functools import cache

from pymysql import err
from pymysql.constants import CR, ER

from ._util.late import pattern
from ._util.record import Record
from .errors import AmbiguousPrimary, PoolError, PoolOverloaded, PoolTimeout, PoolUnavailable, WrongRole


class Siblings(Enum):
    """What follows for the other connections of the pool that are as old."""

    NOTHING = "nothing"  #: they are as good as before
    ASK = "ask"  #: they may be dead too: ask the server before one that has been idle since is lent
    EXPIRE = "expire"  #: they are of a server that must not be used: replace those of this generation


class Server(Enum):
    """What the failure says about the server."""

    NOTHING = "nothing"  #: it may be well
    DOWN = "down"  #: it cannot be reached, or starts or stops
    FULL = "full"  #: it has no room for one more connection; those that exist go on
    REFUSES_US = "refuses us"  #: the login, the certificate or the database is wrong: waiting cures nothing
    REFUSES_WORK = "refuses work"  #: it accepts logins, but the set-up fails, or it is not the server for the work
    SLOW = "slow"  #: it did not answer within a time that is long enough for a healthy server


class News(Record):
    """One row of the table.

    Attributes:
        keep: whether the connection on which it happened can still be used; meaningless for a failed connect.
        siblings: what follows for connections of the same age.
        server: what is known of the server now.
        retry: whether another attempt to connect, later within the caller's deadline, may succeed.
        temporary: whether a web response should be 503 with Retry-After.
    """

    keep: bool
    siblings: Siblings
    server: Server
    retry: bool
    temporary: bool


_NO, _ASK, _EXPIRE = Siblings.NOTHING, Siblings.ASK, Siblings.EXPIRE

#                                     keep   siblings  server               retry  temporary
OWN_AFFAIR = News(True, _NO, Server.NOTHING, False, False)  # the statement's fault; the connection is as good as before
DEADLOCK = News(True, _NO, Server.NOTHING, False, True)  # a victim of another transaction: nothing of it was done
TOO_LARGE = News(False, _NO, Server.NOTHING, False, False)  # the server hangs up on what is over max_allowed_packet
OUT_OF_STEP = News(False, _NO, Server.NOTHING, False, True)  # the byte stream of this one connection is unusable
KILLED = News(False, _NO, Server.NOTHING, True, True)  # an administrator, or a time-out of its own, ended this one
LOST = News(False, _ASK, Server.NOTHING, True, True)  # the connection broke; why is for a connect to find out
TIMED_OUT = News(False, _ASK, Server.NOTHING, True, True)  # no reply within read_timeout
STOPPING = News(False, _ASK, Server.DOWN, True, True)  # the server said that it shuts down
WRONG_ROLE = News(False, _EXPIRE, Server.REFUSES_WORK, True, True)  # read-only after a switchover, node not ready
NO_QUORUM = News(False, _EXPIRE, Server.REFUSES_WORK, True, True)  # lost during a COMMIT, which may have been done
UNREACHABLE = News(False, _NO, Server.DOWN, True, True)  # refused, no route, no such name, closed during the login
IMPATIENT = News(False, _NO, Server.NOTHING, True, True)  # the caller's own time ended: says nothing about the server
SILENT = News(False, _NO, Server.SLOW, True, True)  # a whole connect_timeout without an answer
FULL = News(False, _NO, Server.FULL, True, True)  # max_connections, max_user_connections
QUOTA = News(True, _NO, Server.NOTHING, False, True)  # an hourly limit of the account, for a statement
REFUSED = News(False, _NO, Server.REFUSES_US, False, False)  # login, certificate, database
SET_UP_FAILED = News(False, _NO, Server.REFUSES_WORK, False, False)  # init_command, a hook, a callable credential

TABLE: dict[str, News] = {
    name.lower(): row for name, row in list(globals().items()) if isinstance(row, News) and not name.startswith("_")
}

_OF_CONNECT: dict[int, News] = {
    **dict.fromkeys((2002, 2003, 2005, 2006, 2012, 2013, 2055), UNREACHABLE),  # client: refused, nonsense, lost
    **dict.fromkeys((1053, 1158, 1159, 1160, 1161, 1927), UNREACHABLE),  # shutdown, network errors seen by the server
    **dict.fromkeys((3032, 3168), UNREACHABLE),  # offline mode, not available
    **dict.fromkeys((1040, 1203, 1226), FULL),  # max_connections, max_user_connections of all and of one account
    **dict.fromkeys((1047, 1836, 3100, 3101), WRONG_ROLE),  # Galera node not ready, read-only, group replication
    **dict.fromkeys((1044, 1045, 1049, 1129, 1130, 1251, 1524, 1698, 1820, 1862), REFUSED),
    **dict.fromkeys((2026, 2049, 2059, 2061, 3118, 3159, 3955, 4151), REFUSED),  # TLS, plugin, locked, expired
}

_OF_STATEMENT: dict[int, News] = {
    **dict.fromkeys((2006, 2013, 2055), LOST),
    **dict.fromkeys((2014, 2027), OUT_OF_STEP),
    **dict.fromkeys((1053, 3032), STOPPING),
    **dict.fromkeys((1927, 4031), KILLED),
    **dict.fromkeys((1152, 1158, 1159, 1160, 1161, 1184), KILLED),  # network errors that the server saw: it hangs up
    **dict.fromkeys((1047, 1836, 3100, 3101), WRONG_ROLE),
    1153: TOO_LARGE,
    1213: DEADLOCK,  # also all that is open on a Galera node while its group changes
    1226: QUOTA,
}

_SAYS_READ_ONLY = pattern(r"read[-_ ]only", re.IGNORECASE)
_READ_ONLY_OPTION = 1290
_NOT_READY = 1047  # Galera's message; other servers use the number for an unknown command
_COMMIT_FAILED = 1180  # "provider status: Not connected to Primary Component"; or a transaction that is too large
_READ_ONLY_TRANSACTION = 1792
HEALTHY_WITHIN = 0.9  # seconds in which a healthy server answers a login; less time than that proves nothing


def kind_of(error: BaseException) -> str:
    """The class, number and name of `error`, without its text, which may name a user: "OperationalError 1045
    ACCESS_DENIED_ERROR"."""
    number = number_of(error)
    words = [type(error).__name__, str(number or ""), _names().get(number or 0, "")]
    return " ".join(filter(None, words))


@cache
def _names() -> dict[int, str]:
    return {value: name for names in (ER, CR) for name, value in vars(names).items() if name.isupper()}


def number_of(error: BaseException | None) -> int | None:
    """The server's or client's error number, where `error` is PyMySQL's and has one."""
    if isinstance(error, err.MySQLError) and error.args and isinstance(error.args[0], int):
        return error.args[0]
    return None


def of_connect(error: BaseException, *, had: float) -> News:
    """The row of a failed attempt to connect.

    Args:
        error: what connecting, logging in or setting up raised.
        had: the seconds that the attempt was given. One that its caller cut short says nothing about the server.
    """
    if isinstance(error, WrongRole):
        return WRONG_ROLE
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return REFUSED
    if any(isinstance(cause, TimeoutError) for cause in causes) or "timed out" in str(error):
        return SILENT if had >= HEALTHY_WITHIN else IMPATIENT
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return UNREACHABLE
    number = number_of(error)
    if number is None:
        return UNREACHABLE if isinstance(error, OSError) or _is_out_of_step(error) else SET_UP_FAILED
    if (row := _by_message(number, error)) is not None:
        return row if row is not OWN_AFFAIR else SET_UP_FAILED
    return _OF_CONNECT.get(number, SET_UP_FAILED)


def of_statement(error: BaseException | None, *, said_read_only: bool = False) -> News:
    """The row of a failed statement; `OWN_AFFAIR` without an error, and for errors that are not the database's.

    Args:
        said_read_only: whether the borrower asked for a READ ONLY transaction. Then 1792 is the borrower's own error.
    """
    if error is None or isinstance(error, PoolError):
        return OWN_AFFAIR  # a PoolError is about the pool, or about another connection
    number = number_of(error)
    if (row := _by_message(number, error)) is not None:
        return row
    if number == _READ_ONLY_TRANSACTION:
        return OWN_AFFAIR if said_read_only else WRONG_ROLE
    if number in (2006, 2013) and "timed out" in str(error):
        return TIMED_OUT
    if number is not None and number in _OF_STATEMENT:
        return _OF_STATEMENT[number]
    if isinstance(error, err.InterfaceError) or _is_out_of_step(error):
        return OUT_OF_STEP
    return OWN_AFFAIR


def _is_out_of_step(error: BaseException) -> bool:
    return isinstance(error, err.InternalError) and "Packet sequence number wrong" in str(error)


def _by_message(number: int | None, error: BaseException) -> News | None:
    """Return the row of an error number with several meanings."""
    if number == _READ_ONLY_OPTION:
        return WRONG_ROLE if _SAYS_READ_ONLY.search(str(error)) else OWN_AFFAIR
    if number == _NOT_READY and "unknown command" in str(error).lower():
        return OWN_AFFAIR
    if number == _COMMIT_FAILED and "Primary Component" in str(error):
        return NO_QUORUM
    return None


def said_again(error: BaseException) -> BaseException:
    """Copy `error` for another caller: a new exception with a traceback of its own."""
    try:
        return type(error)(*error.args)
    except Exception:  # noqa: BLE001 - a user's class, whose arguments differ from its `args`
        return error


def is_temporary(error: BaseException | None) -> bool:
    """Return whether a web response should be 503 with Retry-After: the pool is exhausted, or the server is lost, full,
    starting, or does not accept writes, or it is not known which of several does; or the transaction was the victim of
    a deadlock. Looks through the wrappers of SQLAlchemy and of `raise ... from`, and into an ExceptionGroup, which is
    temporary if all in it are. What fails because a statement over max_allowed_packet has ended the session is not
    temporary: it would end the next one."""
    answer = None
    for cause in _causes(error):
        if isinstance(cause, BaseExceptionGroup):
            return answer is not False and all(map(is_temporary, cause.exceptions))
        if isinstance(cause, PoolTimeout | PoolUnavailable | PoolOverloaded | WrongRole | AmbiguousPrimary):
            return answer is not False
        if isinstance(cause, err.MySQLError) and not isinstance(cause, PoolError):
            row, number = of_statement(cause), number_of(cause)
            if row is TOO_LARGE:
                return False
            if answer is None:
                answer = row.temporary or (number in _OF_CONNECT and _OF_CONNECT[number].temporary)
    return bool(answer)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what it wraps: SQLAlchemy's `orig`, `__cause__`, and `__context__` unless it is suppressed."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        wrapped = getattr(error, "orig", None)
        if isinstance(wrapped, BaseException):
            error = wrapped
        else:
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
