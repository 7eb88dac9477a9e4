"""The cursors of pooled connections are PyMySQL's to every eye: stock PyMySQL beside them is the oracle."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import Cursor, DictCursor, SSCursor

from pymysqlpool._driver import buffered
from tests.conftest import MakePool

pytestmark = pytest.mark.skipif(not buffered.IS_KNOWN, reason="the cursors of PyMySQL before 1.2 are left as they are")

ATTRIBUTES = (
    "arraysize",
    "description",
    "lastrowid",
    "rowcount",
    "rownumber",
    "warning_count",
    "_executed",
    "_rows",
)


class Text(str):
    __slots__ = ()


class Number(int):
    pass


VALUES = [
    *(0, -1, 2**70, True, False, None, 1.5, -0.0, 1e300, 1e-7, 10.0, Number(3), Decimal("1.50"), Decimal("1E+3")),
    *("", "plain", "it's", 'say "x"', "both ' and \"", "back\\slash", "line\nend", "\0\r\x1a\x7f\xa0\u2028", "ä€😀"),
    *("%", "%s", "'", '"', "\\", Text("it's"), b"", b"\0'\xff", bytearray(b"abc")),
    *(datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.datetime(7, 1, 2, 3, 4, 5, 6)),
    datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    *(datetime.date(2024, 2, 29), datetime.date(1, 1, 1), datetime.time(1, 2, 3), datetime.time(1, 2, 3, 4)),
    datetime.time(1, 2, 3, tzinfo=datetime.UTC),
    *(datetime.timedelta(days=-1, seconds=1), time.gmtime(0), [1, "a'"], (None, 2.0), {"s"}),
]
REFUSED = [float("nan"), float("inf"), -float("inf"), Decimal("NaN"), {"a": 1}, object()]
ANY_VALUE = st.one_of(
    st.text(),
    st.text(alphabet="ab'\"\\%\n\0 é"),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(timezones=st.none() | st.just(datetime.UTC)),
    st.timedeltas(max_value=datetime.timedelta(days=30)),
    st.decimals(),
    st.binary(),
)


@pytest.fixture
def pair(make_pool: MakePool, connect_args: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """A pooled connection and a plain one of PyMySQL's."""
    pool = make_pool(size=1)
    with pool.get_connection() as ours:
        theirs = pymysql.connect(**connect_args)
        yield ours, theirs
        theirs.close()


def outcome(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - compared
        return type(error), str(error)


def sent_by(connection: Any, function: Any) -> tuple[Any, list[bytes]]:
    """What `function` returns or raises, and the statements that it sends over `connection`."""
    sent = []
    execute_command = connection._execute_command

    def noted(command: int, sql: Any) -> None:
        sent.append(bytes(sql if not isinstance(sql, str) else sql.encode(connection.encoding)))
        execute_command(command, sql)

    connection._execute_command = noted
    try:
        return outcome(function), sent
    finally:
        del connection._execute_command


@pytest.mark.parametrize("no_backslashes", [False, True])
def test_a_statement_with_arguments_has_the_same_bytes(pair: tuple[Any, Any], no_backslashes: bool) -> None:
    if no_backslashes:
        for connection in pair:
            connection.query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
    ours, theirs = (connection.cursor() for connection in pair)
    for value in (*VALUES, *REFUSED):
        for query, args in (
            ("SELECT %s", (value,)),
            ("SELECT %s, %s", [value, 1]),
            ("SELECT %(a)s", {"a": value}),
            ("SELECT %s, %s", (value,)),
            ("SELECT %d", (value,)),
            ("SELECT 1", (value,)),
            ("SELECT '%%'", ()),
        ):
            assert outcome(ours.mogrify, query, args) == outcome(theirs.mogrify, query, args), (query, args)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(ANY_VALUE, max_size=6))
def test_any_arguments_have_the_same_bytes(pair: tuple[Any, Any], args: list[Any]) -> None:
    ours, theirs = (connection.cursor() for connection in pair)
    query = "INSERT INTO t VALUES (" + ", ".join(["%s"] * len(args)) + ")"
    assert outcome(ours.mogrify, query, args) == outcome(theirs.mogrify, query, args)


def test_converters_of_the_borrowers_own_are_asked(pair: tuple[Any, Any]) -> None:
    for connection in pair:
        connection.encoders[int] = lambda value, mapping: f"<{value}>"
    ours, theirs = (connection.cursor() for connection in pair)
    assert ours.mogrify("%s", (1,)) == theirs.mogrify("%s", (1,)) == "<1>"


def test_converters_of_the_pools_are_asked(make_pool: MakePool, connect_args: dict[str, Any]) -> None:
    conv = {**pymysql.converters.conversions, int: lambda value, mapping: f"<{value}>"}
    with make_pool(size=1, conv=conv).get_connection() as ours:
        assert ours.cursor().mogrify("%s, %s", (1, "a'")) == "<1>, 'a\\''"


def test_an_escape_of_the_borrowers_own_is_asked(pair: tuple[Any, Any]) -> None:
    for connection in pair:
        connection.escape = lambda value, mapping=None: "X"
    ours, theirs = (connection.cursor() for connection in pair)
    assert ours.mogrify("%s", (1,)) == theirs.mogrify("%s", (1,)) == "X"


ROWS: list[Any] = [(1, "it's", None), [2, "ä" * 40, 1.5], (3, "", Decimal("1.5")), (Number(4), Text("x"), b"\xff")] * 40


@pytest.mark.parametrize(
    "rows",
    [ROWS, tuple(ROWS), iter(ROWS), [{"a": 1, "b": "x", "c": None}], [(1, 2, 3), (1,)], [(float("nan"), 1, 2)], []],
    ids=["list", "tuple", "iterator", "dicts", "too few", "refused", "none"],
)
@pytest.mark.parametrize("longest", [200, 1000, 1_024_000])
def test_a_bulk_insert_sends_the_same_statements(pair: tuple[Any, Any], rows: Any, longest: int) -> None:
    rows = list(rows) if not isinstance(rows, (list, tuple)) else rows
    holders = "(%(a)s, %(b)s, %(c)s)" if rows and isinstance(rows[0], dict) else "(%s, %s, %s)"
    results = []
    for connection in pair:
        cursor = connection.cursor()
        cursor.execute("CREATE TEMPORARY TABLE bulk (a TEXT, b TEXT CHARACTER SET utf8mb4, c TEXT)")
        cursor.max_stmt_length = longest
        query = f"INSERT INTO bulk VALUES {holders} ON DUPLICATE KEY UPDATE a = 1"
        found = sent_by(connection, lambda cursor=cursor, query=query: cursor.executemany(query, rows))
        results.append((found, cursor.rowcount, cursor._executed))
        cursor.execute("SELECT * FROM bulk")
        results[-1] += (cursor.fetchall(),)
    assert results[0] == results[1]


STATEMENTS = [
    "SELECT 1",
    "SELECT 1 AS a, 2 AS a, NULL AS b",
    "SELECT 1 FROM DUAL WHERE 1 = 0",
    "DO 1",
    "SELECT x.a, y.a, y.b FROM (SELECT 1 AS a) x, (SELECT 2 AS a, 3 AS b UNION SELECT 4, 5) y",
    "SELECT 1 / 0",
    "SELECT nonsense",
    "INSERT INTO made VALUES (NULL), (NULL)",
    "SELECT 1; SELECT 2, 3; DO 1",
]


@pytest.mark.parametrize("kind", [Cursor, DictCursor])
def test_a_cursor_shows_the_same(make_pool: MakePool, connect_args: dict[str, Any], kind: type[Any]) -> None:
    multi = pymysql.constants.CLIENT.MULTI_STATEMENTS
    seen: list[list[Any]] = [[], []]
    pool = make_pool(size=1, client_flag=multi)
    with pool.get_connection() as ours, pymysql.connect(**connect_args, client_flag=multi) as theirs:
        for connection, notes in zip((ours, theirs), seen, strict=True):
            cursor = connection.cursor(kind)
            assert isinstance(cursor, kind)
            assert (type(cursor).__name__, type(cursor).__module__) == (kind.__name__, kind.__module__)

            def look(cursor: Any = cursor, notes: list[Any] = notes) -> None:
                notes.append([getattr(cursor, name, None) for name in ATTRIBUTES])

            look()
            notes.append(outcome(cursor.fetchone))
            cursor.execute("CREATE TEMPORARY TABLE made (id INT AUTO_INCREMENT PRIMARY KEY)")
            for statement in STATEMENTS:
                notes.append(outcome(cursor.execute, statement))
                look()
                for function in (cursor.fetchone, lambda cursor=cursor: cursor.fetchmany(1), cursor.fetchall):
                    notes.append(outcome(function))
                notes.append(outcome(cursor.scroll, 0, "absolute"))
                while cursor.nextset():
                    look()
                    notes.append(cursor.fetchall())
            cursor.close()
            for method in ("nextset", "fetchone", "close"):
                notes.append(outcome(getattr(cursor, method)))
            notes.append(outcome(cursor.execute, "SELECT 1"))
            notes.append(outcome(cursor.mogrify, "%s", (1,)))
            notes.append(outcome(cursor.executemany, "INSERT INTO made VALUES (%s)", [(1,)]))
    assert seen[0] == seen[1]


def test_a_dict_of_a_class_of_the_users_is_made(pair: tuple[Any, Any]) -> None:
    class Row(dict[str, Any]):
        pass

    class RowCursor(DictCursor):
        dict_type = Row

    for connection in pair:
        dressed = connection.cursor(DictCursor)
        dressed.dict_type = Row
        for cursor in (dressed, connection.cursor(RowCursor)):
            cursor.execute("SELECT 1 AS a UNION SELECT 2")
            assert [type(row) for row in cursor.fetchall()] == [Row, Row]


def test_a_cursor_class_of_the_users_is_what_is_made(make_pool: MakePool) -> None:
    class Mine(Cursor):
        pass

    with make_pool(size=1, cursorclass=Mine).get_connection() as connection:
        assert type(connection.cursor()) is Mine
        assert type(connection.cursor(SSCursor)) is SSCursor
        derived = type("Derived", (type(connection.cursor(Cursor)),), {})
        cursor = connection.cursor(derived)
        cursor.execute("SELECT %s", (1,))
        assert cursor.fetchall() == ((1,),)


@pytest.mark.parametrize("name", ["execute", "_query", "fetchone", "executemany", "close"])
def test_what_wraps_a_method_of_pymysqls_class_sees_its_calls(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original = getattr(Cursor, name)
    for kind in (Cursor, DictCursor):
        cursor = pair[0].cursor(kind)
        seen: list[Any] = []

        def wrapper(self: Any, *arguments: Any, seen: list[Any] = seen) -> Any:
            seen.append(self)
            return original(self, *arguments)

        monkeypatch.setattr(Cursor, name, wrapper)
        cursor.execute("SELECT 1 AS a")
        cursor.fetchone()
        cursor.executemany("SELECT %s", [(1,)])
        cursor.close()
        assert seen
        assert set(map(id, seen)) == {id(cursor)}
        monkeypatch.undo()


def test_a_pools_cursors_take_the_short_way_whichever_way_they_are_asked_for(make_pool: MakePool) -> None:
    with make_pool(size=1).get_connection() as connection:
        for cursor in (connection.cursor(), connection.cursor(Cursor)):
            assert isinstance(cursor, buffered.BufferedCursor)
        assert isinstance(connection.cursor(DictCursor), buffered.BufferedDictCursor)
    with make_pool(size=1, cursorclass=DictCursor).get_connection() as connection:
        assert isinstance(connection.cursor(), buffered.BufferedDictCursor)


def test_converters_that_change_are_those_of_connections_made_later(
    make_pool: MakePool, connect_args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with PyMySQL, which reads its table at each connect; the pool shares what is the same."""

    def seen(connection: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1.50, %s", (complex(1, 2),))
            return cursor.fetchone()

    pool = make_pool(size=3, maxsize=3)
    monkeypatch.setitem(pymysql.converters.conversions, complex, lambda value, mapping=None: f"'{value.imag:g}'")
    first, second = pool.get_connection(), pool.get_connection()
    assert first.decoders == second.decoders
    assert first._pristine_decoders is second._pristine_decoders
    monkeypatch.setitem(pymysql.converters.conversions, FIELD_TYPE.NEWDECIMAL, lambda text: f"<{text}>")
    third = pool.get_connection()
    with pymysql.connect(**connect_args) as oracle:
        assert seen(third) == seen(oracle) == ("<1.50>", "2")
    assert seen(first) == seen(second) == (Decimal("1.50"), "2")
    for connection in (first, second, third):
        connection.close()
