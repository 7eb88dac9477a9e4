"""Text rows: from bytes to Python's values.

`decode_row` knows the columns at run time only. For a shape that comes often a function is made, with the columns
written out, which takes three quarters of the steps. Making one takes as long as some hundred rows. It reads usual
rows, and stops before everything else; the other code reads on from there, and raises what there is to raise.

Owns: the loop over complete row packets, and the values in them; the text of those functions, which holds numbers only
(encodings and converters are names in it). It leaves everything else in place: an EOF or ERR
packet, one of 16 MB, one with the wrong number, half a packet. Never: asks for bytes.

Protocol: MySQL Internals, "Text Resultset Row": a value is a length-encoded string, NULL is 0xfb.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from itertools import repeat
from typing import Any

from pymysql import protocol

from .columns import AS_IT_IS, WITHOUT_EFFECT, Converting, ReadRows
from .packets import CONTINUED, read_integer
from .source import Source

# What `decode_rows` says, where it is no number of bytes.
END = -1  # a whole EOF packet follows; its payload is `Source.end`
NO_ROW = -2  # something else follows: not a row, or a row that this file does not read

_MOST_COLUMNS = 40  # of a shape with a function of its own
_MOST_SHAPES = 256
_UTF8 = ("utf8", "utf-8")

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
    before = len(rows)
    read_rows = converting.read_rows
    try:
        if read_rows is not None:
            position, sequence = read_rows(buffer, position, sequence, append, most)
            most -= len(rows) - before
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
        if read_rows is None:
            converting.until_often -= len(rows) - before + 1
            if converting.until_often < 0:
                come_often(converting)


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


# -- a shape that comes often ------------------------------------------------------------------------------


def come_often(converting: Converting) -> None:
    """Have the rows of a result read by a function made for its shape, if they are such that one can be made."""
    converting.until_often = math.inf
    if 0 < len(converting) <= _MOST_COLUMNS and all(map(_has_no_effect, converting)):
        converting.read_rows = _reader_of_rows(tuple(converting))


def _has_no_effect(column: tuple[str | None, Any]) -> bool:
    """Whether its converter may be asked twice about the same value."""
    converter = column[1]
    return any(converter is known for known in WITHOUT_EFFECT)


_FUNCTION = """
def read_rows(data, position, number, append, most):
    received = len(data)
    try:
        for _ in repeat(None, most):
            at = position + 4
            size = data[at]
            if size > 0xFD:
                break
            length = read_header(data, position)[0] ^ number
            end = at + length
            if end > received or length >= {continued}:
                break{columns}
            if at > end:
                break
            append(({values},))
            position = end
            number = (number + {one}) & {all_numbers}
    except Exception:
        pass
    return position, number
"""
_NEXT_COLUMN = """
            size = data[at]"""
_COLUMN = """
            if size < 0xFB:
                v{at} = {value}
            elif size == 0xFB:
                v{at} = None
                at += 1
            else:
                v{at}, at = large(data, at, t{at}, c{at})"""


@lru_cache(_MOST_SHAPES)
def _reader_of_rows(shape: tuple[tuple[str | None, Any], ...]) -> ReadRows:
    """The function for rows of this shape, whose converters have no effect but what they return."""
    names: dict[str, Any] = {"read_header": _read_header, "repeat": repeat, "large": _large}
    columns = []
    for at, (text, converter) in enumerate(shape):
        value = "data[at + 1 : (at := at + 1 + size)]"
        if text:
            value += ".decode()" if text in _UTF8 else f".decode(t{at})"
        if converter is not None:
            value = f"c{at}({value})"
        columns.append(_COLUMN.format(at=at, value=value))
        names[f"t{at}"], names[f"c{at}"] = text, converter
    text_of_it = _FUNCTION.format(
        columns=_NEXT_COLUMN.join(columns),
        values=", ".join(f"v{at}" for at in range(len(shape))),
        continued=CONTINUED,
        one=_ONE,
        all_numbers=_NUMBER,
    )
    exec(text_of_it, names)  # as collections.namedtuple does it
    return names["read_rows"]  # type: ignore[no-any-return]


def _large(data: bytes, at: int, text: str | None, converter: Any) -> tuple[Any, int]:
    """A value of more than 250 bytes, and where it ends."""
    size, at = read_integer(data, at)
    if size is None:
        return None, at
    value: Any = data[at : at + size]
    if text:
        value = value.decode(text)
    return value if converter is None else converter(value), at + size
