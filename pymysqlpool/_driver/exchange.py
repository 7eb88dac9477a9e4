"""Exchanges: is the byte stream at a command boundary?

`WireConnection` is PyMySQL's connection plus two things PyMySQL does not record:

* **The exchange lock.** Taken before the first byte of a command is sent, released after the last byte of its last
  result has been read. Free means *quiet*: at a command boundary. It is a lock and not a flag so that taking it is
  one atomic step: two threads can never both begin, and giving a connection back takes it as well (Invariant 6).
  Nothing releases it on behalf of an interrupted exchange, so an exception between any two bytecodes leaves it
  taken, and a connection whose lock is taken is never kept.
* **The session marks** (`statements`, `session_state`): what the statements so far may have changed, from their text,
  from the OK packet and from the status in EOF packets, which PyMySQL drops.

Owns: the exchange lock and the marks. Invariants that live here: 6 (only quiet connections become idle), 8 (nothing
crosses). Never: decides what happens to a connection.

Protocol: MySQL Internals, "Client/Server Protocol" (Text Protocol, Generic Response Packets: OK, ERR, EOF).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from pymysql import err
from pymysql.constants import COMMAND, CR, ER, SERVER_STATUS

from .._util import callsite
from .._util.process import mark_process
from ..errors import ConnectionInterruptedError, ConnectionTakenBackError, ForkedConnectionError
from .block import Block, Undone
from .commands import COM_QUERY, LARGEST_STATEMENT, Command, pack_header
from .commits import commit_after
from .deadline import UNKNOWN_TIMEOUT, within
from .local_infile import reads_local_file
from .login import LoginConnection
from .pipeline import outcomes, pipeline, rollback
from .protocol.packets import out_of_step
from .reading import ReadingConnection
from .receive import SocketSource
from .session_state import BEYOND, EFFECT_OF_COMMAND, IN_TRANSACTION, OPAQUE, SAME, TELLING, marks_after
from .session_state import SESSION_STATE_CHANGED as _CHANGED
from .statements import AUTOCOMMIT, NOTHING, STATE, TRANSACTION, WROTE, ReadStatement, read_as_anything, reader_for
from .too_large import TOO_LARGE, is_hang_up, too_large
from .usage import SOCKET_CHECK_INTERVAL, Usage

if TYPE_CHECKING:
    from .._util.process import Mark
    from .role import Role

# Errors with which a server ends a session: shutdown, killed (MariaDB), idle for too long (MySQL 8.0.24).
_SESSION_ENDED = frozenset({1053, TOO_LARGE, 1927, 4031})
CLIENT_SESSION_TRACK = 1 << 23

NO_BACKSLASH_ESCAPES = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
_thread = callsite.local


class WireConnection(LoginConnection, ReadingConnection):
    """PyMySQL's connection, with a record of the position in its byte stream and of its session's changes."""

    _exchange: threading.Lock | None = None  # taken = in the middle of an exchange
    _fetch: threading.Lock | None = None  # taken = a thread is reading on, see `_reading`
    _read_statement: ReadStatement = staticmethod(read_as_anything)  # until it is connected
    _effect = NOTHING  # what the statement being answered may do, from its text
    _tracked = False  # the server reports session state changes
    _tracks_commits = False  # the server reports the global transaction ids of commits
    _commit_token: str | None = None  # of this lease's last commit
    _server_role: Role | None = None  # as asked when the session was made; None: not asked
    _recipe: Any = None  # of its pool
    _login: Sequence[Command] = ()  # what gives again what the login gave, see `given_by_login`
    _slot: Usage | None = None  # of the lease; None outside a pool
    block: Block | None = None  # the transaction block that is open, or an `Undone`
    _depth = 0  # with-blocks of threads that are open on it
    task_depth = 0  # with-blocks of tasks, where a thread may come to use it
    _limit = sys.maxsize  # bytes of a statement, from which on the server refuses it; as far as it is known
    _long = 0  # bytes of the last statement that was a large one
    refusal: err.MySQLError | None  # of a statement that was too large, see `too_large`
    ended_by_server: bool = False  # the server's last error packet ended this session
    _owner_pid = 0
    _here: Mark = (1,)  # whether this is still that process

    @property
    def marks(self) -> int:
        """What this lease may have done to the session, as `statements` marks it."""
        return self._marks

    @property
    def server_role(self) -> Role | None:
        """The server's role when the session was made; None where the pool has role="any"."""
        return self._server_role

    @property
    def in_block(self) -> bool:
        """Whether a with-block or a transaction block is open on it."""
        return self._depth > 0 or self.task_depth > 0 or self.in_transaction_block

    @property
    def in_transaction_block(self) -> bool:
        """Whether a transaction block is open on it."""
        return self.block is not None and self.block.is_transaction

    @property
    def effect(self) -> int:
        """What the last statement may have done to the session, from its text."""
        return self._effect

    # -- an exchange: begin, replies, end ------------------------------------------------------------------

    def _execute_command(self, command: int, sql: Any) -> None:
        exchange = self._exchange
        if exchange is None or self._sock is None or self.ended_by_server:
            self._refuse_closed()
        if not self._here[0]:
            raise ForkedConnectionError(
                f"this connection belongs to process {self._owner_pid}, which forked this one; borrow another"
            )
        if self.block is not None:
            self.block.before(self, command, sql)
        if not exchange.acquire(False):
            self._finish_previous()
            if not exchange.acquire(False):
                self._refuse_interrupted()
        if self._exchange is not exchange:  # given back by another thread at this moment
            exchange.release()
            self._refuse_closed()
        slot = self._slot
        if slot is not None:
            if slot.holder != id(self):
                exchange.release()
                self.refuse_taken_back()
            slot.user = _thread.reference
        if isinstance(sql, str):
            sql = sql.encode(self.encoding)
        if command == COM_QUERY:
            effect = self._read_statement(sql, self.server_status & NO_BACKSLASH_ESCAPES, self._harmless)
            if effect == STATE:
                effect = SAME if self._recipe is not None and self._recipe.holds_after(sql) else OPAQUE
            if slot is not None:
                slot.queries += 1
            self._serves_file = self._local_infile and reads_local_file(sql)
        else:
            effect = EFFECT_OF_COMMAND.get(command, OPAQUE | BEYOND)
            self._serves_file = False
        self._effect = effect
        self._unmarked = marks = self._marks
        if effect:
            self._marks = marks | effect & ~(AUTOCOMMIT | SAME)
        source = self._rfile
        if type(source) is SocketSource:
            if source.position != len(source.buffer):
                self._refuse_surplus()
            source.sequence = 1
        try:
            size = len(sql)
            if size < LARGEST_STATEMENT and size < self._limit:
                self._result = None
                self._write_bytes(pack_header(size + 1, command) + sql)
                self._next_seq_id = 1
            else:
                self._long = size
                super()._execute_command(command, sql)
                if type(source) is SocketSource:
                    source.sequence = self._next_seq_id  # the packets of a long statement are counted on
        except AttributeError:  # of None, where the socket was
            self._refuse_if_closed()
            raise
        except err.OperationalError as error:
            self._raise_refusal(error)
            raise

    def write_packet(self, payload: Any) -> None:
        if not self._establishing and is_between_commands(self):
            self._marks |= OPAQUE | BEYOND  # a command of the borrower's own making
        super().write_packet(payload)

    def drop_socket(self) -> None:
        """End the session without COM_QUIT."""
        self._force_close()

    def forget_writes(self) -> None:
        """What was written so far counts as committed."""
        self._marks &= ~WROTE

    def _force_close(self) -> None:
        if self._sock is not None and is_hang_up(sys.exc_info()[1]):
            self.refusal = too_large(self._sock, self._long, self._limit)
        super()._force_close()

    def _finish_previous(self) -> None:
        """As PyMySQL does before a new command: read what is left of an unbuffered or a multiple result."""
        result = self._result
        if result is None or not (result.unbuffered_active or result.has_next):
            self._refuse_interrupted()
        if result.unbuffered_active:
            if not result.deferred:
                warnings.warn("Previous unbuffered result was left incomplete", stacklevel=5)
            result.drain()
        while self._result is not None and self._result.has_next:
            self.next_result()
        self._result = None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One thread at a time reads on in an exchange: rows of an unbuffered result, the next of several results."""
        fetch = self._fetch
        if fetch is None:
            self._refuse_closed()
        if not fetch.acquire(False):
            self._refuse_interrupted()
        try:
            if self._fetch is not fetch:  # given back by another thread at this moment
                self._refuse_closed()
            yield
        finally:
            fetch.release()

    def next_result(self, unbuffered: bool = False) -> int:
        with self._reading():
            return super().next_result(unbuffered)

    def _refuse_interrupted(self) -> NoReturn:
        slot = self._slot
        where = ""
        if slot is not None:
            where = f" It was borrowed at {callsite.describe_place(callsite.resolve(slot.place, slot.offset))}."
        raise ConnectionInterruptedError(
            "this connection is in the middle of an exchange: another thread is using it, or an earlier statement "
            f"was interrupted before its reply was read; nothing was sent.{where} Close it and borrow another"
        )

    def _refuse_surplus(self) -> NoReturn:
        source = self._rfile
        number = source.buffer[source.position + 3 : source.position + 4]
        self._force_close()
        if number == b"\0":  # the error packet of a server that ends the session; no reply has this number
            raise out_of_step(0, 1)
        raise ConnectionInterruptedError(
            "the server has sent more than the replies to the statements so far, so the next reply could not be told "
            "from it; nothing was sent, and the connection is closed. Borrow another"
        )

    def _refuse_if_closed(self) -> None:
        """Another thread has closed the connection, or given it back, under this one."""
        if self._sock is None:
            self._refuse_closed()

    def refuse_taken_back(self) -> NoReturn:
        raise ConnectionTakenBackError(
            "this connection was taken back by its pool: the thread that borrowed it has ended, or the pool was closed"
        )

    def _refuse_closed(self) -> NoReturn:
        if self.ended_by_server and self._sock is not None:
            raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, "the server has ended this session") from self.refusal
        raise err.InterfaceError(0, "the connection is closed") from self.refusal

    def _reply_read(
        self, status: int, warning_count: int, insert_id: int | None, has_next: int | None, message: bytes = b""
    ) -> None:
        """Note what a complete reply shows, and when none follows, that the wire is quiet."""
        if self._marks or status & TELLING or warning_count or insert_id:
            self._marks = marks_after(self._marks, self._effect, status, warning_count, insert_id, message)
            if status & _CHANGED and self._tracks_commits:
                self._commit_token = commit_after(message) or self._commit_token
        self.server_status = status
        if self.block is not None:
            self.block.note(status)
        slot = self._slot
        if slot is not None:
            slot.in_transaction = status & IN_TRANSACTION
            slot.fresh_until = monotonic() + SOCKET_CHECK_INTERVAL
        if not has_next:  # as `_end_exchange`, without the call: this runs once per statement
            exchange = self._exchange
            if exchange is None:  # of a pipeline, or given back by another thread while this one was reading
                if self._sock is None:
                    self._refuse_closed()
            elif exchange.locked():
                exchange.release()

    def _reply_failed(self, error: err.MySQLError) -> None:
        """The server refused with an error packet, which ends the exchange. Its status is not known."""
        if error.args[0] in _SESSION_ENDED:
            self.ended_by_server = True
            if error.args[0] == TOO_LARGE:
                self.refusal = error
                self._marks = self._unmarked
        else:
            self._marks |= STATE | TRANSACTION
        if self.block is not None:
            self.block.note_error(error)
        elif error.args[0] == ER.LOCK_DEADLOCK and self._unmarked & WROTE:
            self.block = Undone(error, self.in_block)
        self._end_exchange()

    def _end_exchange(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.locked():
            exchange.release()

    def ask_status(self) -> int:
        """The server's status flags at this moment, by a ping."""
        self._execute_command(COMMAND.COM_PING, b"")
        status: int = self._read_ok_packet().server_status
        return status

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        if self._establishing:
            return  # the pool's own set-up sends it, together with everything else
        super().set_character_set(charset, collation)
        self._read_statement = reader_for(self.charset, self.server_version).read
        self._end_exchange()

    # -- connecting ----------------------------------------------------------------------------------------

    def connect(self, sock: socket.socket | None = None) -> None:
        self._exchange = threading.Lock()
        self._fetch = threading.Lock()
        self._owner_pid = os.getpid()
        self._here = mark_process()
        self._marks = NOTHING
        if self.block is not None:
            self.block.note_new_session()
        super().connect(sock)
        self._current_timeout = UNKNOWN_TIMEOUT
        self._read_statement = reader_for(self.charset, self.server_version).read
        if self._reads_fast and type(self._rfile) is not SocketSource:
            self._rfile.close()
            self._rfile = SocketSource(self._sock)

    within = within
    outcomes = outcomes
    pipeline = pipeline
    rollback = rollback


def is_between_commands(connection: WireConnection) -> bool:
    exchange = connection._exchange
    return exchange is not None and not exchange.locked()


def can_go_on(connection: WireConnection) -> bool:
    """At a command boundary, or in a result whose cursor was closed: its rest is read before the next command."""
    return is_between_commands(connection) or getattr(connection._result, "deferred", False)
