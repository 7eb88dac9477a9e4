"""Buffered results, read faster than PyMySQL reads them, and exactly alike.

PyMySQL reads a packet by two small reads, an object and a method call per column. Here whole segments are taken from
the socket and walked by index. The column definitions of a result repeat from query to query: PyMySQL's own objects are
made of them once, and found again by the very bytes they came in.

`Source` stands in the place of the socket's file object, so that whatever this file does not serve (the handshake, OK
packets, unbuffered results, LOAD DATA LOCAL) goes PyMySQL's own way over the same bytes: none is lost between the two.

What this file never does: send, or decide. It does touch PyMySQL's private names, like `_wire.py` beside it.

Protocol: MySQL Internals, "Text Resultset" (column count, column definitions, EOF, rows, EOF); a packet is a 3-byte
length, a sequence number and the payload, and a payload of 2^24 - 1 bytes or more is continued in the next packet.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any

from pymysql import connections, converters, err, protocol
from pymysql.constants import CR, FIELD_TYPE, SERVER_STATUS

_SEGMENT = 16 * 1024  # bytes asked of the socket; twice as many each time they all come, while a result is read
_LARGEST_SEGMENT = 256 * 1024
_CONTINUED = 0xFFFFFF
_MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS
_LOST = "Lost connection to MySQL server during query"
_CACHED_COLUMNS = 4096

# In place of an encoding: ASCII, but the converter makes the same value of the bytes.
_AS_IT_IS = ""

# For each column the encoding of its text, None for bytes, and the converter, if there is one.
_Converting = list[tuple[str | None, Any]]


class _DoesNotFit(Exception):
    """A value is longer than its packet."""


class Source:
    """The bytes from the server that have been received and not read yet."""

    __slots__ = ("buffer", "latest", "position", "segment", "sock", "tells_timeout")

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock
        self.tells_timeout = hasattr(sock, "gettimeout")  # what its user made may not
        self.buffer = b""
        self.position = 0
        self.segment = _SEGMENT
        self.latest: _Columns | None = None  # of the last result, which are often those of the next

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer only at the end of the stream. As a buffered file's `read`."""
        start = self.position
        if len(self.buffer) < start + size:
            if start == len(self.buffer) and self.sock is not None:
                self.buffer = self.sock.recv(self.segment)
                self.position = 0
            if len(self.buffer) - self.position < size:
                self._gather(size)
            start = 0
        data = self.buffer[start : start + size]
        self.position = start + len(data)
        return data

    def read1(self, size: int) -> bytes:
        """At most `size` bytes after at most one receive."""
        if self.position == len(self.buffer) and self.sock is not None:
            self.buffer = self.sock.recv(self.segment)
            self.position = 0
        start = self.position
        data = self.buffer[start : start + size]
        self.position = start + len(data)
        return data

    def _gather(self, size: int) -> None:
        """Receive until `size` bytes are there, without copying all of them at each receive."""
        rest = self.buffer[self.position :]
        parts = [rest] if rest else []
        gathered = len(rest)
        try:
            while gathered < size and self.sock is not None:
                data = self.sock.recv(self.segment)
                if not data:
                    break
                if len(data) == self.segment < _LARGEST_SEGMENT:
                    self.segment *= 2
                parts.append(data)
                gathered += len(data)
        finally:
            self.buffer = b"".join(parts)
            self.position = 0

    @property
    def closed(self) -> bool:
        return self.sock is None

    def close(self) -> None:
        self.sock = None


class BufferedResult:
    """What a `pymysql.connections.MySQLResult` is to its connection and its cursor, once all of it was read."""

    connection: Any = None
    affected_rows: int | None = None
    insert_id: int | None = None
    server_status: int | None = None
    warning_count = 0
    message: bytes | None = None
    field_count = 0
    fields: Sequence[Any] = ()
    description: tuple[Any, ...] | None = None
    rows: tuple[tuple[Any, ...], ...] | None = None
    has_next: int | None = None
    unbuffered_active = False


class _Columns:
    """The column definitions of a result: what PyMySQL makes of them, and how their values are converted."""

    __slots__ = (
        "_latest",
        "description",
        "encoding",
        "fields",
        "next_sequence",
        "number",
        "packets",
        "sequence",
        "size",
    )

    # Of those that are remembered: the bytes they came in, up to the warnings and the status of the EOF packet that
    # ends them; how many bytes that is with these; the numbers of the first packet, and of the one that follows.
    packets: bytes
    size: int
    sequence: int
    next_sequence: int

    def __init__(self, fields: list[Any], encoding: str) -> None:
        self.fields = fields
        self.number = len(fields)
        self.description = tuple(field.description() for field in fields)
        self.encoding = encoding
        self._latest: tuple[Any, bool, _Converting] = (None, False, [])  # `_converting` and what it was made of

    def converting(self, connection: Any) -> _Converting:
        decoders, use_unicode, converting = self._latest
        attributes = connection.__dict__
        if "decoders" in attributes:  # its borrower may have changed them
            return _converting(self.fields, attributes["decoders"], connection.use_unicode, self.encoding)
        shared = connection._pristine_decoders
        if decoders is not shared or use_unicode is not connection.use_unicode:
            decoders, use_unicode = shared, connection.use_unicode
            converting = _converting(self.fields, decoders, use_unicode, self.encoding)
            self._latest = decoders, use_unicode, converting
        return converting


# By their bytes, see `_Columns`, and the connection's encoding. Shared between threads, so never changed in place.
_known: dict[tuple[bytes, str], _Columns] = {}
_known_number = 0  # of columns in it; a lost update only keeps some more


def read_result(connection: Any, source: Source, only_ok: bool = False) -> BufferedResult | None:
    """Read one reply, as PyMySQL's `MySQLResult.read` does; None, and nothing is read, for what only PyMySQL knows.

    Args:
        only_ok: nothing but an OK packet is read.

    Raises what PyMySQL would. A value that cannot be converted is raised after the whole result was read, so that
    the connection stays at a command boundary.
    """
    if source.position == len(source.buffer) and "_read_bytes" not in connection.__dict__:  # no deadline
        _receive_ahead(connection, source)
    if len(source.buffer) - source.position < 5:
        _receive(connection, source, 4)
        if len(source.buffer) - source.position < 5:
            header = source.buffer[source.position :]
            if header[3] != connection._next_seq_id or header[:3] == b"\0\0\0":
                return None  # out of step, or empty: there may come nothing more
            _receive(connection, source, 5)
    kind = source.buffer[source.position + 4]
    if kind == 0:
        return _read_ok(connection, source)
    if only_ok or kind in _NO_RESULT:
        return None
    result = BufferedResult()
    columns = _known_columns(connection, source) or _read_columns(connection, source)
    result.field_count = columns.number
    result.fields = columns.fields
    result.description = columns.description
    rows, payload = _read_rows(connection, source, columns.converting(connection))
    result.rows = tuple(rows)
    result.affected_rows = len(rows)
    _end_rows(connection, source, result, payload)
    return result


_NO_RESULT = frozenset({0xFB, 0xFF})  # first bytes: LOAD DATA LOCAL, error


def _receive_ahead(connection: Any, source: Source) -> None:
    """Receive once into the buffer, of which all has been read; nothing when the socket's timeout must be set first.

    The errors are those of PyMySQL's `_read_bytes`, which cannot be asked for them: some versions of it begin by
    setting the timeout, on a socket that may be gone by now.
    """
    sock = source.sock
    if sock is None or not source.tells_timeout or sock.gettimeout() != connection._read_timeout:
        return
    try:
        source.buffer = sock.recv(source.segment)
        source.position = 0
    except OSError as error:
        connection._force_close()
        raise err.OperationalError(CR.CR_SERVER_LOST, f"{_LOST} ({error})") from error
    except BaseException:
        connection._force_close()
        raise
    if not source.buffer:
        connection._force_close()
        raise err.OperationalError(CR.CR_SERVER_LOST, _LOST)


def _read_ok(connection: Any, source: Source) -> BufferedResult | None:
    """An OK packet that is all here: rows, insert id (length-encoded), status, warnings, text."""
    buffer = source.buffer
    start = source.position
    length = _read_header(buffer, start)[0] ^ connection._next_seq_id << 24  # as in `_read_rows`
    end = start + 4 + length
    if not 7 <= length < _CONTINUED or end > len(buffer):
        return None
    result = BufferedResult()
    result.affected_rows = buffer[start + 5]
    result.insert_id = buffer[start + 6]
    at = start + 7
    if result.affected_rows > 0xFA or result.insert_id > 0xFA:
        result.affected_rows, at = _integer(buffer, start + 5)
        if at >= end:
            return None
        result.insert_id, at = _integer(buffer, at)
        if at + 4 > end:
            return None
    result.server_status, result.warning_count = _read_status(buffer, at)
    result.message = buffer[at + 4 : end]
    result.has_next = result.server_status & _MORE_RESULTS
    source.position = end
    connection._next_seq_id = (buffer[start + 3] + 1) & 0xFF
    return result


_read_status = struct.Struct("<HH").unpack_from


def _integer(data: bytes, at: int) -> tuple[int | None, int]:
    """The length-encoded integer at `at`, None for NULL, and where it ends."""
    value = data[at]
    at += 1
    if value < 0xFB:
        return value, at
    if value == 0xFB or value == 0xFF:  # which PyMySQL takes for NULL
        return None, at
    width = _WIDTHS[value]
    return int.from_bytes(data[at : at + width], "little"), at + width


def _known_columns(connection: Any, source: Source) -> _Columns | None:
    """Step over column definitions that came in the same bytes before; None when they did not, or not all are here."""
    buffer = source.buffer
    start = source.position
    encoding = connection.encoding
    columns = source.latest
    if columns is None or columns.encoding != encoding or not buffer.startswith(columns.packets, start):
        at = start + 5
        try:
            for _ in range(buffer[start + 4]):
                at += 4 + (buffer[at] | buffer[at + 1] << 8)
        except IndexError:
            return None
        columns = _known.get((buffer[start : at + 5], encoding))
        if columns is None:
            return None
        source.latest = columns
    end = start + columns.size
    if columns.sequence != connection._next_seq_id or end > len(buffer):
        return None
    source.position = end
    connection._next_seq_id = columns.next_sequence
    return columns


def _payload(connection: Any, source: Source, kind: Any = protocol.MysqlPacket) -> bytes:
    """The next packet's payload. `kind` is the packet that PyMySQL makes of it."""
    buffer = source.buffer
    position = source.position
    start = position + 4
    if start < len(buffer):
        length = buffer[position] | buffer[position + 1] << 8 | buffer[position + 2] << 16
        end = start + length
        sequence = connection._next_seq_id
        if (
            end <= len(buffer)
            and buffer[position + 3] == sequence
            and buffer[start] != 0xFF
            and 0 < length < _CONTINUED
        ):
            source.position = end
            connection._next_seq_id = (sequence + 1) & 0xFF
            return buffer[start:end]
    # Not all received yet, out of step, an error packet, 16 MB: PyMySQL's own way.
    return connection._read_packet(kind).get_all_data()  # type: ignore[no-any-return]


def _read_columns(connection: Any, source: Source) -> _Columns:
    """Read column definitions, and remember them."""
    buffer = source.buffer
    start = source.position
    encoding = connection.encoding
    packet: Any = protocol.MysqlPacket(_payload(connection, source), encoding)
    number = packet.read_length_encoded_integer()
    fields = []
    for _ in range(number):
        payload = _payload(connection, source, protocol.FieldDescriptorPacket)
        fields.append(protocol.FieldDescriptorPacket(payload, encoding))
    payload = _payload(connection, source)
    assert protocol.MysqlPacket(payload, encoding).is_eof_packet(), "Protocol error, expecting EOF"
    columns = _Columns(fields, encoding)
    if source.buffer is buffer and number < 0xFB and len(payload) == 5:
        _remember(columns, buffer[start : source.position - 4], connection._next_seq_id)
    return columns


def _remember(columns: _Columns, packets: bytes, next_sequence: int) -> None:
    global _known_number
    columns.packets = packets
    columns.size = len(packets) + 4
    columns.sequence = packets[3]
    columns.next_sequence = next_sequence
    _known_number += columns.number
    if _known_number > _CACHED_COLUMNS:
        _known.clear()
        _known_number = columns.number
    _known[packets, columns.encoding] = columns


def _converting(fields: list[Any], decoders: Any, use_unicode: bool, encoding: str) -> _Converting:
    converting: _Converting = []
    for field in fields:
        kind = field.type_code
        converter = decoders.get(kind)
        if converter is converters.through:
            converter = None
        text: str | None
        if not use_unicode:
            text = None
        elif kind == FIELD_TYPE.JSON:
            text = encoding
        elif kind in connections.TEXT_TYPES:
            text = None if field.charsetnr == 63 else encoding
        else:
            text = _AS_IT_IS if converter is int or converter is float else "ascii"
        if converter is converters.convert_datetime:
            converter = _datetime
        elif converter is converters.convert_date:
            converter = _date
        converting.append((text, converter))
    return converting


def _datetime(text: Any) -> Any:
    """As PyMySQL's `convert_datetime`, which takes care of everything but the usual form."""
    size = len(text)
    if (
        (size == 19 or (size == 26 and text[19] == "." and text[20:].isdigit()))
        and text[4] == text[7] == "-"
        and text[10] == " "
        and text[13] == text[16] == ":"
        and text[11:13] != "24"
    ):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    return converters.convert_datetime(text)


def _date(text: Any) -> Any:
    """As PyMySQL's `convert_date`."""
    if len(text) == 10 and text[4] == text[7] == "-":
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    return converters.convert_date(text)


def _read_rows(connection: Any, source: Source, converting: _Converting) -> tuple[list[tuple[Any, ...]], bytes]:
    """The rows, and the payload of the EOF packet that ends them."""
    rows: list[tuple[Any, ...]] = []
    sequence = connection._next_seq_id << 24
    buffer = source.buffer
    position = source.position
    received = len(buffer)
    while True:
        start = position + 4
        # Of a packet that is in step the number goes away, and the length remains; else it is beyond any length.
        length = _read_header(buffer, position)[0] ^ sequence if start <= received else 0
        end = start + length
        if length and end <= received and length < _CONTINUED and (first := buffer[start]) != 0xFF:
            sequence = (sequence + _ONE) & _NUMBER
            position = end
            data = buffer
        else:
            source.position = position
            connection._next_seq_id = sequence >> 24
            if start > received or (end > received and length < _CONTINUED):
                _receive(connection, source, 4 + length)
                buffer = source.buffer
                position = source.position
                received = len(buffer)
                continue
            # Out of step, empty, 16 MB, an error packet: PyMySQL's own way, which raises or joins.
            data = connection._read_packet().get_all_data()
            sequence = connection._next_seq_id << 24
            buffer = source.buffer
            position = source.position
            received = len(buffer)
            start, end = 0, len(data)
            first = data[0]
        if first == 0xFE and end - start < 9:
            source.position = position
            connection._next_seq_id = sequence >> 24
            return rows, data[start:end]
        try:
            rows.append(_row(data, start, end, converting))
        except Exception as error:
            source.position = position
            connection._next_seq_id = sequence >> 24
            if isinstance(error, _DoesNotFit):
                _raise_as_pymysql(data[start:end], len(converting))
            with suppress(Exception):  # what is wrong with the rest shows in the connection's state
                _skip_rows(connection, source)
            raise


_read_header = struct.Struct("<I").unpack_from  # 3 bytes of length, the packet's number
_ONE = 1 << 24  # in such a header
_NUMBER = 0xFF << 24


def _end_rows(connection: Any, source: Source, result: BufferedResult, payload: bytes) -> None:
    """Note what the EOF packet says."""
    warning_count, status = _read_eof(payload)
    result.server_status = status
    result.warning_count = warning_count
    result.has_next = has_next = status & _MORE_RESULTS
    source.segment = _SEGMENT
    connection._reply_read(status, warning_count, 0, has_next)


_read_eof = struct.Struct("<xHH").unpack_from  # 0xfe, warnings, status flags


def _skip_rows(connection: Any, source: Source) -> None:
    """Read and forget the rest of a result, so that the connection is in step."""
    while True:
        payload = _payload(connection, source)
        if payload[0] == 0xFE and len(payload) < 9:
            _end_rows(connection, source, BufferedResult(), payload)
            return


def _row(data: bytes, at: int, end: int, converting: _Converting) -> tuple[Any, ...]:
    row: list[Any] = []
    for text, converter in converting:
        if at >= end:
            break  # as PyMySQL: fewer values than columns
        size = data[at]
        at += 1
        if size > 0xFA:
            length, at = _integer(data, at - 1)
            if length is None:
                row.append(None)
                continue
            size = length
        after = at + size
        if after > end:
            raise _DoesNotFit
        value: Any = data[at:after]
        at = after
        if text:
            value = value.decode(text)
        if converter is not None:
            try:
                value = converter(value)
            except ValueError:
                if text != _AS_IT_IS:
                    raise
                value = converter(value.decode("ascii"))  # raises the same about the text
        row.append(value)
    return tuple(row)


_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def _raise_as_pymysql(payload: bytes, values: int) -> None:
    """Read a row with a value that does not fit as PyMySQL does; raises what PyMySQL raises."""
    packet: Any = protocol.MysqlPacket(payload, "")
    for _ in range(values):
        packet.read_length_coded_string()


def _receive(connection: Any, source: Source, wanted: int) -> None:
    """Receive until `wanted` bytes are in the buffer, with PyMySQL's timeouts, errors and closing."""
    if connection._current_timeout != connection._read_timeout:
        connection._sock.settimeout(connection._read_timeout)
        connection._current_timeout = connection._read_timeout
    data = connection._read_bytes(wanted)
    if source.position >= wanted:
        source.position -= wanted
    else:  # it was read in several pieces
        source.buffer = data + source.buffer[source.position :]
        source.position = 0
