"""One reply: OK, ERR, a result set, or a request for a local file.

`reply(...)` is a generator. It yields what it needs, and ends (`StopIteration.value`) with the reply:

    an int above 0          how many unread bytes must be in the source before it is resumed
    0                       nothing: `most` rows were read, resume it when convenient
    a LocalInfileRequest    send it an iterator over the content of the file
    bytes                   to be sent to the server

What receives and sends throws its errors into the generator. An exception from the generator means that the position in
the stream is unknown: only the ends above are command boundaries. `has_next` of an end says whether another reply
follows.

Owns: the order of packets in a reply; it checks their numbers, and joins payloads of 16 MB and more. Never: receives,
sends, or decides.

Protocol: MySQL Internals, "COM_QUERY Response": OK, ERR, LOCAL INFILE Request, Text Resultset (column count, column
definitions, EOF, rows, EOF).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from typing import Any

from pymysql import err, protocol
from pymysql.constants import CR

from .columns import Columns, Converting, known_columns, read_column, remember
from .packets import CONTINUED, ERR, MORE_RESULTS, OK, LocalInfileRequest, Reply, is_eof, is_ok, read_eof
from .rows import END, NotConvertedError, decode_row, decode_rows
from .source import Source, Steps, packet

ALL = sys.maxsize  # rows
USUAL = 8  # columns
_OUT_OF_SYNC = CR.CR_COMMANDS_OUT_OF_SYNC

_read_header = struct.Struct("<I").unpack_from
_read_end = struct.Struct("<IBHH").unpack_from  # of an EOF packet: header, 0xFE, warnings, status flags


def fewer(rows: int, columns: int) -> int:
    """How many rows with so many columns take as long as `rows` with the usual number."""
    return rows * USUAL // max(columns, USUAL) or 1


class ResultSet(Reply):
    """Columns and rows. Read to its end, or up to the rows, which `more_rows` reads."""

    failure: Exception | None = None  # a value could not be converted: raise it when the reply has been noted
    refusal: ERR | None = None  # what ended the rows, in place of the EOF packet
    is_whole = False  # the end of the rows was read

    rows: Any  # a list while they are read, then a tuple; of a result that was read in steps still a list
    server_status: int

    def __init__(self, columns: Columns, converting: Converting) -> None:
        self.field_count = columns.number
        self.fields = columns.fields
        self.description = columns.description
        self.converting = converting
        self.rows = []

    def end(self, payload: bytes, in_steps: bool = False) -> None:
        """Note the EOF packet, or the ERR packet in its place."""
        if payload[0] == 0xFF:
            self.unbuffered_active = False  # also where it makes no sense, which raises
            self.refusal = ERR.read(payload)
        else:
            self.warning_count, self.server_status = read_eof(payload)
            self.has_next = self.server_status & MORE_RESULTS
            if not self.unbuffered_active:
                self.affected_rows = len(self.rows)
                if not in_steps:
                    self.rows = tuple(self.rows)
        self.is_whole = True


def at_hand(
    source: Source,
    encoding: str,
    use_unicode: bool,
    decoders: Mapping[int, Any],
    is_shared: bool,
    unbuffered: bool = False,
    only_ok: bool = False,
    most: int = ALL,
) -> Any:
    """Read a usual reply that is in the source already: an OK, or a result set whose columns were seen before.

    `reply` without its steps, for the driver that has received most replies whole; see there.

    Returns:
        OK | ResultSet; one that is not `is_whole` is for `reply` to go on with. None: nothing was read, `reply` will.
    """
    buffer = source.buffer
    start = source.position
    columns: Columns | None = source.latest
    if (
        columns is None
        or columns.encoding != encoding
        or buffer[start : start + columns.size - 4] != columns.packets  # `startswith` takes twice as long
    ):
        if len(buffer) - start < 5:
            return None
        if buffer[start + 4] == 0:
            length = _read_header(buffer, start)[0] ^ source.sequence << 24
            end = start + 4 + length
            if not 7 <= length < CONTINUED or end > len(buffer):
                return None
            source.position = end
            source.sequence = (source.sequence + 1) & 0xFF
            return OK(buffer, start + 4, end)
        columns = known_columns(buffer, start, encoding)
        if columns is None:
            return None
        source.latest = columns
    position = start + columns.size
    number = columns.next_sequence << 24
    if only_ok or columns.sequence != source.sequence:
        return None
    latest, as_text, converting = columns.latest
    if not is_shared or latest is not decoders or as_text is not use_unicode:
        converting = columns.converting(decoders, use_unicode, is_shared)
    result = ResultSet(columns, converting)
    rows = result.rows
    if most < ALL and columns.number > USUAL:
        most = fewer(most, columns.number)
    read_rows = converting.read_rows
    if read_rows is not None and not unbuffered:
        position, number = read_rows(buffer, position, number, rows.append, most)
        if position + 9 == len(buffer):  # as below, in a third of the steps
            header, kind, warnings, status = _read_end(buffer, position)
            if kind == 0xFE and header == number | 5:
                result.warning_count = warnings
                result.server_status = status
                result.has_next = status & MORE_RESULTS
                result.affected_rows = len(rows)
                result.rows = tuple(rows)
                result.is_whole = True
                source.position = position + 9
                source.sequence = ((number >> 24) + 1) & 0xFF
                return result
        most -= len(rows)
    if position > len(buffer):
        return None
    source.position = position
    source.sequence = number >> 24
    if unbuffered:
        return result
    try:
        wanted = decode_rows(source, converting, rows, most)
    except NotConvertedError as unfit:
        result.failure = unfit.error
        return result
    if wanted == END:  # as `ResultSet.end` for an EOF packet, without the call
        payload = source.end
        result.warning_count, status = read_eof(payload)
        result.server_status = status
        result.has_next = status & MORE_RESULTS
        result.affected_rows = len(rows)
        result.rows = tuple(rows)
        result.is_whole = True
        source.position += 4 + len(payload)
        source.sequence = (source.sequence + 1) & 0xFF
    return result


def reply(
    source: Source,
    encoding: str,
    use_unicode: bool,
    decoders: Mapping[int, Any],
    is_shared: bool,
    unbuffered: bool = False,
    only_ok: bool = False,
    local_infile: bool | None = False,
    most: int = ALL,
    begun: Any = None,
    tried: bool = False,
) -> Steps:
    """Read one reply.

    Args:
        encoding: of the connection, for text.
        use_unicode: whether text becomes `str`.
        decoders: converters by column type; `is_shared` as for `Columns.converting`.
        unbuffered: end before the rows of a result set.
        only_ok: a result set is an error.
        local_infile: whether the statement may ask for a local file; None where the connection may not at all.
        most: yield 0 after so many rows, or fewer where they have many columns.
        begun: what `at_hand` has read of it.
        tried: `at_hand` was asked, of the bytes that are in the source now.

    Returns:
        OK | ERR | ResultSet. A result set with a `failure` and not `is_whole` could not be read to its end.
    """
    result = begun
    if result is None and not tried:
        if len(source.buffer) - source.position < 5:
            yield 4
        result = at_hand(source, encoding, use_unicode, decoders, is_shared, unbuffered, only_ok, most)
    if result is None:
        payload = yield from packet(source)
        if payload[0] == 0xFF:
            return ERR.read(payload)
        if is_ok(payload):
            return OK(payload, 0, len(payload))
        if only_ok:
            raise err.OperationalError(_OUT_OF_SYNC, "Command Out of Sync")
        if payload[0] == 0xFB:
            return (yield from _send_local_file(source, payload, local_infile))
        columns = yield from _read_columns(source, encoding, payload)
        if type(columns) is ERR:
            return columns
        result = ResultSet(columns, columns.converting(decoders, use_unicode, is_shared))
    if unbuffered or result.is_whole:
        return result
    if most < ALL and result.field_count > USUAL:
        most = fewer(most, result.field_count)
    while result.failure is None:
        try:
            wanted = decode_rows(source, result.converting, result.rows, most)
            if wanted >= 0:
                yield wanted
                continue
            payload = yield from packet(source)
            if payload[0] == 0xFF:
                return ERR.read(payload)
            if is_eof(payload):
                result.end(payload, most < ALL)
                return result
            result.rows.append(decode_row(payload, 0, len(payload), result.converting))
        except NotConvertedError as unfit:
            result.failure = unfit.error
    return (yield from _skip_rows(source, result))


def more_rows(source: Source, result: ResultSet, most: int) -> Steps:
    """The next rows of `result`, which `reply` has left unbuffered: those that are here, at most `most`.

    Yields as `reply` does. Returns a list of rows, an empty one when `result.is_whole`. If `result.failure` was set, it
    is to be raised in place of the row after them, which was passed over.
    """
    rows: list[tuple[Any, ...]] = []
    payload = b""
    while True:
        try:
            if payload:
                rows.append(decode_row(payload, 0, len(payload), result.converting))
                return rows
            wanted = decode_rows(source, result.converting, rows, most)
        except NotConvertedError as unfit:
            result.failure = unfit.error
            return rows
        except Exception as nonsense:  # noqa: BLE001 - raised when that row is due, after the rows before it
            result.failure = nonsense
            return rows
        if rows:
            return rows
        if wanted >= 0:
            yield wanted
            continue
        payload = yield from packet(source)
        if payload[0] == 0xFF or is_eof(payload):
            result.end(payload)
            return rows


def _read_columns(source: Source, encoding: str, count: bytes) -> Steps:
    """Read column definitions, after the packet with their `count`, and remember them; an ERR in their place."""
    buffer = source.buffer
    start = source.position - 4 - len(count)
    packets: Any = protocol.MysqlPacket(count, encoding)
    number = packets.read_length_encoded_integer()
    fields = []
    for _ in range(number):
        here = source.buffer
        at = source.position + 4
        length = _read_header(here, at - 4)[0] ^ source.sequence << 24 if at < len(here) else 0
        if 0 < length < CONTINUED and at + length <= len(here):  # as `packet`, without its steps
            payload = here[at : at + length]
            source.position = at + length
            source.sequence = (source.sequence + 1) & 0xFF
        else:
            payload = yield from packet(source)
        field = read_column(payload, encoding)  # in this order, as PyMySQL
        if payload[0] == 0xFF:
            return ERR.read(payload)
        fields.append(field)
    payload = yield from packet(source)
    if payload[0] == 0xFF:
        return ERR.read(payload)
    assert is_eof(payload), "Protocol error, expecting EOF"
    columns = Columns(fields, encoding)
    if source.buffer is buffer and number < 0xFB and len(payload) == 5:
        remember(columns, buffer[start : source.position - 4], source.sequence)
    return columns


def _skip_rows(source: Source, result: ResultSet) -> Steps:
    """A value could not be converted: read the rest, so that the stream is at a boundary."""
    try:
        while not result.is_whole:
            payload = yield from packet(source)
            if payload[0] == 0xFF or is_eof(payload):
                result.end(payload)
    except Exception:  # noqa: BLE001 - it is not whole, then, and the failure is what is raised
        pass
    return result


def _send_local_file(source: Source, payload: bytes, local_infile: bool | None) -> Steps:
    request = LocalInfileRequest(payload)
    if local_infile is None:
        request.refuse_without_option()
    if not local_infile:
        request.refuse()
    failure: Exception | None = None
    content = yield request
    while True:
        try:
            chunk = next(content, None)
        except Exception as error:  # noqa: BLE001 - raised after the server's reply to the end of the file
            failure = error
            break
        if chunk is None:
            break
        yield source.pack(chunk)
    yield source.pack(b"")
    payload = yield from packet(source)
    if payload[0] == 0xFF:
        return ERR.read(payload)
    if failure is not None:
        return ERR(failure)
    if not is_ok(payload):
        raise err.OperationalError(_OUT_OF_SYNC, "Commands Out of Sync")
    return OK(payload, 0, len(payload))
