"""How PyMySQL's connection reads a reply: by the protocol core, over its socket.

`ReadingConnection` is PyMySQL's connection with other ways to read: what its methods get is what PyMySQL's own would
have given them. The login is PyMySQL's, and so are all replies where the core is switched off (`fast_reader=False`).
Owns: the reading of replies on a connection. Never: decides when an exchange begins or ends. `exchange`, which inherits
from it, does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from pymysql import err, protocol
from pymysql.constants import CR
from pymysql.cursors import Cursor, DictCursor

from . import former_cursors
from .deadline import UNKNOWN_TIMEOUT
from .local_infile import content
from .protocol.packets import ERR, LOST, OK
from .protocol.reply import ResultSet, at_hand, more_rows, reply
from .pymysql_names import PyMySQLConnection
from .pymysql_results import WireResult
from .receive import SocketSource
from .statements import NOTHING, WROTE
from .unbuffered import UnbufferedResult


class _Fresh:
    """A mapping attribute that is copied for each handle at the first access: no handle can change another's."""

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


# The names of those attributes.
COPIED = ("decoders", "encoders", "_connect_attrs", "_auth_plugin_map")


def _fresh(pristine: str) -> Any:
    return _Fresh(pristine)


class ReadingConnection(PyMySQLConnection):
    _reads_fast = True  # replies are read by the protocol core, not by PyMySQL
    _establishing = False
    _serves_file = False  # the statement being answered reads a local file
    _deadline: float | None = None  # a monotonic instant, see `within`
    _marks = NOTHING  # what this lease may have done to the session
    _unmarked = NOTHING  # the marks before the statement being answered
    _harmless: str | None = None  # the text of a template that takes literals, which is often the next to be sent
    _error_args: tuple[Any, ...] = ()  # of the last error packet
    _current_timeout: float | None = UNKNOWN_TIMEOUT  # of the socket, in seconds; as newer PyMySQL has it
    refusal: err.MySQLError | None = None  # of a statement that was too large, see `too_large`
    _result: Any = None  # a dead handle has none: a cursor that outlives it asks
    _pristine_decoders: Mapping[int, Any]  # a pool's, for as long as there are no `decoders` of this handle alone
    decoders: dict[int, Callable[[str], Any]] = _fresh("_pristine_decoders")
    encoders: dict[type[Any], Callable[[Any], str]] = _fresh("_pristine_encoders")
    _connect_attrs: dict[str, str] = _fresh("_pristine__connect_attrs")
    _auth_plugin_map: dict[Any, Any] = _fresh("_pristine__auth_plugin_map")

    # -- of the exchange -----------------------------------------------------------------------------------

    def _reply_read(
        self, status: int, warning_count: int, insert_id: int | None, has_next: int | None, message: bytes = b""
    ) -> None:
        """A whole reply was read."""
        raise NotImplementedError

    def _reply_failed(self, error: Any) -> None:
        """The server refused with an error packet."""
        raise NotImplementedError

    def _refuse_if_closed(self) -> None:
        """Raise when the socket is gone."""
        raise NotImplementedError

    def _raise_refusal(self, error: BaseException) -> None:
        """Raise what the server had to say of the statement, where it hung up with `error`."""
        if self.refusal is not None:
            self._marks = self._unmarked
            raise self.refusal from error

    # -- cursors -------------------------------------------------------------------------------------------

    def cursor(self, cursor: Any = None) -> Any:
        kind = cursor or self.cursorclass
        if kind is Cursor:
            return former_cursors.Cursor(self)
        if kind is DictCursor:
            return former_cursors.DictCursor(self)
        return kind(self)

    # -- by the protocol core ------------------------------------------------------------------------------

    def _read_query_result(self, unbuffered: bool = False) -> int:
        self._result = None
        if type(self._rfile) is SocketSource:
            result = self._read_reply(unbuffered)
        else:
            result = self._read_as_pymysql(unbuffered)
        self._result = result
        self._affected_rows = result.affected_rows
        return self._affected_rows

    def _read_ok_packet(self) -> Any:
        if type(self._rfile) is SocketSource:
            return self._read_reply(only_ok=True)
        ok = super()._read_ok_packet()
        self._reply_read(ok.server_status, ok.warning_count, ok.insert_id, ok.has_next, ok.message)
        return ok

    def show_warnings(self) -> Any:
        self.query("SHOW WARNINGS")
        rows, self._result = self._result.rows, None
        return rows

    def _read_reply(self, unbuffered: bool = False, only_ok: bool = False) -> Any:
        """The next reply, noted as far as it was read."""
        source = self._rfile
        is_shared = "decoders" not in self.__dict__  # else its borrower may have changed them
        try:
            if self._current_timeout != self._read_timeout and self._deadline is None:
                self._sock.settimeout(self._read_timeout)
                self._current_timeout = self._read_timeout
            if source.position == len(source.buffer):
                source.refill(self._deadline)
            decoders = self._pristine_decoders if is_shared else self.decoders
            answer: Any = at_hand(source, self.encoding, self.use_unicode, decoders, is_shared, unbuffered, only_ok)
            if answer is None or not (unbuffered or answer.is_whole):
                local_infile = self._serves_file if self._local_infile else None
                terms = source, self.encoding, self.use_unicode, decoders, is_shared, unbuffered, only_ok
                steps = reply(*terms, local_infile, begun=answer, tried=True)
                answer = source.run(steps, self._deadline, self._serve if local_infile else None)
        except BaseException as error:  # noqa: BLE001 - raised again
            self._lose(error)
        if type(answer) is ERR:
            self._refused(answer)
        if type(answer) is OK:
            if answer.affected_rows:
                self._marks |= WROTE
            self._reply_read(
                answer.server_status, answer.warning_count, answer.insert_id, answer.has_next, answer.message
            )
            return answer
        if unbuffered:  # a weak proxy, as this has it: no circle, see `Connection._kept_cursor`
            return UnbufferedResult(answer, weakref.proxy(self))
        if answer.failure is None:
            self._reply_read(answer.server_status, answer.warning_count, 0, answer.has_next)
            return answer
        self._fail(answer)

    def _fail(self, answer: ResultSet) -> NoReturn:
        """Note a result with a value that could not be converted, and raise."""
        assert answer.failure is not None
        if not answer.is_whole:
            self._force_close()
        elif answer.refusal is not None:
            self._reply_failed(answer.refusal.exception)
        else:
            self._reply_read(answer.server_status, answer.warning_count, 0, answer.has_next)
        raise answer.failure

    def _read_rows(self, result: UnbufferedResult, most: int) -> list[tuple[Any, ...]]:
        """The next rows of an unbuffered result, at most `most`."""
        try:
            if self._current_timeout != self._read_timeout:
                self._sock.settimeout(self._read_timeout)
                self._current_timeout = self._read_timeout
            return self._rfile.run(more_rows(self._rfile, result, most))  # type: ignore[no-any-return]
        except BaseException as error:  # noqa: BLE001 - raised again
            self._lose(error)

    def _lose(self, error: BaseException) -> NoReturn:
        """Raise `error`, which came out of the steps of the core, as PyMySQL does. The position in the stream is
        unknown."""
        if isinstance(error, AttributeError):  # of None, where the socket was
            self._refuse_if_closed()
        elif isinstance(error, err.MySQLError) or not isinstance(error, Exception):
            self._force_close()  # out of step, lost, or what nothing asked for; an interrupt. A refusal does not raise
            self._raise_refusal(error)
        elif isinstance(error, OSError):
            self._force_close()
            self._raise_refusal(error)
            raise err.OperationalError(CR.CR_SERVER_LOST, f"{LOST} ({error})") from error
        raise error  # a malformed packet leaves the socket open, but the exchange never ends

    def _serve(self, asked: Any) -> Any:
        """Send, or open the file: what LOAD DATA LOCAL asks for beyond bytes."""
        if isinstance(asked, bytes):
            self._write_bytes(asked)
            return None
        return content(asked.filename, self.max_allowed_packet)

    def _refused(self, refusal: ERR) -> NoReturn:
        self._error_args = refusal.exception.args
        self._reply_failed(refusal.exception)
        raise refusal.exception

    def _write_bytes(self, data: bytes) -> None:
        """As PyMySQL; older ones do not note the timeout, and raise an OSError where another thread has closed it."""
        try:
            if self._current_timeout != self._write_timeout:
                self._sock.settimeout(self._write_timeout)
                self._current_timeout = self._write_timeout
            self._sock.sendall(data)
        except OSError as error:
            self._force_close()
            raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error!r})") from error

    # -- by PyMySQL ----------------------------------------------------------------------------------------

    def _read_as_pymysql(self, unbuffered: bool) -> Any:
        self._refuse_if_closed()
        result: Any
        if unbuffered:
            result = WireResult(weakref.proxy(self))
            result.init_unbuffered_query()
        else:
            result = WireResult(self)
            result.read()
        if result.field_count == 0:  # a result set notes its end itself
            if result.affected_rows:
                self._marks |= WROTE
            self._reply_read(
                result.server_status, result.warning_count, result.insert_id, result.has_next, result.message or b""
            )
        return result

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
            self._raise_refusal(error)
            raise
