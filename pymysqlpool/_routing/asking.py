"""The questions to a server about its role, and how far it is behind, over a session with it.

Never: decides what follows from the answer, waits longer than the session's deadline.

Sources: MariaDB Knowledge Base, "SHOW REPLICA STATUS" (privilege SLAVE MONITOR from 10.5), and MySQL 9 Reference
Manual, 15.7.7.36 "SHOW REPLICA STATUS" (privilege REPLICATION CLIENT; before 8.0.22 it is SHOW SLAVE STATUS). The
column is NULL while replication is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymysql import err
from pymysql.constants import ER

from .._driver.commands import COM_QUERY
from .._driver.exchange import WireConnection
from .._driver.role import QUESTIONS, Role, read

STOPPED = float("inf")  # the lag of a replica whose replication is stopped
_LAG = ("Seconds_Behind_Master", "Seconds_Behind_Source")


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    Attributes:
        role: its role at this moment.
        lag: seconds by which it is behind its source; None: it was not asked, has no source, or may not say.
        missing: the privilege without which it does not tell the lag.
    """

    role: Role
    lag: float | None = None
    missing: str = ""


def ask_server(session: WireConnection, asks_lag: bool = False) -> Answer:
    """Ask the server of `session` for its role and, if wanted and it is a replica, for its lag.

    Raises:
        pymysql.err.MySQLError: it does not answer, or refuses to say its role.
    """
    role = read([_result(session, question).rows for question in QUESTIONS])
    if not asks_lag or role.writable or role.galera:
        return Answer(role)
    is_mariadb = "mariadb" in str(session.get_server_info()).lower()  # type: ignore[no-untyped-call]
    for name in ("SLAVE",) if is_mariadb else ("REPLICA", "SLAVE"):
        try:
            return Answer(role, _lag(_result(session, f"SHOW {name} STATUS")))
        except err.ProgrammingError as error:
            if error.args[0] != ER.PARSE_ERROR:
                raise
        except err.OperationalError as error:
            if error.args[0] != ER.SPECIFIC_ACCESS_DENIED_ERROR:
                raise
            return Answer(role, missing="SLAVE MONITOR" if is_mariadb else "REPLICATION CLIENT")
    return Answer(role)


def _lag(result: Any) -> float | None:
    """The lag of the channel that is behind most; None: it is no replica."""
    names = [column[0] for column in result.description]
    lags = [row[names.index(name)] for row in result.rows for name in _LAG if name in names]
    return max((STOPPED if lag is None else float(lag) for lag in lags), default=None)


def _result(session: WireConnection, question: str) -> Any:
    (result,) = session.outcomes([(COM_QUERY, question.encode())])
    if isinstance(result, err.MySQLError):
        raise result
    return result
