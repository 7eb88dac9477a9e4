"""Buffered results, read faster than PyMySQL reads them, and exactly alike.

PyMySQL reads a packet by two small reads, an object and a method call per column. Here whole segments are taken from
the socket and walked by index. Column definitions, which repeat from query to query, are PyMySQL's own objects, made
once per distinct definition.

`Source` stands in the place of the socket's file object, so that whatever this file does not serve (the handshake, OK
packets, unbuffered results, LOAD DATA LOCAL) goes PyMySQL's own way over the same bytes: none is lost between the two.

What this file never does: send, or decide. It does touch PyMySQL's private names, like `_wire.py` beside it.

Protocol: MySQL Internals, "Text Resultset" (column count, column definitions, EOF, rows, EOF); a packet is a 3-byte
length, a sequence number and the payload, and a payload of 2^24 - 1 bytes or more is continued in the next packet.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from datetime import date, datetime
from typing import Any

from pymysql import connections, converters, protocol
from pymysql.constants import FIELD_TYPE, SERVER_STATUS

_SEGMENT = 16 * 1024  # bytes asked of the socket; twice as many each time they all come, while a result is read
_LARGEST_SEGMENT = 256 * 1024
_CONTINUED = 0xFFFFFF
_MORE_RESULTS = SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS
_CACHED_COLUMNS = 4096

# Definition and encoding to PyMySQL's packet and its description. Shared, so never changed.
_columns: dict[tuple[bytes, str], tuple[Any, tuple[Any, ...]]] = {}

# In place of an encoding: ASCII, but the converter makes the same value of the bytes.
_AS_IT_IS = ""


class _DoesNotFit(Exception):
    """A value is longer than its packet."""


class Source:
    """The bytes from the server that have been received and not read yet."""

    __slots__ = ("_sock", "buffer", "position", "segment")

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock
        self.buffer = b""
        self.position = 0
        self.segment = _SEGMENT

    @property
    def is_empty(self) -> bool:
        return self.position == len(self.buffer)

    def more(self) -> bool:
        """Receive once and append; False at the end of the stream."""
        if self._sock is None:
            return False
        data = self._sock.recv(self.segment)
        self.buffer = self.buffer[self.position :] + data
        self.position = 0
        return bool(data)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer only at the end of the stream. As a buffered file's `read`."""
        if len(self.buffer) - self.position < size:
            self._gather(size)
        start = self.position
        data = self.buffer[start : start + size]
        self.position = start + len(data)
        return data

    def read1(self, size: int) -> bytes:
        """At most `size` bytes after at most one receive."""
        if self.is_empty:
            self.more()
        start = self.position
        data = self.buffer[start : start + size]
        self.position = start + len(data)
        return data

    def _gather(self, size: int) -> None:
        """Receive until `size` bytes are there, without copying all of them at each receive."""
        parts = [self.buffer[self.position :]]
        gathered = len(parts[0])
        try:
            while gathered < size and self._sock is not None:
                data = self._sock.recv(self.segment)
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
        return self._sock is None

    def close(self) -> None:
        self._sock = None


def read_result(connection: Any, result: Any, source: Source) -> None:
    """Read one reply to a COM_QUERY into `result`, as PyMySQL's `MySQLResult.read` does.

    Raises what PyMySQL would. A value that cannot be converted is raised after the whole result was read, so that
    the connection stays at a command boundary.
    """
    try:
        if source.position == len(source.buffer):
            _receive(connection, source, 4)
        payload = _payload(connection, source)
        kind = payload[0]
        if 0 < kind < 0xFB:
            result.field_count = kind
            _read_columns(connection, result, source)
            _read_rows(connection, result, source)
            return
        packet = protocol.MysqlPacket(payload, connection.encoding)
        if packet.is_ok_packet():
            result._read_ok_packet(packet)
        elif packet.is_load_local_packet():
            result._read_load_local_packet(packet)
        else:
            result.field_count = packet.read_length_encoded_integer()
            _read_columns(connection, result, source)
            _read_rows(connection, result, source)
    finally:
        result.connection = None


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


def _read_columns(connection: Any, result: Any, source: Source) -> None:
    encoding = connection.encoding
    use_unicode = connection.use_unicode
    decoders = connection.decoders
    fields = []
    description = []
    result.converters = converting = []
    for _ in range(result.field_count):
        payload = _payload(connection, source, protocol.FieldDescriptorPacket)
        known = _columns.get((payload, encoding))
        if known is None:
            field: Any = protocol.FieldDescriptorPacket(payload, encoding)
            known = (field, field.description())
            if len(_columns) >= _CACHED_COLUMNS:
                _columns.clear()
            _columns[payload, encoding] = known
        field, described = known
        fields.append(field)
        description.append(described)
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
    payload = _payload(connection, source)
    assert protocol.MysqlPacket(payload, encoding).is_eof_packet(), "Protocol error, expecting EOF"
    result.fields = fields
    result.description = tuple(description)


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


def _read_rows(connection: Any, result: Any, source: Source) -> None:
    rows: list[tuple[Any, ...]] = []
    converting = result.converters
    sequence = connection._next_seq_id
    buffer = source.buffer
    position = source.position
    while True:
        wanted = 4
        is_usual = True
        start = position + 4
        if start <= len(buffer):
            length = buffer[position] | buffer[position + 1] << 8 | buffer[position + 2] << 16
            wanted += length
            is_usual = buffer[position + 3] == sequence and 0 < length < _CONTINUED
        end = position + wanted
        if is_usual and (wanted == 4 or end > len(buffer)):
            source.position = position
            connection._next_seq_id = sequence
            _receive(connection, source, wanted)
            buffer = source.buffer
            position = source.position
            continue
        if is_usual and buffer[start] != 0xFF:
            sequence = (sequence + 1) & 0xFF
            position = end
            data = buffer
        else:
            # Out of step, empty, 16 MB, an error packet: PyMySQL's own way, which raises or joins.
            source.position = position
            connection._next_seq_id = sequence
            data = connection._read_packet().get_all_data()
            sequence = connection._next_seq_id
            buffer = source.buffer
            position = source.position
            start, end = 0, len(data)
        if data[start] == 0xFE and end - start < 9:
            source.position = position
            connection._next_seq_id = sequence
            _end_rows(connection, result, source, data[start:end], rows)
            return
        try:
            rows.append(_row(data, start, end, converting))
        except Exception as error:
            source.position = position
            connection._next_seq_id = sequence
            if isinstance(error, _DoesNotFit):
                _raise_as_pymysql(data[start:end], len(converting))
            with suppress(Exception):  # what is wrong with the rest shows in the connection's state
                _skip_rows(connection, result, source)
            raise


def _end_rows(connection: Any, result: Any, source: Source, payload: bytes, rows: list[tuple[Any, ...]]) -> None:
    """Note what the EOF packet says."""
    warning_count, status = struct.unpack_from("<xHH", payload)
    result.server_status = status
    result.warning_count = warning_count
    result.has_next = status & _MORE_RESULTS
    result.affected_rows = len(rows)
    result.rows = tuple(rows)
    source.segment = _SEGMENT
    connection._reply_read(status, warning_count, 0, result.has_next)


def _skip_rows(connection: Any, result: Any, source: Source) -> None:
    """Read and forget the rest of a result, so that the connection is in step."""
    while True:
        payload = _payload(connection, source)
        if payload[0] == 0xFE and len(payload) < 9:
            _end_rows(connection, result, source, payload, [])
            return


def _row(data: bytes, at: int, end: int, converting: list[tuple[str | None, Any]]) -> tuple[Any, ...]:
    row: list[Any] = []
    for text, converter in converting:
        if at >= end:
            break  # as PyMySQL: fewer values than columns
        size = data[at]
        at += 1
        if size > 0xFA:
            if size == 0xFB or size == 0xFF:  # NULL; and what PyMySQL takes for it
                row.append(None)
                continue
            width = _WIDTHS[size]
            size = int.from_bytes(data[at : at + width], "little")
            at += width
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
    source.buffer = data + source.buffer[source.position :]
    source.position = 0
