"""Text rows: from bytes to Python's values.

Owns: the loop over complete row packets, and the values in them. It leaves everything else in place: an EOF or ERR
packet, one of 16 MB, one with the wrong number, half a packet. Never: asks for bytes.

Protocol: MySQL Internals, "Text Resultset Row": a value is a length-encoded string, NULL is 0xfb.
"""

from __future__ import annotations

import struct
from itertools import repeat
from typing import Any

from pymysql import protocol

from .columns import AS_IT_IS, Converting
from .packets import CONTINUED, read_integer
from .source import Source

# What `decode_rows` says, where it is no number of bytes.
END = -1  # a whole EOF packet follows; its payload is `Source.end`
NO_ROW = -2  # something else follows: not a row, or a row that this file does not read

_read_header = struct.Struct("<I").unpack_from  # 3 bytes of length, the packet's number
_ONE = 1 << 24  # in such a header
_NUMBER = 0xFF << 24


class NotConvertedError(Exception):
    """A converter failed on a value; `error` is what it raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _DoesNotFit(Exception):
    """A value is longer than its packet."""


def decode_rows(source: Source, converting: Converting, rows: list[tuple[Any, ...]], most: int) -> int:
    """Append to `rows` those that are complete in `source`, at most `most`.

    Returns:
        How many unread bytes there must be to go on; 0 after `most` rows; END or NO_ROW.

    Raises:
        NotConvertedError: a row could not be made; it was read, and so were those before it.
    """
    buffer = source.buffer
    position = source.position
    received = len(buffer)
    sequence = source.sequence << 24
    append = rows.append
    try:
        for _ in repeat(None, most):
            start = position + 4
            if start > received:
                return 4
            # Of a packet that is in step the number goes away, and the length remains; else it is beyond any length.
            length = _read_header(buffer, position)[0] ^ sequence
            end = start + length
            if end > received:
                return 4 + length if length < CONTINUED else NO_ROW
            if not length or length >= CONTINUED:
                return NO_ROW
            first = buffer[start]
            if first > 0xFD:
                if first == 0xFF:
                    return NO_ROW
                if length < 9:
                    source.end = buffer[start:end]
                    return END
            sequence = (sequence + _ONE) & _NUMBER
            position = end
            append(decode_row(buffer, start, end, converting))
        return 0
    finally:
        source.position = position
        source.sequence = sequence >> 24


def decode_row(data: bytes, at: int, end: int, converting: Converting) -> tuple[Any, ...]:
    """The row whose payload is `data[at:end]`; see `decode_rows`."""
    start = at
    row: list[Any] = []
    try:
        for text, converter in converting:
            if at >= end:
                break  # as PyMySQL: fewer values than columns
            size = data[at]
            at += 1
            if size > 0xFA:
                length, at = read_integer(data, at - 1)
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
                    if text != AS_IT_IS:
                        raise
                    value = converter(value.decode("ascii"))  # raises the same about the text
            row.append(value)
    except _DoesNotFit:
        pass
    except Exception as error:
        raise NotConvertedError(error) from error
    else:
        return tuple(row)
    _raise_as_pymysql(data[start:end], len(converting))
    raise AssertionError("PyMySQL reads a row that does not fit in its packet")


def _raise_as_pymysql(payload: bytes, values: int) -> None:
    """Read a row with a value that does not fit as PyMySQL does; raises what PyMySQL raises."""
    packet: Any = protocol.MysqlPacket(payload, "")
    for _ in range(values):
        packet.read_length_coded_string()
