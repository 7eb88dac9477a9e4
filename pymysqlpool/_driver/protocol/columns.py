"""The column definitions of a result: what PyMySQL makes of them, and how their values are converted.

Owns: a cache of column definitions, keyed by the received bytes: those of a result repeat from query to query. Of each
column definition a `FieldDescriptorPacket` of PyMySQL's is made, which is what its users find in
`result.fields`. Never: reads rows.

Protocol: MySQL Internals, "Text Resultset", "Protocol::ColumnDefinition41".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pymysql import connections, converters, protocol
from pymysql.constants import FIELD_TYPE

_MOST_REMEMBERED = 4096  # columns
_MOST_SEEN_ONCE = 1024  # results
_OFTEN = 300  # rows and replies with the same columns

# In place of an encoding: ASCII, but the converter makes the same value of the bytes.
AS_IT_IS = ""

# (bytes received, position, number of the next packet << 24, append, most rows) -> where it stopped: position, number
ReadRows = Callable[[bytes, int, int, Callable[[Any], None], int], tuple[int, int]]


class Converting(list[tuple[str | None, Any]]):
    """For each column the encoding of its text, None for bytes, and the converter, if there is one."""

    __slots__ = ("read_rows", "until_often")

    def __init__(self, columns: Iterable[tuple[str | None, Any]] = ()) -> None:
        super().__init__(columns)
        self.read_rows: ReadRows | None = None  # where they come often, see `rows`
        self.until_often: float = _OFTEN  # so many more rows and replies


_read_numbers = struct.Struct("<xHIBHBxx").unpack_from  # 13 bytes
_new_field: Any = protocol.FieldDescriptorPacket.__new__


def read_column(payload: bytes, encoding: str) -> Any:
    """What `FieldDescriptorPacket(payload, encoding)` makes or raises, in fewer steps where it is as usual: six short
    strings, then numbers."""
    at = 0
    texts = []
    try:
        for _ in range(6):
            size = payload[at]
            if size > 0xFA:
                return protocol.FieldDescriptorPacket(payload, encoding)
            at += 1
            texts.append(payload[at : at + size])
            at += size
        numbers = _read_numbers(payload, at)
    except (IndexError, struct.error):
        return protocol.FieldDescriptorPacket(payload, encoding)  # raises
    field = _new_field(protocol.FieldDescriptorPacket)
    field._data = payload
    field._position = at + 13
    field.catalog, field.db, table_name, org_table, name, org_name = texts
    field.table_name = table_name.decode(encoding)
    field.org_table = org_table.decode(encoding)
    field.name = name.decode(encoding)
    field.org_name = org_name.decode(encoding)
    field.charsetnr, field.length, field.type_code, field.flags, field.scale = numbers
    return field


class Columns:
    """The column definitions of a result: what PyMySQL makes of them, and how their values are converted."""

    __slots__ = (
        "description",
        "encoding",
        "fields",
        "latest",
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
        self.latest: tuple[Any, bool, Converting] = (None, False, Converting())  # and what it was made of

    def converting(self, decoders: Mapping[int, Any], use_unicode: bool, is_shared: bool) -> Converting:
        """How the values of each column are made of their text.

        Args:
            decoders: by a column's type, as PyMySQL has them.
            is_shared: whether `decoders` is the same for many results and never changed in place.
        """
        if not is_shared:
            return _converting(self.fields, decoders, use_unicode, self.encoding)
        latest, as_text, converting = self.latest
        if latest is not decoders or as_text is not use_unicode:
            converting = _converting(self.fields, decoders, use_unicode, self.encoding)
            self.latest = decoders, use_unicode, converting
        return converting


# By their bytes, see `Columns`, and the connection's encoding. Shared between threads, so never changed in place.
_known: dict[tuple[bytes, str], Columns] = {}
_known_number = 0  # of columns in it; a lost update only keeps some more
# Hashes of such keys that came once. Names of columns may hold values (`SELECT 1 + 2`), and a definition that never
# repeats is not worth keeping.
_seen_once: set[int] = set()


def known_columns(buffer: bytes, start: int, encoding: str) -> Columns | None:
    """The column definitions at `start`, if they came in the same bytes before; None when they did not, or not all are
    here."""
    at = start + 5
    try:
        for _ in range(buffer[start + 4]):
            at += 4 + (buffer[at] | buffer[at + 1] << 8)
    except IndexError:
        return None
    return _known.get((buffer[start : at + 5], encoding))


def remember(columns: Columns, packets: bytes, next_sequence: int) -> None:
    """Find `columns` again by `packets`, the bytes that they came in up to the status of the EOF packet, if they
    came the same before."""
    global _known_number
    key = packets, columns.encoding
    once = hash(key)
    if once not in _seen_once:
        if len(_seen_once) >= _MOST_SEEN_ONCE:
            _seen_once.clear()
        _seen_once.add(once)
        return
    columns.packets = packets
    columns.size = len(packets) + 4
    columns.sequence = packets[3]
    columns.next_sequence = next_sequence
    _known_number += columns.number
    if _known_number > _MOST_REMEMBERED:
        _known.clear()
        _known_number = columns.number
    _known[key] = columns


def _converting(fields: list[Any], decoders: Any, use_unicode: bool, encoding: str) -> Converting:
    converting = Converting()
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
            text = AS_IT_IS if converter is int or converter is float else "ascii"
        if converter is converters.convert_datetime:
            converter = _datetime
        elif converter is converters.convert_date:
            converter = _date
        converting.append((text, converter))
    return converting


def _datetime(text: Any) -> Any:
    """As PyMySQL's `convert_datetime`, which takes care of everything but the usual form."""
    if (
        text[4:17:3] == "-- ::"  # 2024-02-29 12:34:56
        and (len(text) == 19 or (len(text) == 26 and text[19] == "." and text[20:].isdigit()))
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


# Converters that may be asked twice about the same value.
WITHOUT_EFFECT = (None, int, float, Decimal, _datetime, _date, converters.convert_timedelta)
