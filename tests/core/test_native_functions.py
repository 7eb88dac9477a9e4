"""No stored function runs under a name that is read as a native function's or a keyword's.

The oracle is the server: a function is made under each of these names, which notes that it ran, and called in the ways
that are read as harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from pymysqlpool._driver.native_functions import KEYWORDS, native_functions
from pymysqlpool._driver.server_version import server_version
from pymysqlpool._driver.statements import NOTHING, reader_for
from tests.sweep import Sweep

FUNCTION = "create function `{}` (a int) returns int no sql begin set @ran = 1; return 1; end"
CALLS = ("select {}(0)", "select 1 from dual where 1 = {}(0)", "select 1 + {}(0), 'x'", "do {}(0)")  # 0: sleep() is one
SQL_MODES = {False: ("", "ANSI"), True: ("", "ANSI", "ORACLE")}


@pytest.fixture
def database(admin: Any) -> Iterator[Any]:
    with admin.cursor() as cursor:
        cursor.execute("drop database if exists functions")
        cursor.execute("create database functions")
        cursor.execute("use functions")
        yield cursor
        cursor.execute("drop database functions")


def runs_stored_code(cursor: Any, statement: str) -> bool:
    cursor.execute("set @ran = 0")
    try:
        cursor.execute(statement)
        cursor.fetchall()
    except pymysql.MySQLError as error:
        if error.args[0] in (1305, 1318):  # it looked for a stored function
            return True
    cursor.execute("select @ran")
    return bool(cursor.fetchone()[0])


def names_of(admin: Any) -> list[str]:
    return sorted(name.decode() for name in native_functions(*server_version(admin.server_version)) | KEYWORDS)


@pytest.mark.timeout(120)
def test_no_stored_function_runs_under_a_name_that_is_read_as_harmless(database: Any, admin: Any, sweep: Sweep) -> None:
    reader = reader_for("utf8mb4", admin.server_version)
    wrong, read = [], 0
    names = sweep.some(names_of(admin), 0.25)
    for name in names:
        database.execute(FUNCTION.format(name))
        assert runs_stored_code(database, f"select functions.`{name}`(1)"), "the function is there"
        calls = [call.format(spelling) for call in CALLS for spelling in (name, f"{name} ", f"{name.upper()}/* */")]
        for sql_mode in SQL_MODES[server_version(admin.server_version)[1]]:
            database.execute("set sql_mode = %s", (sql_mode,))
            for call in calls:
                if reader.read(call.encode()) == NOTHING:
                    read += 1
                    if runs_stored_code(database, call):
                        wrong.append((sql_mode, call))
        database.execute("set sql_mode = ''")
    assert not wrong, " ".join(sorted({call.split("(")[0] for _, call in wrong}))
    assert read > 2 * len(names)


def test_a_function_of_that_name_in_quotes_or_with_its_database_is_stored_code(database: Any, admin: Any) -> None:
    reader = reader_for("utf8mb4", admin.server_version)
    for name in names_of(admin):
        for call in (f"`{name}`(1)", f"functions.{name}(1)", f"functions . `{name}` (1)", f'"{name}"(1)'):
            assert reader.read(f"select {call}".encode()) != NOTHING, call


@pytest.mark.parametrize("name", ["count", "now", "substring", "max"])
def test_a_blank_before_the_parenthesis_makes_a_stored_function_of_some_native_ones(
    database: Any, admin: Any, name: str
) -> None:
    """Why a blank there is read as a call: of a function that the server cuts out as a keyword only without it."""
    database.execute("set sql_mode = ''")
    database.execute(FUNCTION.format(name))
    assert runs_stored_code(database, f"select {name} (1)")
    assert reader_for("utf8mb4", admin.server_version).read(f"select {name} (1)".encode()) != NOTHING
