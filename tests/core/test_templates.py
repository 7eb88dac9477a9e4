"""A statement with arguments is judged by its template, once, where the arguments cannot change how it is read."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql import converters

from pymysqlpool._driver import buffered, literals
from pymysqlpool._driver.lexer import Bytes
from pymysqlpool._driver.native_functions import native_functions
from pymysqlpool._driver.server_version import server_version
from pymysqlpool._driver.session_state import OPAQUE
from pymysqlpool._driver.statements import NOTHING, STATE, Reader
from tests.conftest import MakePool

LITERALS = literals._literals(converters.encoders)
FUNCTIONS = native_functions(*server_version("10.11.6-MariaDB"))
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.text(alphabet="ab'\"\\%`?-#/* \n\0@(;", max_size=12),
    st.sampled_from(
        ["--", "/*", "*/", "'; set @a = 1; -- ", "\\", "\\'", "?", "%s", "", "x' or get_lock('a', 1) or '"]
    ),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
)
# What a template may be made of: with all that begins, ends or joins a token.
WORDS = (
    *(
        "select",
        "insert into t values",
        "update t set a",
        "delete from t where",
        "do",
        "with",
        "set",
        "where",
        "a",
        "t",
    ),
    *(
        "limit",
        "in",
        "is",
        "null",
        "as",
        "value",
        "for",
        "next",
        "and",
        "get_lock",
        "last_insert_id",
        "concat",
        "_utf8",
    ),
    *("into outfile", "union", "on duplicate key update", "begin", "é", "interval", "day", "x", "n", "1", "0x", "1e"),
)
MARKS = (
    *(" ", " ", " ", "\n", "\t", "(", ")", ",", "=", "<", ">", "+", "-", "--", "-- ", "#", "/", "*", "/*", "*/", "/*!"),
    *("'", '"', "`", "\\", "@", "@@", ".", ";", ":=", "?", "%%", "!", "_", "$", "\0", "\xa0", "\x1f", "|", "&", "%"),
)
PIECE = st.one_of(st.just("%s"), st.just(" %s "), st.sampled_from(WORDS), st.sampled_from(MARKS))
TEMPLATE = st.one_of(
    st.lists(PIECE, max_size=14).map("".join),
    st.lists(PIECE, max_size=14).map(" ".join),
    st.lists(PIECE, max_size=12).map(lambda pieces: "select %s, " + " ".join(pieces)),
)


def new_reader(kind: Bytes = Bytes.UTF8, escapes: bool = True) -> Reader:
    return Reader(kind, FUNCTIONS, escapes=escapes)


def takes(template: str, reader: Reader | None = None) -> bool:
    reader = reader or new_reader()
    reader.takes_literals(template)  # the first time is only noted
    return reader.takes_literals(template)


def fill(template: str, values: Callable[[], Any]) -> str | None:
    try:
        number = template.replace("%%", "").count("%s")
        made = [values() for _ in range(number)]
        return template % tuple([LITERALS[type(value)](value) for value in made])
    except (TypeError, ValueError):
        return None


@given(TEMPLATE, st.data())
def test_no_text_of_a_template_that_takes_literals_has_an_effect(template: str, data: st.DataObject) -> None:
    reader = new_reader()
    if not takes(template, reader):
        return
    for _ in range(3):
        text = fill(template, lambda: data.draw(PLAIN))
        assert text is not None
        sent = text.encode(errors="surrogatepass")
        assert reader.read(sent) == NOTHING, (template, text)
        tokens = reader._lexer.tokens(sent)  # by the text itself, not by its skeleton
        assert b"\0" in sent or tokens is None or reader._judge(tokens) == NOTHING, (template, text)


@pytest.mark.parametrize(
    "template",
    [
        "SELECT 1",
        "SELECT a, b FROM t WHERE a = %s AND b=%s",
        "INSERT INTO t (a, b) VALUES (%s, %s), (%s,%s)",
        "INSERT INTO `t` (`a`) VALUES (%s) ON DUPLICATE KEY UPDATE `a` = %s",
        "UPDATE `d`.`t` SET a = a + %s, b = concat(%s, b) WHERE id IN (%s, %s) LIMIT %s;",
        "DELETE FROM t WHERE a <= %s\n  AND b > %s",
        "/* a comment */ SELECT %s -- and one more",
    ],
)
def test_usual_templates_take_literals(template: str) -> None:
    assert takes(template)


@pytest.mark.parametrize(
    "template",
    [
        "SELECT '%s'",
        "SELECT 'a', %s",  # not cut here, so that no placeholder can be in a string
        'SELECT "%s"',
        "SELECT `%s` FROM t",
        "SELECT /* %s */ 1",
        "SELECT 1 -- %s",
        "SELECT 1 # %s",
        "SELECT a%s",
        "SELECT %sa",
        "SELECT @%s",
        "SELECT -%s",
        "SELECT t.%s",
        "SELECT %s%s",
        "SELECT 1 AS %s (",  # `AS -1 (` and `AS 0.0e0 (` are other tokens than `AS ? (`
        "WITH %s (a) AS (SELECT 1) SELECT a",
        "INSERT INTO %s (a) VALUES (1)",
        "INSERT INTO %s . t (a) VALUES (1)",
        "INSERT INTO d. %s (a) VALUES (1)",
        "SELECT \\%s",
        "SELECT 5 %% %s",
        "SELECT %(a)s",
        "SELECT get_lock(%s, 1)",
        "SELECT stored(%s)",
        "SELECT @a := %s",
        "SELECT last_insert_id(%s)",
        "INSERT INTO t VALUES (%s) RETURNING a",
        "SET @a = %s",
        "SET autocommit = %s",
        "CALL p(%s)",
        "/*! SELECT */ %s",
        "%s",
        "",
        "SELECT %s " + "a" * 10_000,
    ],
)
def test_other_templates_have_their_texts_read(template: str) -> None:
    assert not takes(template)


def test_a_template_is_judged_when_it_comes_again() -> None:
    reader = new_reader()
    assert [reader.takes_literals("SELECT %s") for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("kind", "escapes"), [(Bytes.SINGLE, True), (Bytes.DOUBLE, True), (Bytes.UTF8, False)], ids=str
)
def test_templates_are_judged_where_the_literals_are_cut_for_certain(kind: Bytes, escapes: bool) -> None:
    assert not takes("SELECT %s", new_reader(kind, escapes))


needs_own_cursor = pytest.mark.skipif(not buffered.IS_KNOWN, reason="PyMySQL before 1.2 has its own cursors")


@needs_own_cursor
def test_the_text_of_a_template_is_not_read(make_pool: MakePool) -> None:
    with make_pool(size=1).get_connection() as connection:
        cursor = connection.cursor()
        read = connection._read_statement.__self__
        before = set(read._effects)
        for number in range(5):
            cursor.execute("SELECT %s, %s -- not read", (number, "it's"))
        assert cursor.fetchall() == ((4, "it's"),)
        assert len(set(read._effects) - before) == 1  # the first
        assert connection.marks == NOTHING


@needs_own_cursor
def test_what_is_known_of_one_text_is_not_said_of_another(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    with pool.get_connection() as connection:
        cursor = connection.cursor()
        for _ in range(3):
            cursor.mogrify("SELECT %s", (1,))  # and it is not sent
        connection.query("SET @a = 1")
        assert connection.marks & STATE
        assert connection.effect == OPAQUE
    with pool.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @a")
        assert cursor.fetchone() == (None,)


@needs_own_cursor
def test_a_text_made_before_backslashes_stopped_to_escape_is_read(make_pool: MakePool) -> None:
    pool = make_pool(size=1, autocommit=True)
    with pool.get_connection() as connection:
        cursor = connection.cursor()
        for _ in range(3):
            text = cursor.mogrify("SELECT %s", ("' , @a := 1 -- ",))
        connection.query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
        connection._marks = NOTHING
        connection._harmless = text
        connection.query(text)
        assert connection.effect == OPAQUE  # the server has set @a


@needs_own_cursor
def test_a_text_that_cannot_be_sent_does_not_end_the_next(make_pool: MakePool) -> None:
    with make_pool(size=1).get_connection() as connection:
        cursor = connection.cursor()
        for _ in range(3):
            with pytest.raises(UnicodeEncodeError):
                cursor.execute("SELECT %s", ("\ud800",))
        cursor.execute("SELECT 1, 2, 3")
        assert cursor.fetchone() == (1, 2, 3)
