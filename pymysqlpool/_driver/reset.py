"""What the last borrower left behind in the session, and the cheapest sufficient way to undo it.

The marks come from `_wire` and `_statements`; this file turns them into a `Cleanup` and carries it out. It never
decides whether a connection is worth it: `reuse.py` does.

What each means, at the return of a connection (Invariants 8 and 9):

    nothing touched                               -> NOTHING   no round trip
    a transaction may be open                     -> ROLLBACK  one
    autocommit changed, LAST_INSERT_ID() set      -> SET       one
    anything else, or several of these            -> RESET     one or two, see `Baseline.replay`
    the server knows no COM_RESET_CONNECTION, or
    cannot be brought back to "no database"       -> CLOSE

COM_RESET_CONNECTION rolls back, drops temporary tables, unlocks tables, releases named locks, forgets user
variables, prepared statements, LAST_INSERT_ID() and warnings, and sets session variables back to the global ones.
It keeps the current database (measured on MariaDB 10.11 and MySQL 9) and forgets what a new connection was set up
with, which `Baseline.replay` says again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pymysql import err
from pymysql.constants import COMMAND, ER

from ..settings import ResetMode
from .commands import COM_RESET_CONNECTION, Command
from .exchange import WireConnection
from .session_state import AUTOCOMMIT_STATUS
from .statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, STATE, TRANSACTION, WROTE


class Cleanup(Enum):
    NOTHING = "nothing"
    ROLLBACK = "rollback"
    SET = "set"
    RESET = "reset"
    CLOSE = "close"


class Baseline:
    """What a new connection of this pool looks like, and how to make one look so."""

    __slots__ = ("autocommit", "can_reset", "database", "init_command", "pipelines", "setup", "tracks")

    def __init__(self, connection: WireConnection, pipeline: bool | None) -> None:
        """Read the server's abilities from the greeting in `connection`, which is logged in but not set up."""
        version, is_mariadb = server_version(connection.server_version)
        self.can_reset = version >= ((10, 2, 4) if is_mariadb else (5, 7, 3))
        self.tracks = version >= ((10, 2, 2) if is_mariadb else (5, 7, 4))  # reports session state changes
        self.pipelines = pipeline if pipeline is not None else (is_mariadb or version >= (8, 0))
        self.autocommit: bool | None = connection.autocommit_mode
        database = connection.db
        self.database: bytes | None = database.encode() if isinstance(database, str) else database
        init_command = connection.init_command
        self.init_command: bytes | None = init_command.encode(connection.encoding) if init_command else None
        # One statement for all of them: each would cost a round trip of its own.
        setup = [f"NAMES {connection.charset}"]
        if connection.collation:
            setup[0] += f" COLLATE {connection.collation}"
        if connection.sql_mode is not None:
            setup.append(f"sql_mode = {connection.escape(connection.sql_mode)}")
        if self.autocommit is not None:
            setup.append(f"autocommit = {self.autocommit:d}")
        self.setup = ", ".join(setup)

    def set_up(self, connection: WireConnection) -> None:
        """Make a logged-in connection what the pool lends: one round trip, two with an init_command."""
        if self.tracks:
            try:
                connection.pipeline(self._set(track=True))
                connection._tracked = True
            except err.OperationalError as error:
                if error.args[0] != ER.UNKNOWN_SYSTEM_VARIABLE:
                    raise
                self.tracks = False  # whatever answers here, it is no such server
        if not connection._tracked:
            connection.pipeline(self._set(track=False))
        if self.init_command is not None:
            connection.pipeline([(COMMAND.COM_QUERY, self.init_command)])
        if self.autocommit is None:
            self.autocommit = connection.get_autocommit()

    def replay(self, tracked: bool, database: bool) -> list[Command]:
        """COM_RESET_CONNECTION and what makes the session look new again."""
        commands = [(COM_RESET_CONNECTION, b""), *self._set(tracked)]
        if self.init_command is not None:
            commands.append((COMMAND.COM_QUERY, self.init_command))
        if database and self.database is not None:
            commands.append((COMMAND.COM_INIT_DB, self.database))
        return commands

    def _set(self, track: bool) -> list[Command]:
        tracking = ", session_track_state_change = 1" if track else ""
        return [(COMMAND.COM_QUERY, f"SET {self.setup}{tracking}".encode())]


def server_version(text: str) -> tuple[tuple[int, ...], bool]:
    """The numbers of a greeting's version, and whether it is MariaDB's (which may say "5.5.5-10.11.6-MariaDB")."""
    is_mariadb = "mariadb" in text.lower()
    if is_mariadb and text.startswith("5.5.5-"):
        text = text.removeprefix("5.5.5-")
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3]), is_mariadb


def needed(attributes: Mapping[str, Any], baseline: Baseline, mode: ResetMode) -> Cleanup:
    """What must be done to the session a handle with these attributes leaves behind."""
    marks: int = attributes["_marks"] & ~WROTE
    if bool(attributes["server_status"] & AUTOCOMMIT_STATUS) != baseline.autocommit:
        marks |= AUTOCOMMIT
    if mode == "never":
        return Cleanup.ROLLBACK if marks & TRANSACTION else Cleanup.NOTHING
    if mode == "always" or (marks and not attributes["_tracked"]):
        marks |= STATE
    if marks == NOTHING:
        return Cleanup.NOTHING
    if marks == TRANSACTION:
        return Cleanup.ROLLBACK
    if not marks & ~(AUTOCOMMIT | INSERT_ID):
        return Cleanup.SET
    if not baseline.can_reset or (marks & DATABASE and baseline.database is None):
        return Cleanup.CLOSE
    return Cleanup.RESET


def statement_for(cleanup: Cleanup, baseline: Baseline) -> bytes | None:
    """The one statement that does it, if there is one."""
    if cleanup is Cleanup.ROLLBACK:
        return b"ROLLBACK"
    if cleanup is Cleanup.SET:
        autocommit = f", autocommit = {baseline.autocommit:d}" if baseline.autocommit is not None else ""
        return f"SET last_insert_id = 0{autocommit}".encode()
    return None


def clean(connection: WireConnection, cleanup: Cleanup, baseline: Baseline) -> None:
    """Carry `cleanup` out on `connection`, whose caller has bounded it by a deadline.

    Raises:
        pymysql.err.MySQLError: it did not work; the session is in no known state.
    """
    statement = statement_for(cleanup, baseline)
    if statement is not None:
        connection.pipeline([(COMMAND.COM_QUERY, statement)])
    elif cleanup is Cleanup.RESET:
        commands = baseline.replay(connection._tracked, database=True)
        for batch in [commands] if baseline.pipelines else [[command] for command in commands]:
            connection.pipeline(batch)
