"""PyMySQL's cursors in steps: what they do before and after a statement is answered.

An event loop that runs a cursor's statements needs the parts of `Cursor.execute`, `executemany`, `callproc` and
`nextset` between which PyMySQL waits. They are here, equal to PyMySQL's; its own methods are used where they do not
wait.

Owns: the steps of a cursor's statement that do not wait. Never: sends, receives, or waits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from pymysql import cursors, err
from pymysql.cursors import Cursor, DictCursorMixin, SSCursor

from . import former_cursors
from .buffered import IS_KNOWN, BufferedCursor, BufferedDictCursor
from .protocol.reply import fewer

PAUSE_AFTER = 200  # rows

_OWN = ("execute", "executemany", "callproc", "nextset", "fetchone", "fetchmany", "fetchall", "_query", "_nextset")


# As they are when this is imported. One that was put in PyMySQL's class later on, as tracers do, is called.
_EXECUTE, _EXECUTE_MANY, _CLOSE = Cursor.execute, Cursor.executemany, Cursor.close
_OF_PYMYSQL: Any = Cursor
_DO_GET_RESULT = _OF_PYMYSQL._do_get_result
# The classes without any method of a user's, whose results are tuples, and those whose results are all in memory.
_OF_TUPLES = frozenset((BufferedCursor, *([former_cursors.Cursor] if IS_KNOWN else [])))
_IN_MEMORY = _OF_TUPLES | {BufferedDictCursor, *([former_cursors.DictCursor] if IS_KNOWN else [])}


def kind_of(cursor: Any) -> tuple[bool, bool]:
    """Return whether it works as PyMySQL's cursors do, so that these steps are complete, and whether it is unbuffered.

    A user's class or wrapper with methods of its own must be called instead of these steps.
    """
    kind = type(cursor)
    known = _known.get(kind)
    if known is None:
        steps = False
        if issubclass(kind, Cursor):
            base = next(base for base in _BASES if issubclass(kind, base))
            steps = all(getattr(kind, name) is getattr(base, name) for name in _OWN)
        known = steps, isinstance(cursor, SSCursor)
        if issubclass(kind, Cursor):
            _known[kind] = known
    if Cursor.execute is not _EXECUTE or Cursor.executemany is not _EXECUTE_MANY:
        return False, known[1]
    return known


_BASES = (SSCursor, BufferedDictCursor, BufferedCursor, Cursor)
_known: dict[type, tuple[bool, bool]] = {}


def begin(cursor: Any) -> None:
    """A statement, or the next result, is about to be asked for."""
    if cursor.connection is None:
        raise err.ProgrammingError("Cursor closed")
    cursor._clear_result()


def executed(cursor: Any, query: Any) -> None:
    """`query` was answered."""
    cursor._executed = query


def executed_by(cursor: Any) -> Any:
    """The last statement as it was sent."""
    return cursor._executed


def answered(cursor: Any) -> None:
    """A result was read: it is the cursor's now."""
    cursor._do_get_result()


def conversion(cursor: Any, connection: Any) -> Generator[None, None, None] | None:
    """The steps that replace `answered` where the cursor converts each of many rows."""
    result = connection._result
    rows = result.rows
    if not isinstance(cursor, DictCursorMixin) or not rows:
        if type(rows) is list:
            result.rows = tuple(rows)
        return None
    at_once = fewer(PAUSE_AFTER, result.field_count)
    return _convert(cursor, result, at_once) if len(rows) > at_once else None


def _convert(cursor: Any, result: Any, at_once: int) -> Generator[None, None, None]:
    rows = result.rows if type(result.rows) is list else list(result.rows)  # a copy of a large one takes milliseconds
    result.rows = rows[:1]
    cursor._do_get_result()
    result.rows = ()
    convert = cursor._conv_row
    for start in range(0, len(rows), at_once):
        end = start + at_once
        rows[start:end] = map(convert, rows[start:end])  # in place: freeing all at once would take milliseconds
        yield
    cursor._rows = rows


def take(cursor: Any, connection: Any) -> Generator[None, None, None] | None:
    """The reply was read: `answered`, or the steps of `conversion` where it takes some."""
    if type(cursor) in _OF_TUPLES and _OF_PYMYSQL._do_get_result is _DO_GET_RESULT:  # the same, without the calls
        cursor._result = result = connection._result
        cursor.warning_count = result.warning_count
        cursor.description = result.description
        cursor.lastrowid = result.insert_id
        rows = result.rows
        if type(rows) is list:
            result.rows = rows = tuple(rows)
        cursor._rows = rows
        cursor.rowcount = result.affected_rows
        return None
    steps = conversion(cursor, connection)
    if steps is None:
        cursor._do_get_result()
    return steps


def close_quietly(cursor: Any) -> bool:
    """Close a buffered cursor without results to come, which reads nothing; False: it is not one."""
    if type(cursor) not in _IN_MEMORY or Cursor.close is not _CLOSE:
        return False
    if cursor._result is not None and cursor._result.has_next:
        return False
    cursor.connection = None
    return True


def has_another(cursor: Any, connection: Any) -> bool:
    """Whether the statement has another result, which `nextset` reads."""
    result = cursor._result
    return bool(result is not None and result is connection._result and result.has_next)


def leave(cursor: Any, connection: Any) -> None:
    """Record that the cursor is closed: the rest of an unbuffered result is not read through it."""
    result = cursor._result
    if result is not None and result is connection._result and isinstance(cursor, SSCursor):
        result._finish_unbuffered_query()


def closed(cursor: Any) -> None:
    cursor.connection = None


def statements_for_many(cursor: Any, query: Any, args: Iterable[Any]) -> Generator[Any, None, None] | None:
    """Of `executemany`: PyMySQL's bulk statements for an INSERT or REPLACE of values, one after the other; None in
    between is a pause. None instead of them all: `execute` is to be called for each of `args`."""
    match = cursors.RE_INSERT_VALUES.match(query)
    if match is None:
        return None
    return _bulk(cursor, match.group(1) % (), match.group(2).rstrip(), (match.group(3) or "") % (), iter(args))


def _bulk(cursor: Any, prefix: str, values: str, postfix: str, args: Any) -> Generator[Any, None, None]:
    encoding = cursor.connection.encoding
    before, after = prefix.encode(encoding), postfix.encode(encoding)
    longest = cursor.max_stmt_length
    statement = bytearray(before)
    statement += cursor.mogrify(values, next(args)).encode(encoding)
    for number, row in enumerate(args, 1):
        if not number % PAUSE_AFTER:
            yield None
        text = cursor.mogrify(values, row).encode(encoding)
        if len(statement) + len(text) + len(after) + 1 > longest:
            yield statement + after
            statement = bytearray(before)
        else:
            statement += b","
        statement += text
    yield statement + after


def statements_of_call(cursor: Any, name: str, args: Any) -> tuple[str | None, str]:
    """Of `callproc`: what sets the server variables, if there are arguments, and the CALL."""
    said: list[str] = []

    class Recorder(Cursor):
        def _query(self, query: Any) -> int:
            said.append(query)
            return 0

        def nextset(self) -> None:
            return None

    recorder = Recorder(cursor.connection)
    recorder.callproc(name, args)
    return (said[0] if len(said) > 1 else None), said[-1]


# -- unbuffered results ----------------------------------------------------------------------------------------


def result_of(cursor: Any) -> Any:
    return cursor._result
