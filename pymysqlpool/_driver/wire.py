"""Is the byte stream at a command boundary? The only file that touches PyMySQL's private names.

`WireConnection` is PyMySQL's connection plus three things PyMySQL does not record:

* **The exchange lock.** Taken before the first byte of a command is sent, released after the last byte of its last
  result has been read. Free means *quiet*: at a command boundary. It is a lock and not a flag so that taking it is
  one atomic step: two threads can never both begin, and giving a connection back takes it as well (Invariant 6).
  Nothing releases it on behalf of an interrupted exchange, so an exception between any two bytecodes leaves it
  taken, and a connection whose lock is taken is never kept.
* **The session marks** (`_statements`): what the statements so far may have changed, from their text, from the OK
  packet (session tracker flag, insert id, warnings, status) and from the status in EOF packets, which PyMySQL drops.
* **A deadline** for the exchanges that the pool itself makes: it covers every single receive, so that a server which
  sends one byte a minute cannot hold anybody longer (Invariant 14).

`Wire` is an established session apart from whoever holds it: the attributes of a connected `WireConnection`. A new
handle receives a copy of them (`attach`), which makes handles cheap, makes each one start with the Python-side state
of a new connection (converters, cursor class, attributes), and leaves nothing to clean in the dead one.

What this file never does: decide what happens to a connection.

Protocol: MySQL Internals, "Client/Server Protocol" (Text Protocol, Generic Response Packets: OK, ERR, EOF; Session
State Information; COM_RESET_CONNECTION 0x1f, MySQL 5.7.3+, MariaDB 10.2.4+).
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from pymysql import connections, err, protocol
from pymysql.constants import COMMAND, CR, ER, SERVER_STATUS

from .._util import callsite as borrower
from .._util.process import Mark, mark_process
from ..errors import ConnectionInterruptedError, ForkedConnectionError, ReturnConnectionToPoolError
from . import statements as _statements
from .reader import Source, read_result
from .statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, STATE, TRANSACTION, WROTE
from .tls import SharedContext

CLIENT_SESSION_TRACK = 1 << 23
COM_RESET_CONNECTION = 0x1F
_SESSION_STATE_CHANGED = 0x4000
AUTOCOMMIT_STATUS = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
_IN_TRANS = SERVER_STATUS.SERVER_STATUS_IN_TRANS
_TELLING = _IN_TRANS | _SESSION_STATE_CHANGED
_COM_QUERY = COMMAND.COM_QUERY
# For so long after the server was heard, a look at the socket tells nothing new: news of its end is still on its way.
TRUST = 20e-6  # seconds
_LARGEST_STATEMENT = 0xFFFFFF - 1  # bytes that go in one packet
_pack_command = struct.Struct("<iB").pack  # 3 bytes of length, the packet's number 0, the command
_SHORT = 512  # bytes; more than an OK packet has
_UNKNOWN_TIMEOUT = -1.0  # makes PyMySQL set the socket's timeout anew

_read_statement = _statements.read
_thread = borrower.local

# A command as `pipeline` sends it: its COM_ number and its argument.
Command = tuple[int, bytes]


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


if TYPE_CHECKING:
    # The private names of PyMySQL that this package relies on; the stubs know only its public ones.
    class _PyMySQLConnection(connections.Connection[Any]):
        _sock: Any
        _rfile: Any
        _result: Any
        _affected_rows: int
        _next_seq_id: int
        _read_timeout: float | None
        _write_timeout: float | None
        _current_timeout: float | None
        _secure: bool
        server_version: str
        connect_timeout: float | None

        def _execute_command(self, command: int, sql: Any) -> None: ...
        def _read_packet(self, packet_type: Any = ...) -> Any: ...
        def _read_ok_packet(self) -> Any: ...
        def _write_bytes(self, data: bytes) -> None: ...
        def _create_ssl_ctx(self, sslp: Any) -> Any: ...
        def _force_close(self) -> None: ...
        def show_warnings(self) -> Any: ...

    class _PyMySQLResult(connections.MySQLResult):
        connection: Any

        def _finish_unbuffered_query(self) -> None: ...
        def _read_load_local_packet(self, first_packet: Any) -> None: ...
        def _read_rowdata_packet_unbuffered(self) -> Any: ...
        def _check_packet_is_eof(self, packet: Any) -> bool: ...

else:
    _PyMySQLConnection = connections.Connection
    _PyMySQLResult = connections.MySQLResult


class WireResult(_PyMySQLResult):
    """PyMySQL's result, which also says when the exchange is over and what the EOF packet's status was."""

    deferred = False  # its cursor is gone, and what it has not read is still to come

    def _check_packet_is_eof(self, packet: Any) -> bool:
        if not super()._check_packet_is_eof(packet):
            return False
        # EOF: 0xfe, warnings (2 bytes), status flags (2 bytes).
        warning_count, status = struct.unpack_from("<xHH", packet.get_all_data())
        self.server_status = status
        self.connection._reply_read(status, warning_count, 0, self.has_next)
        return True

    def _read_rowdata_packet_unbuffered(self) -> Any:
        if not self.unbuffered_active:
            return None
        with self.connection._reading():
            return super()._read_rowdata_packet_unbuffered()

    def _finish_unbuffered_query(self) -> None:
        """Called when its cursor is closed or collected: nobody wants the rest. Nobody waits for it either: it is
        read only if another command follows, and a connection that is given back instead is discarded."""
        self.deferred = True

    def drain(self) -> None:
        """Read and forget what is left."""
        if self.unbuffered_active:
            with self.connection._reading():
                super()._finish_unbuffered_query()

    def _read_load_local_packet(self, first_packet: Any) -> None:
        connection = self.connection
        write = connection.__dict__.get("_write_bytes")  # of a deadline, if there is one
        connection.__dict__["_write_bytes"] = partial(_write_or_close, connection, write or connection._write_bytes)
        try:
            super()._read_load_local_packet(first_packet)
        except err.OperationalError as error:
            interrupt = error.__context__
            if isinstance(interrupt, BaseException) and not isinstance(interrupt, Exception):
                raise interrupt from None  # PyMySQL went on, to an error of its own
            # The local file could not be read: PyMySQL has sent the empty packet and read the server's reply to it.
            if error.args[0] == ER.FILE_NOT_FOUND and connection._sock is not None:
                connection._reply_failed()
            raise
        finally:
            del connection.__dict__["_write_bytes"]
            if write is not None:
                connection.__dict__["_write_bytes"] = write


class _AbandonedResult(WireResult):
    """An unbuffered result whose connection was given back half-read: it reads nothing more, not even when it dies."""

    def __del__(self) -> None:
        pass


class WireConnection(_PyMySQLConnection):
    """PyMySQL's connection, with a record of where its byte stream is and of what its session went through."""

    _exchange: threading.Lock | None = None  # taken = in the middle of an exchange
    _fetch: threading.Lock | None = None  # taken = a thread is reading an unbuffered row
    _effect = NOTHING  # what the statement being answered may do, from its text
    _marks = NOTHING  # what this lease may have done to the session
    _reads_fast = True  # results come through `_reader`
    _tracked = False  # the server reports session state changes
    _error_args: tuple[Any, ...] = ()  # of the last error packet
    _slot: Any = None  # the slot of the lease; its `user` is whoever used it last
    _establishing = False
    _owner_pid = 0
    _here: Mark = (1,)  # whether this is still that process
    _current_timeout: float | None = None  # PyMySQL 1.1 has none
    _result: Any = None  # a dead handle has none: a cursor that outlives it asks
    _tls_contexts: dict[str, SharedContext] | None = None  # of a pool's connections
    decoders = _Fresh("_pristine_decoders")
    encoders = _Fresh("_pristine_encoders")

    # -- an exchange: begin, replies, end ------------------------------------------------------------------

    def _execute_command(self, command: int, sql: Any) -> None:
        exchange = self._exchange
        if exchange is None or self._sock is None:
            self._refuse_closed()
        if not self._here[0]:
            raise ForkedConnectionError(
                f"this connection belongs to process {self._owner_pid}, which forked this one; borrow another"
            )
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
        if command == _COM_QUERY:
            effect = _read_statement(sql)
            if slot is not None:
                slot.queries += 1
        else:
            effect = _EFFECT_OF_COMMAND.get(command, STATE)
        self._effect = effect
        if effect:
            self._marks |= effect & ~AUTOCOMMIT
        try:
            if len(sql) < _LARGEST_STATEMENT:
                self._result = None
                self._write_bytes(_pack_command(len(sql) + 1, command) + sql)
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
        if self._marks or status & _TELLING or warning_count or insert_id:
            self._mark(status, warning_count, insert_id, message)
        self.server_status = status
        slot = self._slot
        if slot is not None:
            slot.in_transaction = status & _IN_TRANS
            slot.heard_until = monotonic() + TRUST
        if not has_next:  # as `_end_exchange`, without the call: this runs once per statement
            exchange = self._exchange
            if exchange is not None and exchange.locked():
                exchange.release()

    def _mark(self, status: int, warning_count: int, insert_id: int, message: bytes) -> None:
        """Note what a reply tells of the session."""
        marks = self._marks
        if status & _IN_TRANS:
            marks |= TRANSACTION
        else:
            marks &= ~(TRANSACTION | WROTE)
        foreseen = self._effect & (AUTOCOMMIT | DATABASE)
        if status & _SESSION_STATE_CHANGED and not foreseen and not _tells_of_transactions_only(message):
            marks |= STATE
        if insert_id:
            marks |= INSERT_ID
        if warning_count:
            marks |= STATE  # SHOW WARNINGS would show them to the next borrower; no statement clears them
        self._marks = marks

    def _reply_failed(self) -> None:
        """The server refused with an error packet, which ends the exchange. Its status is not known."""
        self._marks |= STATE | TRANSACTION
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
                self._reply_failed()
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

    def show_warnings(self) -> Any:
        rows = super().show_warnings()
        self._end_exchange()
        return rows

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        if self._establishing:
            return  # the pool's own set-up statement says it, together with all else
        super().set_character_set(charset, collation)
        self._end_exchange()

    # -- connecting ----------------------------------------------------------------------------------------

    def connect(self, sock: socket.socket | None = None) -> None:
        self._exchange = threading.Lock()
        self._fetch = threading.Lock()
        self._owner_pid = os.getpid()
        self._here = mark_process()
        self._marks = NOTHING
        super().connect(sock)
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

    # -- what the pool itself says -------------------------------------------------------------------------

    @contextmanager
    def within(self, deadline: float) -> Iterator[None]:
        """Bound every send and every receive in the block by `deadline`, a monotonic instant."""
        timeouts = self._read_timeout, self._write_timeout
        self.__dict__["_read_bytes"] = partial(_read_bytes_until, self, deadline)
        self.__dict__["_write_bytes"] = partial(_write_bytes_until, self, deadline)
        try:
            yield
        finally:
            self.__dict__.pop("_read_bytes", None)
            self.__dict__.pop("_write_bytes", None)
            self._read_timeout, self._write_timeout = timeouts
            self._current_timeout = _UNKNOWN_TIMEOUT

    def pipeline(self, commands: Sequence[Command]) -> None:
        """Send `commands` in one go and read all their replies, in order. The first error packet is raised.

        Every reply is read even when one is an error, so the wire is quiet afterwards.
        """
        exchange = self._exchange
        if exchange is None or self._sock is None:
            self._refuse_closed()
        if not exchange.acquire(False):
            self._refuse_interrupted()
        self._exchange = None  # no single reply ends it
        self._effect = STATE
        self._result = None
        self._write_bytes(b"".join(_pack_command(len(payload) + 1, command) + payload for command, payload in commands))
        failure: err.MySQLError | None = None
        for _ in commands:
            self._next_seq_id = 1
            try:
                self._read_query_result()
                while self._result.has_next:
                    self._read_query_result()
            except err.MySQLError as error:
                if self._sock is None:
                    raise
                failure = failure or error
        self._result = None
        self._exchange = exchange
        exchange.release()
        if failure is not None:
            raise failure


# What a connection that has no session shows of one: plain values on the class, which hide that it has none.
SESSION_DEFAULTS: Mapping[str, Any] = {
    name: value
    for kind in reversed(WireConnection.__mro__[:-1])
    for name, value in vars(kind).items()
    if not (name.startswith("__") or callable(value) or hasattr(value, "__get__"))
}


def _tells_of_transactions_only(message: bytes) -> bool:
    """Whether the session state information in an OK packet is about transactions and GTIDs, which the status flags
    tell as well. MySQL 9 sends it with every BEGIN and COMMIT.

    After the text (length-encoded) comes the length of all entries, then each: type, length, data.
    """
    try:
        at = 1 + message[0]
        if message[0] >= 0xFB or message[at] >= 0xFB or at + 1 + message[at] != len(message):
            return False
        at += 1
        while at < len(message):
            if message[at] not in _TRANSACTION_TRACKERS or message[at + 1] >= 0xFB:
                return False
            at += 2 + message[at + 1]
    except IndexError:
        return False
    return True


_TRANSACTION_TRACKERS = frozenset({3, 4, 5})  # GTIDS, TRANSACTION_CHARACTERISTICS, TRANSACTION_STATE

_EFFECT_OF_COMMAND: Mapping[int, int] = {
    COMMAND.COM_PING: NOTHING,
    COMMAND.COM_INIT_DB: DATABASE,
    COMMAND.COM_PROCESS_KILL: NOTHING,
    COMMAND.COM_STATISTICS: NOTHING,
}


def _remaining(deadline: float) -> float:
    remaining = deadline - monotonic()
    if remaining <= 0:
        raise TimeoutError("timed out")
    return remaining


def _read_bytes_until(connection: Any, deadline: float, num_bytes: int) -> bytes:
    """PyMySQL's `_read_bytes`, at most one receive at a time, each within what is left of the deadline."""
    source = connection._rfile
    if type(source) is Source and len(source.buffer) - source.position >= num_bytes:
        return source.read(num_bytes)
    data = b""
    try:
        while len(data) < num_bytes:
            connection._sock.settimeout(_remaining(deadline))
            chunk = source.read1(num_bytes - len(data))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            data += chunk
    except OSError as error:
        connection._force_close()
        raise err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server ({error})") from error
    except BaseException:
        connection._force_close()
        raise
    return data


def _write_bytes_until(connection: Any, deadline: float, data: bytes) -> None:
    try:
        connection._sock.settimeout(_remaining(deadline))
        connection._sock.sendall(data)
    except OSError as error:
        connection._force_close()
        raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error!r})") from error


def _write_or_close(connection: Any, write: Callable[[bytes], None], data: bytes) -> None:
    """Write, or close when interrupted: PyMySQL would wait for a reply to half a packet."""
    if connection._sock is None:
        raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, "MySQL server has gone away")
    try:
        write(data)
    except BaseException:
        connection._force_close()
        raise


@cache
def _source_socket(base: type[socket.socket]) -> type[socket.socket]:
    """A `base` that is read through a `Source` from its first byte; asked for late, as gevent may have put its own."""
    return type(base.__name__, (base,), {"makefile": lambda sock, *mode, **options: Source(sock)})


def open_socket(connection: Any, deadline: float) -> socket.socket:
    """The connected socket for `connection`, whichever of the host's addresses answers before `deadline`.

    Looking up the host's name is the one step that no deadline can bound: the system's resolver has its own.
    """
    new_socket = _source_socket(socket.socket) if connection._reads_fast else socket.socket
    if connection.unix_socket:
        sock = new_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_remaining(deadline))
            sock.connect(connection.unix_socket)
        except BaseException:
            sock.close()
            raise
        connection.host_info = "Localhost via UNIX socket"
        connection._secure = True
        return sock
    source = (connection.bind_address, 0) if connection.bind_address is not None else None
    failure: OSError | None = None
    addresses = socket.getaddrinfo(connection.host, connection.port, 0, socket.SOCK_STREAM)
    for family, kind, number, _, address in addresses:
        limit = min(_remaining(deadline), connection.connect_timeout or float("inf"))
        try:
            sock = new_socket(family, kind, number)
            try:
                sock.settimeout(limit)
                if source is not None:
                    sock.bind(source)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            failure = error
            continue
        connection.host_info = f"socket {connection.host}:{connection.port}"
        return sock
    raise failure or OSError(f"no address for host {connection.host!r}")


def establish(connection: WireConnection, deadline: float) -> None:
    """Connect and log in, `within` the same `deadline`, without the set-up statements (`_session.Baseline` has them).

    Raises:
        pymysql.err.OperationalError: the server cannot be reached, refuses, or does not answer in time.
    """
    setup = connection.sql_mode, connection.init_command, connection.autocommit_mode
    connection._establishing = True
    connection.sql_mode = connection.init_command = connection.autocommit_mode = None
    sock: socket.socket | None = None
    try:
        sock = open_socket(connection, deadline)
        sock.settimeout(_remaining(deadline))
        connection._read_timeout = connection._write_timeout = _remaining(deadline)
        connection.connect(sock)
        shared = connection.__dict__.get("ctx")
        if isinstance(shared, SharedContext):
            if isinstance(connection._sock, ssl.SSLSocket):
                shared.remember(connection._sock)
            connection.__dict__["ctx"] = shared.context  # which is what PyMySQL's users find there
    except OSError as error:
        raise err.OperationalError(
            CR.CR_CONN_HOST_ERROR, f"Can't connect to MySQL server on {connection.host!r} ({error})"
        ) from error
    finally:
        if sock is not None and not connection.open:
            sock.close()
        connection.sql_mode, connection.init_command, connection.autocommit_mode = setup
        connection._establishing = False


class Wire:
    """One established session with the server, apart from whoever holds it.

    `readable(0)` is a zero-timeout poll: true when there is something to read, without a round trip. A quiet wire has
    nothing to read; if there is something, it is the server's farewell: an error packet, the end of the stream, a
    reset. So a true answer means: dead.
    """

    __slots__ = ("_attributes", "_timeout", "attributes", "autocommit_status", "exchange", "readable", "sock")

    def __init__(self, connection: WireConnection, converters: dict[str, Any]) -> None:
        """Take the session out of `connection`, which is left without one.

        Args:
            converters: those that the pool's connections share, as far as they are the same; filled here.
        """
        attributes, connection.__dict__ = connection.__dict__, {}
        self.sock: Any = attributes["_sock"]
        self.exchange: threading.Lock = attributes["_exchange"]
        for name in ("decoders", "encoders"):
            own = attributes.pop(name)
            shared = converters.setdefault(name, own)
            attributes[f"_pristine_{name}"] = shared if shared == own else own
        attributes["_result"] = None
        attributes.pop("_error_args", None)
        attributes["_marks"] = NOTHING
        attributes["_effect"] = NOTHING
        attributes["_live"] = True  # the handle has not been given back
        attributes.setdefault("_tracked", False)
        self._timeout: float | None = attributes["_read_timeout"]
        self.sock.settimeout(self._timeout)
        attributes["_current_timeout"] = self._timeout
        self._attributes = attributes
        # The attributes of a new handle onto this session. Not a method, which would cost a call at every borrow.
        self.attributes: Callable[[], dict[str, Any]] = attributes.copy
        self.autocommit_status: int = attributes["server_status"] & AUTOCOMMIT_STATUS
        self.readable = _readable(self.sock)

    def is_quiet(self, attributes: Mapping[str, Any]) -> bool:
        """Whether the handle with these attributes is at a command boundary. If so, takes the exchange lock.

        With the lock taken no thread that still holds the handle can begin an exchange.
        """
        source = attributes.get("_rfile")
        if type(source) is Source and source.position != len(source.buffer):
            return False  # something came that nobody asked for
        return attributes.get("_sock") is self.sock and self.exchange.acquire(False)

    def marks_left(self, attributes: Mapping[str, Any]) -> int:
        """The marks of a handle that is dead by now; STATE where they do not tell all that it did to the session."""
        source = attributes["_rfile"]
        if (
            not self.exchange.locked()
            and attributes["_sock"] is self.sock
            and attributes["server_status"] & AUTOCOMMIT_STATUS == self.autocommit_status
            and attributes["_current_timeout"] == self._timeout
            and (type(source) is not Source or source.position == len(source.buffer))
        ):
            marks: int = attributes["_marks"]
            if not marks or attributes["_tracked"]:
                return marks
        return STATE

    def run(self, statement: bytes, deadline: float) -> None:
        """Run a short statement that has no result, on a quiet session: as `pipeline` does within `deadline`, in a
        fifth of the steps. Where autocommit is off, most returns need it.

        Raises:
            Exception: it did not work; the session is in no known state.
        """
        if not self.exchange.acquire(False):
            raise ConnectionInterruptedError("another thread is using it")
        sock = self.sock
        sock.sendall(_pack_command(len(statement) + 1, _COM_QUERY) + statement)  # nothing else is under way, so it fits
        reply = b""
        missing = 1
        while missing > 0:
            sock.settimeout(_remaining(deadline))
            received = sock.recv(_SHORT)
            if not received:
                raise ConnectionError("the server closed the connection")
            reply += received
            missing = 4 + int.from_bytes(reply[:3], "little") - len(reply)
        sock.settimeout(self._timeout)
        if reply[4:5] == b"\xff":
            err.raise_mysql_exception(reply[4:])
        if missing or reply[3:5] != b"\1\0":  # the packet's number, OK
            raise err.InternalError(f"the reply to {statement!r} is {reply!r}")
        self.exchange.release()

    def borrow_privately(self, attributes: dict[str, Any] | None = None) -> WireConnection:
        """A handle for the pool's own exchanges; `take_back` ends it."""
        private = WireConnection.__new__(WireConnection)
        private.__dict__ = {**(self.attributes() if attributes is None else attributes), "_slot": None}
        return private

    def take_back(self, private: WireConnection) -> None:
        attributes, private.__dict__ = private.__dict__, {}
        if is_open(attributes):
            self.detach(attributes)

    def detach(self, attributes: dict[str, Any]) -> None:
        """A handle gives its attributes back: keep what the session's life goes on with."""
        self._attributes["server_status"] = attributes["server_status"]
        if attributes["_current_timeout"] != self._timeout:
            self.sock.settimeout(self._timeout)

    def cut(self) -> None:
        """End a session that somebody may be using: a thread that waits for its reply is woken with an error."""
        # Not SSLSocket's own shutdown: it drops TLS first, and a thread in mid-send would go on in the clear.
        is_socket = isinstance(self.sock, socket.socket)
        with suppress(OSError):
            (partial(socket.socket.shutdown, self.sock) if is_socket else self.sock.shutdown)(socket.SHUT_RDWR)

    def close(self, quiet: bool) -> None:
        """End the session: with a COM_QUIT when the wire is `quiet`, else by cutting it. Never blocks, never raises."""
        with suppress(Exception):
            if not quiet:
                self.cut()
            else:
                self.sock.settimeout(0)
                self.sock.send(_pack_command(1, COMMAND.COM_QUIT))
        self.forget()

    def forget(self) -> None:
        """Close this process's descriptor and tell the server nothing: after a fork another process goes on with it."""
        rfile = self._attributes.get("_rfile")
        with suppress(Exception):
            if rfile is not None:
                rfile.close()
        with suppress(Exception):
            self.sock.close()


def _readable(sock: Any) -> Callable[[float], Any]:
    """A function of a timeout in milliseconds: something true when there is something to read from `sock`."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return poll.poll
    return lambda timeout: select.select([sock], [], [], timeout / 1000)[0]


def is_between_commands(connection: WireConnection) -> bool:
    exchange = connection._exchange
    return exchange is not None and not exchange.locked()


def can_go_on(connection: WireConnection) -> bool:
    """At a command boundary, or in a result whose cursor was closed: its rest is read before the next command."""
    return is_between_commands(connection) or getattr(connection._result, "deferred", False)


def is_open(attributes: Mapping[str, Any]) -> bool:
    return attributes.get("_sock") is not None


def is_reconnected(attributes: Mapping[str, Any], wire: Wire) -> bool:
    """Whether `ping(reconnect=True)` has put another session in this one's place."""
    return is_open(attributes) and attributes["_sock"] is not wire.sock


def abandon(attributes: Mapping[str, Any], wire: Wire) -> None:
    """A handle that is not kept: its half-read result must read nothing more, not even when it or its cursor is
    collected (Invariant 10), and a session that replaced the wire's behind the pool's back ends with it."""
    result = attributes.get("_result")
    if result is not None and result.unbuffered_active:
        result.__class__ = _AbandonedResult
    sock = attributes.get("_sock")
    if sock is not None and sock is not wire.sock:
        sock.close()


def cut(connection: WireConnection) -> None:
    """Close the socket of a connection that never became a wire."""
    connection._force_close()


def last_error(attributes: Mapping[str, Any]) -> err.MySQLError | None:
    """The last error packet, for a borrower whose exception nobody saw."""
    arguments = attributes.get("_error_args")
    return err.OperationalError(*arguments) if arguments else None
