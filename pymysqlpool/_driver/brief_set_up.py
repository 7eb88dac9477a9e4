"""The set-up of a later session in one statement, which shows what the login gave as well.

A recipe asks each session what its login gave it beyond the defaults (`given_by_login`), and sets it up by a second
statement. The answer is nearly always that of the session before: no role, no limit. So the SET of the set-up compares
it, on the server, and switches the session tracker on only where it is the same. That the tracker is on shows in the
reply, so a server, or a proxy in front of one, that does not compare confirms nothing: the session is closed then, and
its successor asks again. On MariaDB only; MySQL's reply does not show it.

The comparison is a subquery, after which FOUND_ROWS() is 1, as after a reset.

Owns: that statement, and what confirms it. Never: decides what follows from a difference.

Protocol: MariaDB Knowledge Base, "OK_Packet" (session state information: type 2, SESSION_TRACK_STATE_CHANGE, of "1").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND, CR

from .commands import Command, pack
from .deadline import remaining
from .exchange import WireConnection
from .given_by_login import NO_ROLE
from .protocol.packets import OK
from .protocol.reply import at_hand, reply
from .receive import SocketSource
from .server_version import server_version
from .set_up_refusals import raise_news

_SWITCHED_ON = b"session_track_state_change = 1"
_IS_ON = b"\x02\x011"
_SAME = (
    b"session_track_state_change = (SELECT CURRENT_ROLE() IS NULL"
    b" AND @@session.max_statement_time = @@global.max_statement_time AND @@session.max_allowed_packet = %d)"
)


class BriefSetUp:
    """The statement, for the sessions of one recipe."""

    __slots__ = ("_limit", "_login", "_packet", "statement")

    def __init__(self, statement: bytes, login: Sequence[Command], limit: int) -> None:
        """
        Args:
            login: what gives again what the login gave, where it is the same.
            limit: the server's `max_allowed_packet` then.
        """
        self.statement = statement
        self._packet = pack(COMMAND.COM_QUERY, statement)
        self._login = login
        self._limit = limit

    def set_up(self, connection: WireConnection, deadline: float) -> bool:
        """Set up a session that is logged in, in one round trip.

        Returns:
            False: the login gave something else, or this server does not say. The session is of no use.

        Raises:
            pymysql.err.MySQLError: the server does not answer before `deadline`, or has news of itself.
        """
        source: Any = connection._rfile
        sock = source.sock
        try:
            sock.settimeout(remaining(deadline))  # for both: all that was sent before is acknowledged, so this fits
            sock.sendall(self._packet)
            source.sequence = 1
            source.refill()
            answer = at_hand(source, "", True, {}, True, only_ok=True)
            if answer is None:
                answer = source.run(reply(source, "", True, {}, True, only_ok=True, tried=True), deadline)
        except OSError as error:
            raise err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server ({error})") from error
        if type(answer) is not OK:
            raise_news([answer.exception])
            return False
        if answer.warning_count or answer.has_next or not (answer.message or b"").endswith(_IS_ON):
            return False
        connection.server_status = answer.server_status
        connection._login, connection._limit, connection._tracked = self._login, self._limit, True
        return bool(source.position == len(source.buffer))


def learn(attributes: Mapping[str, Any], steps: Sequence[Command]) -> BriefSetUp | None:
    """Learn from a session with these `attributes`, set up in the long way by these `steps`; None: there is no shorter
    one."""
    login, limit, statement = attributes["_login"], attributes.get("_limit", 0), steps[0][1]
    is_usual = (
        len(steps) == 1
        and statement.endswith(_SWITCHED_ON)
        and type(attributes["_rfile"]) is SocketSource
        and server_version(attributes["server_version"])[1]
        and login[:1] == [NO_ROLE]
        and not any(argument.startswith(b"SET max_statement_time") for _, argument in login)
    )
    return BriefSetUp(statement[: -len(_SWITCHED_ON)] + _SAME % limit, login, limit) if is_usual else None
