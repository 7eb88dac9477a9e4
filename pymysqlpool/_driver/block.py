"""Transaction blocks: is the open transaction still the one that the block began?

A `Block` is on a connection from the BEGIN of its outermost transaction block to the end of it. Every reply shows by
its status flags whether a transaction is open; one that is gone, without the block's own COMMIT or ROLLBACK, was
committed (by DDL, LOCK TABLES, an explicit COMMIT) or undone (by an explicit ROLLBACK). An error packet has no flags,
so before the next statement the server is asked, with a ping: after a deadlock it has undone everything, after most
errors only the statement. Once the transaction is gone the block refuses all statements, because they would be
committed without what came before them.

A with-block of a connection commits at its end too, and is no transaction block. An `Undone` stands in the place of its
block after a deadlock that cost it changes.

Owns: the state of an open block. Never: sends anything but that ping, ends a transaction.

Protocol: MySQL Internals, "OK_Packet" (status flags; the reply to COM_PING has them too).
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from pymysql import err

from .._util.late import pattern
from ..errors import TransactionError, TransactionLostError
from .session_state import EFFECT_OF_COMMAND, IN_TRANSACTION
from .statements import NOTHING

# It commits what is open and begins anew, which the flags do not show.
_BEGINS_ANEW = pattern(rb"(?:\s|/\*(?!!)(?:[^*]++|\*(?!/))*+\*/)*+(?:begin|start\s++transaction)\b", re.IGNORECASE)
# AND CHAIN begins anew in the same step, as LOCK TABLES does where autocommit is off.
_ENDS = pattern(rb"\s*+(?:(?:commit|rollback)\b(?!(?:\s++work)?\s++to\b)|lock\s++tables?\b)", re.IGNORECASE)
_ROLLBACK = pattern(rb"\s*+rollback(?:\s++work)?\s*+;?\s*+", re.IGNORECASE)
# With an error they leave the transaction as it was before them or undo all of it; others may have committed it first.
_CHANGES_ROWS = pattern(rb"[\s(]*+(?:select|insert|update|delete|replace|with|values|load|set|do)\b", re.IGNORECASE)
_ENOUGH = 256  # characters of a statement that are looked at


class _Asks(Protocol):
    block: Any

    def ask_status(self) -> int: ...


class Block:
    """One outermost transaction block and those inside it.

    Attributes:
        depth: how many blocks are open; those inside are savepoints.
        lost: whether its transaction is gone.
        committed: whether the server had committed what came before that.
        cause: the last error packet, if there was one.
    """

    __slots__ = ("_ends", "_undoes", "_unsure", "cause", "committed", "depth", "lost")
    is_transaction = True
    within = False  # of an `Undone`: it is about a with-block

    def __init__(self) -> None:
        self.depth: int = 1
        self.lost: bool = False
        self.committed: bool = False
        self.cause: err.MySQLError | None = None
        self._unsure = False  # an error has come, and no status since
        # Of the statement that is being answered:
        self._ends = False  # it ends the transaction, even if its reply says that one is open: it may be the next
        self._undoes = False  # should the transaction be gone after it, then it is undone, not committed

    def before(self, connection: _Asks, command: int, sql: bytes | str) -> None:
        """A statement is about to be sent.

        Raises:
            TransactionLostError: the transaction is gone.
            TransactionError: the statement would commit it and begin another one.
        """
        if EFFECT_OF_COMMAND.get(command) == NOTHING:
            return  # a ping and the like
        if self._unsure:
            self.note(connection.ask_status())
        text = sql[:_ENOUGH] if isinstance(sql, bytes) else sql[:_ENOUGH].encode("utf-8", "replace")
        rolls_back = _ROLLBACK.fullmatch(text) is not None
        self._ends = _ENDS.match(text) is not None
        self._undoes = rolls_back or _CHANGES_ROWS.match(text) is not None
        if self.lost:
            if not rolls_back:  # it has nothing to undo, and error handlers send it
                raise self.error() from self.cause
        elif _BEGINS_ANEW.match(text):
            raise TransactionError(
                "a transaction block is open on this connection, and BEGIN would commit it; for a part of it that can "
                "be undone by itself use another transaction block inside"
            )

    def note(self, status: int) -> None:
        """A reply had this status."""
        self._unsure = False
        if (self._ends or not status & IN_TRANSACTION) and not self.lost:
            self.lost = True
            self.committed = not self._undoes

    def note_error(self, error: err.MySQLError) -> None:
        """The server refused a statement: with the statement alone, or with all of the transaction."""
        self._unsure = True
        self.cause = type(error)(*error.args)  # without its traceback, which would keep the connection

    def note_within(self) -> None:
        """A task has a with-block open."""

    def note_new_session(self) -> None:
        """The connection was lost and made anew: the server has undone everything."""
        self._undoes = True
        self.note(0)

    @property
    def in_doubt(self) -> bool:
        """Whether an error has come since the last status."""
        return self._unsure

    @property
    def is_undone_if_lost(self) -> bool:
        """Whether the server has committed nothing of it, in doubt or not."""
        return not self.committed and (self.lost or self._undoes)

    def error(self) -> TransactionLostError:
        if self.committed:
            what = (
                "committed what came before: DDL and LOCK TABLES do, as does an explicit COMMIT (an explicit ROLLBACK "
                "undoes it)"
            )
        else:
            what = "undid what came before: a deadlock does, and the loss of the connection"
        return TransactionLostError(
            f"something inside the transaction block ended its transaction and {what}. Nothing more is done in this "
            "block; leave it, and run all of it again if that is safe"
        )


class Undone(Block):
    """The server has undone uncommitted changes by a deadlock, and no transaction block was open.

    A with-block would commit what comes after them, so it refuses that until ROLLBACK. Code outside of a block goes on:
    where its work begins and ends is not known.

    Args:
        within: a with-block is open; that of a task may be noted later, by `note_within`.
    """

    __slots__ = ("within",)
    is_transaction = False

    def __init__(self, error: err.MySQLError, within: bool) -> None:
        super().__init__()
        self.within = within
        self.note_error(error)
        self._unsure = False

    def before(self, connection: _Asks, command: int, sql: bytes | str) -> None:
        if EFFECT_OF_COMMAND.get(command) == NOTHING:
            return
        text = sql[:_ENOUGH] if isinstance(sql, bytes) else sql[:_ENOUGH].encode("utf-8", "replace")
        if self.within and not _ROLLBACK.fullmatch(text):
            raise self.error() from self.cause
        connection.block = None

    def note(self, status: int) -> None:
        """A ping was answered, which changes nothing."""

    def note_within(self) -> None:
        self.within = True

    def error(self) -> TransactionLostError:
        return TransactionLostError(
            "a deadlock inside the with-block made the server undo what the block had not committed, and its end would "
            "commit what comes after that alone. Nothing more is done in this block before rollback(); leave it, or "
            "roll back, and run all of it again if that is safe"
        )
