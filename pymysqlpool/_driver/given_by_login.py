"""What a login gives to a session, beyond the global defaults, and no reset gives back.

* the roles: kept as the borrower has set them;
* MAX_STATEMENT_TIME of a MariaDB account (CREATE USER ... WITH), a limit for its statements: lost;
* what the client's flags say: INTERACTIVE (wait_timeout is interactive_timeout then) is lost, IGNORE_SPACE (part of
  sql_mode) is lost on MariaDB.

Owns: reading the server's answer, and the statements that give it again. Never: asks, or sends a statement. (The role
of a *server* is `role`.)

Sources: MariaDB Knowledge Base, "CREATE USER" (resource limits), "max_statement_time"; MySQL 9 Reference Manual, 7.1.8
"wait_timeout"; MySQL Internals, "Capabilities Flags". `tests/core/test_kept_by_a_reset.py` has them all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pymysql.constants import CLIENT, COMMAND

from .commands import Command

_LIMIT = b"CONCAT('SET max_statement_time = ', NULLIF(@@session.max_statement_time, @@global.max_statement_time))"
# By whether the server is a MariaDB. The second column is a statement, or NULL; the third is for `too_large`. Only a
# pool's first session is asked for the others: the fourth is for `init_connect`, the fifth says whether transactions
# are READ ONLY by default.
QUESTION: dict[bool, Command] = {
    is_mariadb: (COMMAND.COM_QUERY, b"SELECT CURRENT_ROLE(), " + limit + b", CONCAT(@@session.max_allowed_packet)")
    for is_mariadb, limit in ((False, b"NULL"), (True, _LIMIT))
}
FIRST_QUESTION: dict[bool, Command] = {
    is_mariadb: (QUESTION[is_mariadb][0], QUESTION[is_mariadb][1] + b", @@global.init_connect, @@session." + read_only)
    for is_mariadb, read_only in ((False, b"transaction_read_only"), (True, b"tx_read_only"))
}
NO_ROLE: Command = (COMMAND.COM_QUERY, b"SET ROLE NONE")


def given_again_by(answer: Any, client_flag: int, *, sets_sql_mode: bool) -> Sequence[Command]:
    """Return the statements, to be sent after a reset.

    Args:
        answer: to one of the questions; None where it was not asked.
        sets_sql_mode: a later SET sql_mode makes IGNORE_SPACE of the login void.
    """
    rows = None if answer is None else answer.rows
    commands: list[Command] = []
    if rows and rows[0][:2] == (None, None):  # the usual answer of a MariaDB
        commands.append(NO_ROLE)
    elif rows:
        role, limit = rows[0][:2]
        text = b"NONE" if role is None else _bytes(role)  # MySQL gives NONE, or a list of quoted names
        if text != b"NONE" and not text.startswith(b"`"):
            text = b"`" + text.replace(b"`", b"``") + b"`"
        commands.append((COMMAND.COM_QUERY, b"SET ROLE " + text))
        if limit is not None:
            commands.append((COMMAND.COM_QUERY, _bytes(limit)))
    if client_flag & CLIENT.INTERACTIVE:
        commands.append((COMMAND.COM_QUERY, b"SET wait_timeout = @@session.interactive_timeout"))
    if client_flag & CLIENT.IGNORE_SPACE and not sets_sql_mode:
        commands.append((COMMAND.COM_QUERY, b"SET sql_mode = CONCAT(@@session.sql_mode, ',IGNORE_SPACE')"))
    return commands


def limit_of_a_statement(answer: Any) -> int:
    """Return the `max_allowed_packet` in the answer to one of the questions; None: it was not asked."""
    return int(_bytes(answer.rows[0][2])) if answer is not None else sys.maxsize


def _bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)
