"""The table of failures, row by row: what each kind says of the connection, its siblings, the server, another try."""

from __future__ import annotations

import socket
import ssl

import pytest
from pymysql import err

from pymysqlpool import PoolClosed, PoolTimeout, failures
from pymysqlpool.failures import News, Server, Siblings, is_temporary, of_connect, of_statement


def operational(number: int, text: str = "") -> err.OperationalError:
    return err.OperationalError(number, text)


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


STATEMENTS = [
    (None, False, failures.OWN_AFFAIR),
    (ValueError("the application's own"), False, failures.OWN_AFFAIR),
    (err.IntegrityError(1062, "Duplicate entry"), False, failures.OWN_AFFAIR),
    (err.ProgrammingError(1064, "You have an error in your SQL syntax"), False, failures.OWN_AFFAIR),
    (operational(1205, "Lock wait timeout exceeded"), False, failures.OWN_AFFAIR),
    (operational(1213, "Deadlock found"), False, failures.DEADLOCK),
    (operational(1290, "running with the --secure-file-priv option"), False, failures.OWN_AFFAIR),
    (operational(1290, "running with the --read-only option"), False, failures.WRONG_ROLE),
    (err.InternalError(1290, "running with the --super-read-only option"), False, failures.WRONG_ROLE),
    (err.InternalError(1792, "Cannot execute statement in a READ ONLY transaction"), True, failures.OWN_AFFAIR),
    (err.InternalError(1792, "Cannot execute statement in a READ ONLY transaction"), False, failures.WRONG_ROLE),
    (operational(1836, "Running in read-only mode"), False, failures.WRONG_ROLE),
    (operational(1047, "WSREP has not yet prepared node for application use"), False, failures.WRONG_ROLE),
    (operational(1047, "Unknown command"), False, failures.OWN_AFFAIR),
    (operational(1180, "(provider status: Not connected to Primary Component)"), False, failures.NO_QUORUM),
    (operational(1180, 'Got error 90 "Message too long" during COMMIT'), False, failures.OWN_AFFAIR),
    (operational(3100, "Error on observer while running replication hook"), False, failures.WRONG_ROLE),
    (operational(2006, "MySQL server has gone away"), False, failures.LOST),
    (operational(2013, "Lost connection to MySQL server during query"), False, failures.LOST),
    (operational(2013, "Lost connection to MySQL server during query (timed out)"), False, failures.TIMED_OUT),
    (operational(1053, "Server shutdown in progress"), False, failures.STOPPING),
    (operational(1927, "Connection was killed"), False, failures.KILLED),
    (operational(4031, "disconnected by the server because of inactivity"), False, failures.KILLED),
    *[(operational(number), False, failures.KILLED) for number in (1152, 1158, 1159, 1160, 1161, 1184)],
    (operational(2014, "Commands out of sync"), False, failures.OUT_OF_STEP),
    (err.InternalError("Packet sequence number wrong - got 2 expected 1"), False, failures.OUT_OF_STEP),
    (err.InterfaceError(0, ""), False, failures.OUT_OF_STEP),
    (operational(1153, "Got a packet bigger than 'max_allowed_packet' bytes"), False, failures.TOO_LARGE),
    (operational(1226, "has exceeded the 'max_questions' resource"), False, failures.QUOTA),
    (PoolTimeout("about another connection"), False, failures.OWN_AFFAIR),
]


@pytest.mark.parametrize(("error", "said_read_only", "row"), STATEMENTS, ids=lambda value: repr(value)[:60])
def test_a_failed_statement_says_what_its_row_says(error: BaseException, said_read_only: bool, row: News) -> None:
    assert of_statement(error, said_read_only=said_read_only) is row


REFUSED_AT_LOGIN = (1044, 1045, 1049, 1129, 1130, 1698, 1820, 1862, 2026, 2059, 3118, 4151)
CONNECTS = [
    (
        operational(2003, "Can't connect to MySQL server on 'db' ([Errno 111] Connection refused)"),
        10.0,
        failures.UNREACHABLE,
    ),
    (caused(operational(2003), socket.gaierror(-2, "Name or service not known")), 10.0, failures.UNREACHABLE),
    (operational(2013, "Lost connection to MySQL server during query"), 10.0, failures.UNREACHABLE),
    (caused(operational(2003, "(timed out)"), TimeoutError("timed out")), 10.0, failures.SILENT),
    (caused(operational(2003, "(timed out)"), TimeoutError("timed out")), 0.05, failures.IMPATIENT),
    (operational(1040, "Too many connections"), 10.0, failures.FULL),
    (operational(1203, "already has more than 'max_user_connections'"), 10.0, failures.FULL),
    (operational(1226, "has exceeded the 'max_user_connections' resource"), 10.0, failures.FULL),
    (operational(1047, "WSREP has not yet prepared node"), 10.0, failures.WRONG_ROLE),
    (caused(operational(2003), ssl.SSLCertVerificationError(1, "certificate has expired")), 10.0, failures.REFUSED),
    (ValueError("a bug in the password callable"), 10.0, failures.SET_UP_FAILED),
    (operational(1193, "Unknown system variable, in init_command"), 10.0, failures.SET_UP_FAILED),
    (operational(1290, "running with the --secure-file-priv option"), 10.0, failures.SET_UP_FAILED),
    (operational(1290, "running with the --read-only option"), 10.0, failures.WRONG_ROLE),
    (err.InternalError("Packet sequence number wrong - got 80 expected 0"), 10.0, failures.UNREACHABLE),
    (operational(2012, "what listens there does not log in as a MySQL server does"), 10.0, failures.UNREACHABLE),
    *[(operational(number), 10.0, failures.REFUSED) for number in REFUSED_AT_LOGIN],
]


@pytest.mark.parametrize(("error", "had", "row"), CONNECTS, ids=lambda value: repr(value)[:60])
def test_a_failed_connect_says_what_its_row_says(error: BaseException, had: float, row: News) -> None:
    assert of_connect(error, had=had) is row


def test_a_failure_says_no_more_than_it_knows() -> None:
    assert all(row.siblings is not Siblings.EXPIRE for row in failures.TABLE.values() if row.server is Server.NOTHING)
    assert all(not row.retry for row in failures.TABLE.values() if row.server is Server.REFUSES_US)
    assert failures.IMPATIENT.server is Server.NOTHING


class Wrapped(Exception):
    """As SQLAlchemy wraps: the driver's error in `orig`."""

    def __init__(self, orig: BaseException) -> None:
        super().__init__("(pymysql.err.OperationalError)")
        self.orig = orig


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (PoolTimeout("exhausted"), True),
        (PoolClosed("closed"), False),
        (Wrapped(PoolTimeout("exhausted")), True),
        (caused(RuntimeError("wrapped"), operational(2013)), True),
        (operational(1040), True),
        (operational(1290, "--read-only"), True),
        (operational(1153), False),
        (operational(1045), False),
        (err.IntegrityError(1062, "Duplicate entry"), False),
        (ValueError(), False),
        (ExceptionGroup("of tasks", [PoolTimeout("exhausted"), operational(2013)]), True),
        (ExceptionGroup("of tasks", [ExceptionGroup("inner", [PoolTimeout("exhausted")])]), True),
        (caused(RuntimeError("wrapped"), ExceptionGroup("of tasks", [PoolTimeout("exhausted")])), True),
        (ExceptionGroup("of tasks", [PoolTimeout("exhausted"), KeyError("a bug")]), False),
        (ExceptionGroup("of tasks", [PoolTimeout("exhausted"), operational(1153)]), False),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_visitor_is_told_to_come_back_when_that_may_help(error: BaseException, temporary: bool) -> None:
    assert is_temporary(error) is temporary


def test_an_error_is_said_again_as_it_is_where_its_class_makes_no_other_of_its_arguments() -> None:
    class OfTwo(err.OperationalError):
        def __init__(self, number: int, host: str) -> None:
            super().__init__(f"{number} of {host}")

    own, plain = OfTwo(2003, "db1"), err.OperationalError(2003, "down")
    assert failures.said_again(own) is own
    again = failures.said_again(plain)
    assert (type(again), again.args, again is plain) == (err.OperationalError, (2003, "down"), False)
