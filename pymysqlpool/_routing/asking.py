"""The questions to a server, over a session with it: what it is, which hosts are in its group, how far it is behind.

Never: decides what follows from the answer, waits longer than the session's deadline.

Sources: MariaDB Knowledge Base, "SHOW REPLICA STATUS" (privilege SLAVE MONITOR from 10.5), and MySQL 9 Reference
Manual, 15.7.7.36 "SHOW REPLICA STATUS" (privilege REPLICATION CLIENT; before 8.0.22 it is SHOW SLAVE STATUS).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pymysql import err
from pymysql.constants import ER

from .._driver.commands import COM_QUERY
from .._driver.exchange import WireConnection
from .._driver.role import QUESTIONS, read
from . import discovery
from .discovery import Kind
from .endpoints import Answer, Missing

_DENIED = frozenset(
    {
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
        ER.TABLEACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
    }
)


@dataclass(frozen=True, slots=True)
class Asks:
    """What a cluster wants to know of its hosts.

    Attributes:
        kind: the cluster's `topology`.
        lag: whether it has a `max_lag`.
    """

    kind: Kind = "static"
    lag: bool = False


def ask_server(session: WireConnection, asks: Asks) -> Answer:
    """Ask the server of `session` what it is, and as much as it may tell of its group.

    Raises:
        pymysql.err.MySQLError: it does not answer, or refuses to say its role.
    """
    role = read([_result(session, question).rows for question in QUESTIONS])
    answer = discovery.plain(role, asks.kind)
    if role.galera:
        return discovery.galera(answer, _result(session, discovery.GALERA).rows)
    if asks.kind == "galera":
        return answer
    is_mariadb = "mariadb" in str(session.get_server_info()).lower()  # type: ignore[no-untyped-call]
    values: dict[str, str] = {}
    if not is_mariadb or asks.kind == "replication":
        values = {str(row[0]).lower(): str(row[1]) for row in _result(session, discovery.WHAT).rows}
    if "aurora_version" in values:
        return _aurora(session, answer)
    name = values.get("group_replication_group_name", "")
    if name or asks.kind == "group":
        answer = _group(session, answer, asks, name, values.get("group_replication_single_primary_mode") != "OFF")
        if not answer.ready or answer.own:
            return answer
    if not answer.writable and (asks.lag or asks.kind == "replication"):
        return _replica(session, answer, asks, is_mariadb, values.get("server_id", ""))
    return replace(answer, own=values.get("server_id", "")) if asks.kind == "replication" else answer


def _group(session: WireConnection, answer: Answer, asks: Asks, name: str, single_primary: bool) -> Answer:
    try:
        rows = _result(session, discovery.GROUP).rows
    except err.MySQLError as error:
        if error.args[0] in _DENIED:
            return replace(answer, missing=discovery.UNKNOWN_MEMBERS)
        if error.args[0] not in (ER.NO_SUCH_TABLE, ER.UNKNOWN_SYSTEM_VARIABLE, ER.BAD_FIELD_ERROR):
            raise
        rows = []  # a server that knows no groups
    return discovery.group(answer, asks.kind, name, single_primary, rows)


def _aurora(session: WireConnection, answer: Answer) -> Answer:
    try:
        rows = _result(session, discovery.AURORA).rows
    except err.ProgrammingError:
        return answer  # an edition without that table
    return discovery.aurora(answer, str(session.host), int(session.port), rows)


def _replica(session: WireConnection, answer: Answer, asks: Asks, is_mariadb: bool, server_id: str) -> Answer:
    for name in ("SLAVE",) if is_mariadb else ("REPLICA", "SLAVE"):
        try:
            result = _result(session, f"SHOW {name} STATUS")
        except err.ProgrammingError as error:
            if error.args[0] != ER.PARSE_ERROR:
                raise
        except err.OperationalError as error:
            if error.args[0] != ER.SPECIFIC_ACCESS_DENIED_ERROR:
                raise
            untold = discovery.UNKNOWN_LAG if asks.lag else discovery.UNKNOWN_SOURCE
            privilege = f"{'SLAVE MONITOR' if is_mariadb else 'REPLICATION CLIENT'} ON *.*"
            return replace(answer, own=server_id, missing=answer.missing or Missing(untold, privilege))
        else:
            names = [column[0] for column in result.description]
            return discovery.replica(answer, server_id, names, result.rows)
    return replace(answer, own=server_id)


def _result(session: WireConnection, question: str) -> Any:
    (result,) = session.outcomes([(COM_QUERY, question.encode())])
    if isinstance(result, err.MySQLError):
        raise result
    return result
