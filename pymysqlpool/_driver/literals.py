"""Arguments of statements as SQL literals, by their types, in one pass.

Owns: for each plain type of Python a fast function that returns what PyMySQL's `Connection.escape` returns, byte for
byte. Everything else goes through `escape` itself: subclasses, sequences, bytes, and every type whose encoder is not
PyMySQL's own. Never: knows the text that the literals stand in.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from pymysql import converters
from pymysql.constants import SERVER_STATUS

from .pymysql_names import PyMySQLConnection

_NO_BACKSLASH_ESCAPES = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
_ESCAPE = PyMySQLConnection.escape

Literals = Mapping[type, Callable[[Any], str]]


def literals_of(connection: Any) -> Literals | None:
    """Return the functions that make literals of values of exact types on `connection`, valid until its next statement;
    None where its borrower may have changed its `escape` or its encoders."""
    if (
        "encoders" in connection.__dict__
        or getattr(connection.escape, "__func__", None) is not _ESCAPE
        or connection.server_status & _NO_BACKSLASH_ESCAPES
    ):
        return None
    global _latest
    encoders = getattr(connection, "_pristine_encoders", None)
    latest, literals = _latest
    if latest is not encoders:
        if encoders is None:
            return None
        literals = _literals(encoders)
        _latest = encoders, literals
    return literals


def _literals(encoders: Mapping[type, Any]) -> Literals:
    found: dict[type, Callable[[Any], str]] = {
        kind: short for kind, (encoder, short) in _SHORT.items() if encoders.get(kind) is encoder
    }
    found[str] = _str  # PyMySQL asks no encoder about it
    return found


def _str(value: str) -> str:
    # What repr() only puts quotes around has nothing to escape; it escapes a backslash, a single quote beside a double
    # one, and what is not printable.
    text = repr(value)
    if len(text) == len(value) + 2 and text[0] == "'" and '"' not in text:
        return text
    return f"'{converters.escape_string(value)}'"


def _bool(value: bool) -> str:
    return "1" if value else "0"


def _none(value: None) -> str:
    return "NULL"


def _float(value: float) -> str:
    text = repr(value)
    # Of infinity and "not a number" alone the text has an "n"; PyMySQL raises.
    return converters.escape_float(value) if "n" in text else text if "e" in text else text + "e0"


# What str() returns, without the detour by the type's __format__ and __str__.
def _datetime(value: datetime.datetime) -> str:
    return f"'{value.isoformat(' ')}'" if value.tzinfo is None else converters.encoders[datetime.datetime](value)


def _time(value: datetime.time) -> str:
    return f"'{value.isoformat()}'" if value.tzinfo is None else converters.encoders[datetime.time](value)


def _date(value: datetime.date) -> str:
    return f"'{value.isoformat()}'"


# By type: PyMySQL's encoder, and the short way to what it returns.
_SHORT: Mapping[type, tuple[Any, Callable[[Any], str]]] = {
    int: (converters.escape_int, str),
    bool: (converters.escape_bool, _bool),
    float: (converters.escape_float, _float),
    type(None): (converters.escape_None, _none),
    datetime.datetime: (converters.escape_datetime, _datetime),
    datetime.time: (converters.escape_time, _time),
    datetime.date: (converters.escape_date, _date),
}

# Of the encoders asked for last: those of a pool are one object, which is never changed in place. One tuple, because
# threads share it.
_latest: tuple[Any, Literals] = (None, {})
