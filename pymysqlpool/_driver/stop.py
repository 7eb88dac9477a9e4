"""Stopping another session's statement on the server (KILL QUERY).

Behind one address there may be several servers, and the number of a session means another session on each of them. So
KILL QUERY is sent only where the server that executes it shows the session as the one meant: of the same user, running
a statement, and at the other end of the same socket. Address translation on the way hides that; the statement then ends
by itself. Owns: the identification of that session. Never: kills a session, or a statement that it cannot identify with
certainty.

Sources: MySQL 9 Reference Manual, 15.7.8.4 "KILL Statement", 28.3.23 "The INFORMATION_SCHEMA PROCESSLIST Table": each
user sees the sessions of its own.
"""

from __future__ import annotations

import socket

from .exchange import WireConnection

_FAMILIES_WITH_PORTS = (socket.AF_INET, socket.AF_INET6)


def stop_statement(victim: WireConnection, side: WireConnection) -> bool:
    """Stop the statement of `victim`, whose socket may be shut down, over the session `side`. False: it was not found.

    Raises:
        pymysql.err.MySQLError: the server refused, or `side` was lost.
    """
    number = victim.thread_id()  # type: ignore[no-untyped-call]
    side.query(
        "SELECT host FROM information_schema.processlist"
        f" WHERE id = {number} AND user = SUBSTRING_INDEX(USER(), '@', 1) AND command <> 'Sleep'"
    )
    rows = side._result.rows
    if not rows or not _is_at_its_end(victim._sock, str(rows[0][0])):
        return False
    side.query(f"KILL QUERY {number}")
    return True


def _is_at_its_end(sock: socket.socket | None, host: str) -> bool:
    """Whether a server that shows `host` for a session has it over `sock`. A unix socket leads to one server only."""
    if sock is None:
        return False
    if sock.family not in _FAMILIES_WITH_PORTS:
        return ":" not in host
    return host.rpartition(":")[2] == str(sock.getsockname()[1])
