"""Is the byte stream at a command boundary?

`WireConnection` is PyMySQL's connection plus two things PyMySQL does not record:

* **The exchange lock.** Taken before the first byte of a command is sent, released after the last byte of its last
  result has been read. Free means *quiet*: at a command boundary. It is a lock and not a flag so that taking it is
  one atomic step: two threads can never both begin, and giving a connection back takes it as well (Invariant 6).
  Nothing releases it on behalf of an interrupted exchange, so an exception between any two bytecodes leaves it
  taken, and a connection whose lock is taken is never kept.
* **The session marks** (`statements`, `session_state`): what the statements so far may have changed, from their text,
  from the OK packet and from the status in EOF packets, which PyMySQL drops.

What this file never does: decide what happens to a connection.

Protocol: MySQL Internals, "Client/Server Protocol" (Text Protocol, Generic Response Packets: OK, ERR, EOF).
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, NoReturn

from pymysql import err, protocol
from pymysql.constants import COMMAND, CR, SERVER_STATUS

from .._util import callsite as borrower
from .._util.process import Mark, mark_process
from ..errors import ConnectionInterruptedError, ForkedConnectionError, ReturnConnectionToPoolError
from .block import Block
from .commands import COM_QUERY, LARGEST_STATEMENT, pack_header
from .deadline import within
from .pipeline import outcomes, pipeline, rollback
from .pymysql_names import PyMySQLConnection
from .reader import Source, read_result
from .results import WireResult
from .role import Role
from .session_state import EFFECT_OF_COMMAND, IN_TRANSACTION, SAME, TELLING, marks_after
from .statements import AUTOCOMMIT, NOTHING, STATE, TRANSACTION, WROTE, reader_for
from .tls import SharedContext
from .usage import Usage

# Errors with which a server ends a session: shutdown, killed (MariaDB), idle for too long (MySQL 8.0.24).
_FAREWELLS = frozenset({1053, 1927, 4031})
CLIENT_SESSION_TRACK = 1 << 23
# For so long after the server was heard, a look at the socket tells nothing new: news of its end is still on its way.
TRUST = 20e-6  # seconds

_NO_BACKSLASH_ESCAPES = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
_thread = borrower.local


class _Fresh:
    """A mapping attribute that each handle gets a copy of when it first looks: nobody can change another's."""

    def __init__(self, pristine: str) -> None:
        self._pristine = pristine

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        copy = dict(getattr(instance, self._pristine))
        instance.__dict__[self._name] = copy
        return copy


class WireConnection(PyMySQLConnection):
    """PyMySQL's connection, with a record of where its byte stream is and of what its session went through."""

    _exchange: threading.Lock | None = None  # taken = in the middle of an exchange
    _fetch: threading.Lock | None = None  # taken = a thread is reading an unbuffered row
    _read_statement: Callable[[bytes, int], int] = reader_for("", "").read  # until it is connected
    _effect = NOTHING  # what the statement being answered may do, from its text
    _marks = NOTHING  # what this lease may have done to the session
    _reads_fast = True  # results come through `_reader`
    _tracked = False  # the server reports session state changes
    _server_role: Role | None = None  # as the server said when the session was made; None: it was not asked
    _recipe: Any = None  # of its pool
    _role: bytes | None = None  # what SET ROLE says to have the roles that the login gave; None: the server has none
    _error_args: tuple[Any, ...] = ()  # of the last error packet
    _slot: Usage | None = None  # of the lease; None outside a pool
    block: Block | None = None  # the transaction block that is open
    said_farewell = False  # the server's last word was that it ends this session
    _establishing = False
    _owner_pid = 0
    _here: Mark = (1,)  # whether this is still that process
    _current_timeout: float | None = None  # PyMySQL 1.1 has none
    _result: Any = None  # a dead handle has none: a cursor that outlives it asks
    _tls_contexts: dict[str, SharedContext] | None = None  # of a pool's connections
    decoders = _Fresh("_pristine_decoders")
    encoders = _Fresh("_pristine_encoders")

    @property
    def marks(self) -> int:
        """What this lease may have done to the session, as `statements` marks it."""
        return self._marks

    # -- an exchange: begin, replies, end ------------------------------------------------------------------

    def _execute_command(self, command: int, sql: Any) -> None:
        exchange = self._exchange
        if exchange is None or self._sock is None:
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
        if self._exchange is not exchange:  # given back by another thread in this very instant
            exchange.release()
            self._refuse_closed()
        slot = self._slot
        if slot is not None:
            if slot.holder != id(self):
                exchange.release()
                self._refuse_taken_back()
            slot.user = _thread.reference
        if isinstance(sql, str):
            sql = sql.encode(self.encoding)
        if command == COM_QUERY:
            effect = self._read_statement(sql, self.server_status & _NO_BACKSLASH_ESCAPES)
            if effect == STATE and self._recipe is not None and self._recipe.holds_after(sql):
                effect = SAME
            if slot is not None:
                slot.queries += 1
        else:
            effect = EFFECT_OF_COMMAND.get(command, STATE)
        self._effect = effect
        if effect:
            self._marks |= effect & ~(AUTOCOMMIT | SAME)
        try:
            if len(sql) < LARGEST_STATEMENT:
                self._result = None
                self._write_bytes(pack_header(len(sql) + 1, command) + sql)
                self._next_seq_id = 1
            else:
                super()._execute_command(command, sql)
        except AttributeError:  # of None, where the socket was
            self._refuse_if_closed()
            raise
        except OSError as error:  # of setting the timeout of a socket that another thread has closed
            self._force_close()
            raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error!r})") from error

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
        """One thread at a time reads from an unbuffered result."""
        fetch = self._fetch
        if fetch is None:
            self._refuse_closed()
        elif not fetch.acquire(False):
            self._refuse_interrupted()
        else:
            try:
                yield
            finally:
                fetch.release()

    def _refuse_interrupted(self) -> NoReturn:
        slot = self._slot
        where = ""
        if slot is not None:
            place = borrower.spell_out(slot.place, slot.offset)
            where = f" It was borrowed at {borrower.describe_place(place)}."
        raise ConnectionInterruptedError(
            "this connection is in the middle of an exchange: another thread is using it, or an earlier statement "
            f"was interrupted before its reply was read; nothing was sent.{where} Close it and borrow another"
        )

    def _refuse_if_closed(self) -> None:
        """Another thread has closed the connection, or given it back, under this one."""
        if self._sock is None:
            self._refuse_closed()

    def _refuse_taken_back(self) -> NoReturn:
        raise ReturnConnectionToPoolError(
            "this connection was taken back by its pool: the thread that borrowed it has ended, or the pool was closed"
        )

    def _refuse_closed(self) -> NoReturn:
        raise err.InterfaceError(0, "the connection is closed")

    def _reply_read(
        self, status: int, warning_count: int, insert_id: int, has_next: bool | None, message: bytes = b""
    ) -> None:
        """A whole reply was read: note what it says, and when none follows, that the wire is quiet."""
        if self._marks or status & TELLING or warning_count or insert_id:
            self._marks = marks_after(self._marks, self._effect, status, warning_count, insert_id, message)
        self.server_status = status
        if self.block is not None:
            self.block.note(status)
        slot = self._slot
        if slot is not None:
            slot.in_transaction = status & IN_TRANSACTION
            slot.heard_until = monotonic() + TRUST
        if not has_next:  # as `_end_exchange`, without the call: this runs once per statement
            exchange = self._exchange
            if exchange is not None and exchange.locked():
                exchange.release()

    def _reply_failed(self, error: err.MySQLError) -> None:
        """The server refused with an error packet, which ends the exchange. Its status is not known."""
        if error.args[0] in _FAREWELLS:
            self.said_farewell = True
        else:
            self._marks |= STATE | TRANSACTION
        if self.block is not None:
            self.block.note_error(error)
        self._end_exchange()

    def _end_exchange(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.locked():
            exchange.release()

    def _read_packet(self, packet_type: Any = protocol.MysqlPacket) -> Any:
        try:
            return super()._read_packet(packet_type)
        except AttributeError:  # of None, where the socket was
            self._refuse_if_closed()
            raise
        except err.MySQLError as error:
            # With the socket still there only an error packet raises: PyMySQL closes it in every other case.
            if self._sock is not None and not self._establishing:
                self._error_args = error.args
                self._reply_failed(error)
            raise

    def _read_ok_packet(self) -> Any:
        source = self._rfile
        ok: Any = None
        try:
            if type(source) is Source and not self._establishing:
                ok = read_result(self, source, only_ok=True)
        except AttributeError:  # of None, where the socket was
            self._refuse_if_closed()
            raise
        if ok is None:
            ok = super()._read_ok_packet()
        self._reply_read(ok.server_status, ok.warning_count, ok.insert_id, ok.has_next, ok.message)
        return ok

    def _read_query_result(self, unbuffered: bool = False) -> int:
        self._result = None
        source = self._rfile
        result: Any = None
        try:
            if not unbuffered and type(source) is Source:
                result = read_result(self, source)
        except AttributeError:  # of None, where the socket was
            self._refuse_if_closed()
            raise
        if result is None:
            if unbuffered:
                result = WireResult(weakref.proxy(self))  # which has it: no circle, see `Connection._kept_cursor`
                result.init_unbuffered_query()
            else:
                result = WireResult(self)
                result.read()
        if result.field_count == 0:  # an OK packet; a result set was noted when its EOF was read
            if result.affected_rows:
                self._marks |= WROTE
            self._reply_read(
                result.server_status, result.warning_count, result.insert_id, result.has_next, result.message or b""
            )
        self._result = result
        self._affected_rows = result.affected_rows
        return self._affected_rows

    def ask_status(self) -> int:
        """The server's status flags at this moment, by a ping."""
        self._execute_command(COMMAND.COM_PING, b"")
        status: int = self._read_ok_packet().server_status
        return status

    def show_warnings(self) -> Any:
        rows = super().show_warnings()
        self._end_exchange()
        return rows

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        if self._establishing:
            return  # the pool's own set-up statement says it, together with all else
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
        self._read_statement = reader_for(self.charset, self.server_version).read
        if self._reads_fast and type(self._rfile) is not Source:
            self._rfile.close()
            self._rfile = Source(self._sock)

    def _create_ssl_ctx(self, sslp: Any) -> Any:
        contexts = self._tls_contexts
        if contexts is None:
            return super()._create_ssl_ctx(sslp)
        key = repr(sslp) if isinstance(sslp, ssl.SSLContext) else repr(sorted(sslp.items()))
        shared = contexts.get(key)
        if shared is None:
            shared = contexts.setdefault(key, SharedContext(super()._create_ssl_ctx(sslp)))
        return shared

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
