"""The renewal of a used session: what is sent, and what the replies must show.

Owns: step 1 of the recipe, and the order of the commands. Never: sends them, decides that a session is renewed.

What COM_RESET_CONNECTION keeps, measured on MariaDB 10.11 and MySQL 9 (`tests/core/test_what_a_reset_keeps.py`):

* the current database: selected again. A pool without one asks for it, since no statement unselects a database;
* the active roles: set again, as the login gave them (`given_by_login`, as what a login gives and a reset takes away);
* what SHOW PROFILES shows on MariaDB, the texts of statements: asked for after a text that was not understood;
* what information_schema.optimizer_trace shows on MySQL, the same: emptied after a text that was not understood;
* the resource group on MySQL: left after a text that was not understood;
* a prepared XA branch of MariaDB, whose session is of no use after a reset (a later statement can crash the
  server). Such a session reports an open transaction and refuses the ROLLBACK, so nothing that may touch a table is
  sent before the reply to that ROLLBACK is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND

from .commands import COM_RESET_CONNECTION, Command
from .exchange import WireConnection
from .statements import TRANSACTION
from .wire import has_unread

ROLLBACK: Command = (COMMAND.COM_QUERY, b"ROLLBACK")
# MySQL, after a text that was not understood. A user without the privilege for the last has no resource group to leave.
FORGETS: Sequence[Command] = (
    (COMMAND.COM_QUERY, b"SET optimizer_trace_offset = DEFAULT"),  # empties information_schema.optimizer_trace
    (COMMAND.COM_QUERY, b"SET RESOURCE GROUP USR_default"),
)
_WHICH_DATABASE: Command = (COMMAND.COM_QUERY, b"SELECT DATABASE()")
_WHICH_PROFILES: Command = (COMMAND.COM_QUERY, b"SHOW PROFILES")


class Renewal:
    """What one used session takes.

    Attributes:
        commands: to be sent in one go.
        in_transaction: the session may have a transaction open; then nothing that may touch a table is sent with them.
    """

    __slots__ = ("_asks_for_database", "_at_profiles", "commands", "in_transaction")

    def __init__(
        self,
        attributes: Mapping[str, Any],
        database: bytes | None,
        basics: Sequence[Command],
        forgets: Sequence[Command],
        *,
        asks_for_profiles: bool,
    ) -> None:
        """
        Args:
            forgets: commands before the recipe's settings, so that FOUND_ROWS() and the warnings are of the settings.
        """
        self.in_transaction = bool(attributes["_marks"] & TRANSACTION)
        self._asks_for_database = database is None
        self.commands: list[Command] = [ROLLBACK] if self.in_transaction else []
        self.commands.append((COM_RESET_CONNECTION, b""))
        self.commands.append((COMMAND.COM_INIT_DB, database) if database is not None else _WHICH_DATABASE)
        self.commands += attributes["_login"]
        self._at_profiles = len(self.commands) if asks_for_profiles else None
        if asks_for_profiles:
            self.commands.append(_WHICH_PROFILES)
        self.commands += forgets
        self.commands += basics

    def check(self, connection: WireConnection, results: Sequence[Any]) -> None:
        """Look at the replies that `connection` has read, none of them an error.

        Raises:
            pymysql.err.InternalError: the session is not as new.
        """
        if self._asks_for_database and results[1 + self.in_transaction].rows != ((None,),):
            raise err.InternalError("the session is in a database, the pool's are in none")
        if self._at_profiles is not None and results[self._at_profiles].rows:
            raise err.InternalError("the session shows profiles of its statements, which nothing takes away")
        if has_unread(connection.__dict__):
            raise err.InternalError("the server sent more replies than there were commands")
