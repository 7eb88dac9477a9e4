"""A result whose rows are read when its cursor asks for them (SSCursor).

Owns: the rows that were received and decoded together, and are handed out one by one: at most one block of the socket
(see `receive`) and `_BATCH` rows are in memory. Never: reads the rest of a result whose connection is given back
(Invariant 10). The end of the rows is read when the cursor comes to it, so the exchange is under way until then.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from pymysql import err
from pymysql.constants import ER

from .protocol.columns import Converting
from .protocol.reply import ResultSet

_BATCH = 256  # rows
_UNKNOWN = 18446744073709551615  # affected rows, as PyMySQL has it while there may be more


class UnbufferedResult(ResultSet):
    """In place of PyMySQL's `MySQLResult`, for its cursors: the same attributes and private methods."""

    deferred = False  # its cursor is gone, and what it has not read is still to come

    def __init__(self, result: ResultSet, connection: Any) -> None:
        """`connection` is a weak proxy of the one that has this result."""
        self.__dict__ = result.__dict__
        self.connection = connection
        self.affected_rows = _UNKNOWN
        self.rows = None
        self.unbuffered_active = True
        self._ready: deque[tuple[Any, ...]] = deque()

    def _read_rowdata_packet_unbuffered(self) -> tuple[Any, ...] | None:
        """The next row; None at the end."""
        try:
            row = self._ready.popleft()  # one step, so two threads never get the same row
        except IndexError:
            received = self._receive_rows() if self.unbuffered_active else None
            if received is None:
                return None
            row = received
        self.affected_rows = 1
        self.rows = (row,)
        return row

    def _receive_rows(self) -> tuple[Any, ...] | None:
        """Read rows: the first is the caller's, the others are ready for the next; None at their end. One thread at a
        time."""
        connection = self.connection
        if connection is None:  # another thread has come to the end at this moment
            return None
        with connection._reading():
            if not self.unbuffered_active:
                return None
            rows = [] if self.failure is not None else connection._read_rows(self, _BATCH)
            if rows:
                self._ready.extend(rows[1:])
                return rows[0]  # type: ignore[no-any-return]
            self._note_end()
        return None

    def take(self, rows: list[tuple[Any, ...]]) -> bool:
        """Keep the next `rows`, as `more_rows` has read them, for the cursor; False at their end.

        Raises:
            Exception: a value could not be converted.
            pymysql.err.MySQLError: the server's refusal, in place of the end.
        """
        if rows:
            self._ready.extend(rows)
        else:
            self._note_end()
        return bool(rows)

    def _note_end(self) -> None:
        """There are no more rows, or a value among them could not be converted."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        connection = self.connection
        self.unbuffered_active = False
        self.connection = None
        if self.refusal is not None:
            connection._refused(self.refusal)
        self.rows = None
        connection._reply_read(self.server_status, self.warning_count, 0, self.has_next)

    @property
    def at_hand(self) -> int:
        """How many rows its cursor can have without reading any."""
        return len(self._ready)

    def skip(self) -> None:
        """Drop the buffered rows and those still to come."""
        self.converting = Converting()
        self._ready.clear()

    def _finish_unbuffered_query(self) -> None:
        """Called when its cursor is closed or collected: the rest is not wanted. It is not waited for either: it is
        read only if another command follows, and a connection that is given back instead is discarded."""
        self.deferred = True

    def drain(self) -> None:
        """Read and forget what is left."""
        self.converting = Converting()
        try:
            while self.unbuffered_active and self._receive_rows() is not None:
                self._ready.clear()
        except err.OperationalError as error:
            if error.args[0] not in (ER.QUERY_TIMEOUT, ER.STATEMENT_TIMEOUT):  # as PyMySQL
                raise
        self._ready.clear()

    def abandon(self) -> None:
        """Its connection was given back: there are no rows any more."""
        self._ready.clear()
