"""PyMySQL's `Cursor` and `DictCursor` in fewer steps.

Owns: what `connection.cursor()` makes where PyMySQL's own two buffered classes are asked for: subclasses of them, with
shorter forms of the private methods between a public one and the reply. The public methods are PyMySQL's, so whatever
wraps one of them (`Cursor.execute`, as tracers do) sees every statement. A user's own cursor class is not touched.
Never: sends, receives; it asks the connection as PyMySQL's cursors do, by `query` and `next_result`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from pymysql import err

from .literals import literals_of
from .pymysql_names import PyMySQLCursor, PyMySQLDictCursor
from .statements import LONGEST_READ, Reader

_MOST_COLUMNS = 200  # of a result whose rows become dicts in one go

# As they are when this is imported. One that was put in PyMySQL's class later on is called.
_QUERY = PyMySQLCursor._query
_CONVERT_ROW = PyMySQLDictCursor._conv_row


class _Quick(PyMySQLCursor):
    # What PyMySQL's __init__ sets one by one.
    warning_count = 0
    description = None
    rownumber = 0
    rowcount = -1
    arraysize = 1
    _executed: Any = None
    _result: Any = None
    _rows: Any = None

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def _nextset(self, unbuffered: bool = False) -> Any:
        result = self._result
        if self.connection is not None and (result is None or not result.has_next):
            return None
        return super()._nextset(unbuffered)

    def _mogrify(self, query: Any, args: Any) -> Any:
        connection = self._get_db()
        literals = literals_of(connection)
        if literals is not None:
            kind = type(args)
            values: Any = None
            try:
                if kind is tuple or kind is list:
                    values = tuple([literals[type(value)](value) for value in args])
                elif kind is dict:
                    values = {key: literals[type(value)](value) for key, value in args.items()}
            except KeyError:
                values = None
            if values is not None:
                try:
                    text = query % values
                except TypeError as error:
                    raise err.ProgrammingError(str(error)) from error
                if kind is not dict and type(query) is str:
                    reader = getattr(connection._read_statement, "__self__", None)
                    if type(reader) is Reader and len(text) <= LONGEST_READ and reader.takes_literals(query):
                        connection._harmless = text
                return text
        return super()._mogrify(query, args)

    def _do_execute_many(self, prefix: Any, values: Any, postfix: Any, args: Any, most: int, encoding: Any) -> Any:
        """PyMySQL's bulk INSERT: the same statements, of rows that are made into literals as they are."""
        if type(args) is not list and type(args) is not tuple:  # code of the user's runs between two rows
            return super()._do_execute_many(prefix, values, postfix, args, most, encoding)
        connection = self._get_db()
        encoding = connection.encoding
        if isinstance(prefix, str):
            prefix = prefix.encode(encoding)
        if isinstance(postfix, str):
            postfix = postfix.encode(encoding)
        room = most - len(postfix)
        literals: Any = literals_of(connection) or {}
        affected = 0
        parts: list[bytes] = []
        size = 0
        for row in args:
            try:
                if type(row) is not tuple and type(row) is not list:
                    raise KeyError
                made = tuple([literals[type(value)](value) for value in row])
            except KeyError:
                text = self._mogrify(values, row)
            else:
                try:
                    text = values % made
                except TypeError as error:
                    raise err.ProgrammingError(str(error)) from error
            data = text.encode(encoding)
            if not parts:
                size = len(prefix)
            elif size + len(data) + 1 > room:
                affected += self.execute(bytearray(prefix + b",".join(parts) + postfix))
                literals = literals_of(connection) or {}
                parts = []
                size = len(prefix)
            else:
                size += 1
            parts.append(data)
            size += len(data)
        affected += self.execute(bytearray(prefix + b",".join(parts) + postfix))
        self.rowcount = affected
        return affected


class BufferedCursor(_Quick):
    def _query(self, q: Any) -> Any:
        if PyMySQLCursor._query is not _QUERY:
            return super()._query(q)
        connection = self.connection
        if not connection:
            raise err.ProgrammingError("Cursor closed")
        self.rownumber = 0
        self._result = None
        self.rowcount = 0
        self.warning_count = 0
        self.description = None
        self.lastrowid = None
        self._rows = None
        connection.query(q)
        self._result = result = connection._result
        self.warning_count = result.warning_count
        self.description = result.description
        self.lastrowid = result.insert_id
        self._rows = result.rows
        self.rowcount = affected = result.affected_rows
        return affected


class BufferedDictCursor(_Quick, PyMySQLDictCursor):
    def _do_get_result(self) -> None:
        result = self.connection._result if self.connection else None
        rows = getattr(result, "rows", None)
        description = getattr(result, "description", None)
        if (
            not rows
            or not description
            or self.dict_type is not dict
            or getattr(self._conv_row, "__func__", None) is not _CONVERT_ROW
            or len(description) > _MOST_COLUMNS
        ):
            super()._do_get_result()
            return
        PyMySQLCursor._do_get_result(self)
        names = [column[0] for column in description]
        if len(set(names)) != len(names):
            for at, field in enumerate(self._result.fields):
                if field.name in names[:at]:
                    names[at] = f"{field.table_name}.{field.name}"
        self._fields = names
        try:
            self._rows = _dicts_of(len(names))(rows, names)
        except ValueError:  # a row with fewer values than there are columns
            self._rows = [self._conv_row(row) for row in rows]


@cache
def _dicts_of(number: int) -> Callable[[Any, list[str]], list[dict[str, Any]]]:
    """A function of rows of so many values and of their names, for the dicts of them: one expression that takes a row
    apart and puts a dict together, which is three times as fast as `dict(zip(names, row))`. Its text has numbers only.
    """
    names = ", ".join(f"n{at}" for at in range(number))
    values = ", ".join(f"v{at}" for at in range(number))
    pairs = ", ".join(f"n{at}: v{at}" for at in range(number))
    made: dict[str, Any] = {}
    exec(  # as collections.namedtuple does it
        f"def dicts(rows, names):\n {names}, = names\n return [{{{pairs}}} for {values}, in rows]", made
    )
    return made["dicts"]  # type: ignore[no-any-return]


for _kind, _base in ((BufferedCursor, PyMySQLCursor), (BufferedDictCursor, PyMySQLDictCursor)):
    for _name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(_kind, _name, getattr(_base, _name))  # what a traceback or a repr shows is what a user knows

# PyMySQL before 1.2 puts its cursors together in another way; they stay as they are.
IS_KNOWN = hasattr(PyMySQLCursor, "_mogrify")
