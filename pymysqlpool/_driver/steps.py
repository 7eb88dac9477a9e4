"""An exchange in steps, for a driver that must not block: the parts before and after the bytes.

    data = begin(connection, command, sql, user)     to be sent; the exchange is under way
    steps = steps_of_reply(connection, unbuffered)   to be run over what comes, see `protocol.reply`
    note(connection, answer, unbuffered)             what the steps returned; the exchange may be over
    lose(connection, error)                          what came out of them instead

The bookkeeping is that of the blocking way (`exchange`, `reading`). The caller does the blocking parts first: it reads
`unread` results, and asks for the status that a `needs_status` block waits for.

Owns: the order of the steps. Never: sends, receives.
"""

from __future__ import annotations

import socket
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from pymysql import err
from pymysql.charset import charset_by_name

from . import pipeline
from .commands import COM_QUERY, LARGEST_STATEMENT, Command, pack_all, pack_header
from .exchange import NO_BACKSLASH_ESCAPES, WireConnection
from .local_infile import reads_local_file
from .protocol.packets import ERR, OK
from .protocol.reply import at_hand, fewer, more_rows, reply
from .protocol.source import Steps
from .receive import SocketSource
from .session_state import AUTOCOMMIT_STATUS, OPAQUE, SAME
from .statements import AUTOCOMMIT, STATE, WROTE, reader_for
from .unbuffered import UnbufferedResult
from .wire import Wire

_BATCH = 128  # rows


def touch(connection: Any) -> None:
    """Give a lease that was not used yet its session."""
    connection._sock  # noqa: B018 - the access counts as use


def can_step(connection: Any) -> bool:
    """Return whether its exchanges can be made in steps: it reads by the protocol core from a socket, and no user's
    class wraps it."""
    if (
        type(connection).query is not WireConnection.query
        or type(connection.__dict__.get("_rfile")) is not SocketSource
    ):
        return False
    sock = connection._sock
    return isinstance(sock, socket.socket) and sock.fileno() >= 0  # the pool may have closed it


def watch_of(connection: Any) -> Any:
    """What was put on its socket by `put_watch_on`, or None."""
    source = connection.__dict__.get("_rfile")
    return source.watch if type(source) is SocketSource else None


def watch_if_ready(connection: Any) -> Any:
    """What was put on its socket, if a statement can be sent at once: it is at a command boundary, no transaction block
    has to look at the statement, and the server may ask for no file. Else None."""
    exchange = connection._exchange
    if exchange is None or exchange.locked() or connection.block is not None or connection._local_infile:
        return None
    source = connection._rfile
    return source.watch if type(source) is SocketSource else None


def put_watch_on(connection: Any, make: Callable[[Any, Any], Any]) -> Any:
    """Make what watches its socket, which is closed with the socket; it takes the place of the last one."""
    source = connection._rfile
    old, source.watch = source.watch, None
    if old is not None:
        old.close()
    source.watch = make(connection._sock, source)
    return source.watch


def read_timeout(connection: Any) -> float | None:
    return connection._read_timeout  # type: ignore[no-any-return]


# -- before ----------------------------------------------------------------------------------------------------


def serves_file(connection: Any, sql: str | bytes) -> bool:
    """Whether the reply to `sql` may ask for a local file, which is read where blocking is allowed."""
    if not connection._local_infile:
        return False
    return reads_local_file(sql.encode(connection.encoding) if isinstance(sql, str) else bytes(sql))


def needs_status(connection: Any, task_depth: int) -> bool:
    """Whether an open transaction block is in doubt; `note_status` resolves it.

    Args:
        task_depth: the with-blocks of tasks that are open on the connection.
    """
    if connection.block is None:
        return False
    note_depth(connection, task_depth)
    return bool(connection.block.in_doubt)


def note_depth(connection: Any, task_depth: int) -> None:
    """As many with-blocks of tasks are open on the connection, which a thread may come to use."""
    connection.task_depth = task_depth
    if task_depth and connection.block is not None:
        connection.block.note_within()


def note_status(connection: Any) -> None:
    """A ping was answered."""
    connection.block.note(connection.server_status)


def unread(connection: Any) -> Any:
    """The result that is to be read before another command, an `UnbufferedResult` or one that others follow; None:
    there is none, the wire is quiet or interrupted."""
    exchange, result = connection._exchange, connection._result
    if exchange is None or not exchange.locked() or result is None:
        return None
    if not (result.unbuffered_active or result.has_next):
        return None
    if result.unbuffered_active and not result.deferred:
        warnings.warn("Previous unbuffered result was left incomplete", stacklevel=6)
    return result


def begin(connection: Any, command: int, sql: str | bytes, user: Any = None) -> bytes:
    """Begin an exchange on behalf of `user`, as in `Usage.user`; returns the bytes to send.

    Raises what the blocking way raises before it sends anything.
    """
    sent: list[bytes] = []
    attributes = connection.__dict__
    attributes["_write_bytes"] = sent.append
    try:
        connection._execute_command(command, sql)
    finally:
        del attributes["_write_bytes"]
    if user is not None and connection._slot is not None:
        connection._slot.user = user
    return sent[0] if len(sent) == 1 else b"".join(sent)


def begin_query(
    connection: Any, sql: str | bytes, user: Any, unbuffered: bool, most: int
) -> tuple[bytes, Callable[[], Any], float | None] | None:
    """As `begin` for a statement on a connection for which `watch_if_ready` has found a watch, in a third of the
    steps: the bytes to send, what reads the reply as `reader_of_reply`, and for how many seconds to wait for it. None:
    nothing was begun, `begin` will, or say why not."""
    slot, source, exchange = connection._slot, connection._rfile, connection._exchange
    if slot is None or slot.holder != id(connection) or connection.ended_by_server or not connection._here[0]:
        return None
    if isinstance(sql, str):
        sql = sql.encode(connection.encoding)
    if len(sql) >= LARGEST_STATEMENT or len(sql) >= connection._limit or connection._sock is None:
        return None
    if source.position != len(source.buffer):
        return None
    # From here on as `WireConnection._execute_command`.
    if not exchange.acquire(False):
        return None
    if connection._exchange is not exchange:  # given back by another thread at this moment
        exchange.release()
        return None
    effect = connection._read_statement(sql, connection.server_status & NO_BACKSLASH_ESCAPES, connection._harmless)
    if effect == STATE:
        effect = SAME if connection._recipe is not None and connection._recipe.holds_after(sql) else OPAQUE
    slot.queries += 1
    slot.user = user
    connection._serves_file = False
    connection._effect = effect
    connection._unmarked = marks = connection._marks
    if effect:
        connection._marks = marks | effect & ~(AUTOCOMMIT | SAME)
    source.sequence = 1
    connection._result = None
    connection._next_seq_id = 1
    data = pack_header(len(sql) + 1, COM_QUERY) + sql
    return data, partial(_read_reply, connection, unbuffered, most), connection._read_timeout


# -- between ---------------------------------------------------------------------------------------------------


def steps_of_reply(connection: Any, unbuffered: bool, most: int) -> Steps:
    """Read the next reply; yields 0 after `most` rows."""
    own = connection.__dict__.get("decoders")
    is_shared = own is None
    return reply(
        connection._rfile,
        connection.encoding,
        connection.use_unicode,
        connection._pristine_decoders if is_shared else own,
        is_shared,
        unbuffered,
        local_infile=False if connection._local_infile else None,
        most=most,
    )


def reader_of_reply(connection: Any, unbuffered: bool, most: int) -> Callable[[], Any]:
    """A function that reads the next reply when some bytes of it are there: it returns the reply, if that is a usual
    one and is there as a whole, or else the steps, as `steps_of_reply` does."""
    return partial(_read_reply, connection, unbuffered, most)


def _read_reply(connection: Any, unbuffered: bool, most: int) -> Any:
    own = connection.__dict__.get("decoders")
    is_shared = own is None
    decoders = connection._pristine_decoders if is_shared else own
    source, encoding, use_unicode = connection._rfile, connection.encoding, connection.use_unicode
    answer = at_hand(source, encoding, use_unicode, decoders, is_shared, unbuffered, False, most)
    if answer is not None and (unbuffered or answer.is_whole):
        return answer
    terms = source, encoding, use_unicode, decoders, is_shared, unbuffered, False
    return reply(*terms, False if connection._local_infile else None, most, begun=answer, tried=True)


def steps_of_rows(connection: Any, result: Any) -> Steps:
    """Read the next rows of an unbuffered `result`; `result.take` keeps them."""
    return more_rows(connection._rfile, result, fewer(_BATCH, result.field_count))


def begin_all(connection: Any, commands: Sequence[Command]) -> tuple[bytes, Steps]:
    """Begin the exchange of several commands in one go, as `pipeline.outcomes` does. Returns the bytes to send, and
    steps whose result needs no `note`: for each command its last reply, or the error packet raised."""
    exchange = pipeline.begin(connection)
    return pack_all(commands), _steps_of_all(connection, exchange, len(commands))


def _steps_of_all(connection: Any, exchange: Any, number: int) -> Steps:
    replies: list[Any] = []
    while len(replies) < number:
        connection._rfile.sequence = 1
        answer = yield from steps_of_reply(connection, False, _BATCH)
        try:
            note(connection, answer)
            while answer.has_next:
                answer = yield from steps_of_reply(connection, False, _BATCH)
                note(connection, answer)
        except err.MySQLError as error:
            if type(answer) is not ERR:
                raise
            answer = error
        replies.append(answer)
    pipeline.end(connection, exchange)
    return replies


def begin_fetch(connection: Any) -> Callable[[], None]:
    """One reads from an unbuffered result at a time; returns what ends that."""
    fetch = connection._fetch
    if fetch is None:
        connection._refuse_closed()
    if not fetch.acquire(False):
        connection._refuse_interrupted()
    return fetch.release  # type: ignore[no-any-return]


# -- after -----------------------------------------------------------------------------------------------------


def note(connection: Any, answer: Any, unbuffered: bool = False) -> int:
    """Note a reply that was read; returns the affected rows, as `query` does.

    Raises:
        pymysql.err.MySQLError: the server's refusal.
    """
    if type(answer) is OK:
        if answer.affected_rows:
            connection._marks |= WROTE
        connection._reply_read(
            answer.server_status, answer.warning_count, answer.insert_id, answer.has_next, answer.message
        )
    elif type(answer) is ERR:
        connection._refused(answer)
    elif unbuffered:
        answer = UnbufferedResult(answer, weakref.proxy(connection))
    elif answer.failure is not None:
        connection._fail(answer)
    else:
        connection._reply_read(answer.server_status, answer.warning_count, 0, answer.has_next)
    connection._result = answer
    connection._affected_rows = answer.affected_rows
    return answer.affected_rows  # type: ignore[no-any-return]


def take_rows(connection: Any) -> Any:
    """The rows of the last reply, which no cursor has."""
    rows, connection._result = connection._result.rows, None
    return tuple(rows)


def encoding_of(charset: str) -> str:
    """Python's name for a character set of the server."""
    return str(charset_by_name(charset).encoding)


def note_character_set(connection: Any, charset: str, encoding: str, collation: str | None) -> None:
    """SET NAMES was answered."""
    connection.charset, connection.encoding, connection.collation = charset, encoding, collation
    connection._read_statement = reader_for(charset, connection.server_version).read


def has_next(connection: Any) -> bool:
    """Whether another result of the last statement follows."""
    result = connection._result
    return bool(result is not None and result.has_next)


def all_read(connection: Any) -> None:
    """Nothing is left of the last result."""
    connection._result = None


def lose(connection: Any, error: BaseException) -> NoReturn:
    """Raise what the blocking way raises, where `error` came out of the steps."""
    connection._lose(error)
    raise error


def is_unchanged(wire: Wire, attributes: Mapping[str, Any]) -> bool:
    """Whether the handle with these attributes left nothing behind, as `Wire.marks_left` tells it. The caller has the
    exchange lock."""
    source = wire.source
    return (
        not attributes["_marks"]
        and attributes["_rfile"] is source
        and attributes["_sock"] is wire.sock
        and attributes["server_status"] & AUTOCOMMIT_STATUS == wire.autocommit_status
        and attributes["_current_timeout"] == wire.timeout
        and source.position == len(source.buffer)
    )
