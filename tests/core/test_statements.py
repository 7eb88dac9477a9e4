"""The reading of a statement's text: never harmless where the server would leave a trace.

The oracle is a real session: texts are put together at random, and each that is read as harmless is run. What the
session shows afterwards must be what it showed before. `PYMYSQLPOOL_FUZZ=200000` makes that many texts for each
sql_mode (a thousand by default), `PYMYSQLPOOL_FUZZ_FROM` begins at another seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, SERVER_STATUS

from pymysqlpool._driver.statements import AUTOCOMMIT, DATABASE, INSERT_ID, NOTHING, STATE, reader_for

TEXTS = int(os.environ.get("PYMYSQLPOOL_FUZZ", "1100"))
FIRST = int(os.environ.get("PYMYSQLPOOL_FUZZ_FROM", "0"))

SCHEMA = (
    "drop database if exists reading", "create database reading", "use reading",
    "create table t (a int, b varchar(20)) engine=innodb",
    "create table autos (id int auto_increment primary key, a int) engine=innodb", "insert into t values (1, 'x')",
    "create function f() returns int no sql begin set @trace = 1; return 1; end",
    "create function g(a int) returns int no sql begin set @trace = 1; return 1; end",
    "create function `count` (a int) returns int no sql begin set @trace = 1; return 1; end",
    "create function `été`() returns int no sql begin set @trace = 1; return 1; end",
    "create procedure p() set @trace = 1",
)  # fmt: skip
SEQUENCE = "create sequence s"

# What leaves a trace, if the server reads it.
TRACES = (
    "f()", "f ()", "F/**/()", "`f`()", "reading.f()", "reading . f ()",
    "g(1)", "f--\n()", "f#\n()", "été()", "get_lock('l', 0)", "get_lock\n('l',0)", "count (1)", "@trace := 1",
    "(select f())", "if(f(),1,2)", "-f()", "+f()", "{fn f()}", "1 in (f())", "case f() when 1 then 2 end",
    "nextval(s)", "next value for s", "/*! f() */", "/*!50000f()*/", "/*M! f() */", "/*M!100000 f() */",
    "/*!99999 1, */f()", "last_insert_id(7)", "abs(f())", "json_array(f())", '"x"f()', "(f())",
    "exists(select f())", "row(1,f())", "now()+f()",
)  # fmt: skip
COVERS = (
    "'", "'", '"', "`", "\\", "\\'", '\\"', "''", '""', "``", "'x'", '"x"', "`a`", "--", "-- ", "--\x01", "--\t",
    "--\r", "#", "/*", "*/", "/*/", "/**/", "/*!", "/*!50000", "/*M!", "/*+", "\n", "\r", "\r\n", " ", "\x0b",
    "\x00", ",", ",", "1", "1,", "a", "a,", "(", ")", ".", "-", "+", "as x", "é", "\xa0", "?", "%", "0x4", "x'41'",
    "_utf8mb4'a'", "N'a'", "1e", ".5", "$", "$$", "$x$", "@@sql_mode", "; ", "--'\n", "#'\n", "/*'*/", "from t",
    "where a =", "and ", "'a'b", "1a", b"\xa1\\".decode("latin1"), b"\xa1'".decode("latin1"),
    b"\x81`".decode("latin1"), b"\x83\\".decode("latin1"), b"\xa0".decode("latin1"), b"\xe9'".decode("latin1"),
)  # fmt: skip
BEGINNINGS = (
    ("select ", ""), ("select a, ", " from t"), ("select 1, ", " from t"), ("insert into t (b) values (concat(", "))"),
    ("update t set b = concat(", ")"), ("delete from t where a in (", ")"), ("do ", ""), ("(select ", ")"),
    ("with c as (select ", ") select * from c"), ("explain select ", ""), ("\n select\t", "\n"),
    ("SELECT ALL ", " limit 1"),
    ("/* x */ select ", ";"), ("-- x\nselect ", " -- x"), ("#x\nselect ", " # x"), ("select 1 in (", ")"),
    ("replace into t (b) values (concat(", "))"), ("values (", ")"), ("select ", " from dual where 1=1"),
)  # fmt: skip
CHARSETS = ("utf8mb4", "latin1", "gbk", "sjis", "cp932", "big5", "cp1250", "ujis", "euckr", "gb18030", "ascii")
SQL_MODES = ("", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "IGNORE_SPACE")
# Whole statements, harmless or not.
STATEMENTS = (
    "insert into autos (a) values (1)", "insert into autos (a) values (1), (2)",
    "insert into autos (a) select a from t", "insert into autos (a) values (1) returning id",
    "insert ignore into autos (id, a) values (1, 1)",
    "insert into autos (id, a) values (1, 1) on duplicate key update a = 2", "replace into autos (a) values (3)",
    "insert into autos (id, a) values (1, 1) on duplicate key update id = last_insert_id(id)", "analyze table t",
    "update autos set a = last_insert_id(a + 1)", "select last_insert_id(5)", "select last_insert_id()",
    "analyze insert into autos (a) values (5)", "analyze format=json insert into autos (a) values (5)",
    "create table x (id int auto_increment primary key, a int)", "create temporary table x (a int)",
    "drop table if exists x", "create /* */ temporary table x (a int)",
    "create or replace temporary table x (a int)", "create index i on t (a)",
    "create table x (id int auto_increment primary key) select 1 as a", "alter table t add column c int",
    "create table x (id int auto_increment primary key, a int) select a from t", "drop index i on t",
    "alter table t drop column c", "alter table x add column id2 int", "truncate table autos", "truncate t",
    "create table x (id int auto_increment primary key, a int) values (1, 2)", "rename table x to y",
    "create table x like t", "create table if not exists x (a varchar(10) default 'f()', key k (a))",
    "drop temporary table x", "set role none", "set @trace = 1", "set names latin1", "use mysql", "use `mysql`",
    "set statement sql_mode='' for select 1", "select 1; set @trace = 1", "begin not atomic set @trace = 1; end",
    "call p()", "execute immediate 'set @trace = 1'", "prepare q from 'select 1'", "handler t open",
    "lock tables t read", "unlock tables", "flush tables", "xa start 'x'", "select a from t into @trace",
    "select a into @trace from t", "select 1 into outfile '/nonexistent/x'", "help 'x'",
    "select a from t procedure analyse()", "select sql_calc_found_rows a from t",
    "select found_rows(), row_count()", "select * from t for update", "select * from t lock in share mode",
    "show warnings", "show create table t", "desc t", "show variables like 'a%'", "explain select * from t",
    "explain update t set a = 1", "table t", "values (1), (2)", "start transaction", "start transaction read only",
    "commit", "rollback", "commit and chain", "savepoint s1", "begin", "rollback to s1", "release savepoint s1",
    "start transaction with consistent snapshot", "set autocommit = 0", "set @@autocommit := 1",
    "set session autocommit = on", "set sql_mode = 'ansi'", "checksum table t", "check table t",
    "with recursive c (n) as (select 1 union all select n + 1 from c where n < 3) select * from c", "kill query 0",
    "select cast('2' as decimal(10, 2)), convert('a', char(10))", "select next value for s",
    "select previous value for s", "select lastval(s)", "select setval(s, 50)", "select * from s",
    "insert into t (a) values (nextval(s))", "do sleep(0)", "select count(*), max(a) over (partition by b) from t",
    "select group_concat(a order by b separator ',') from t", "select date_add(now(), interval 1 day)",
    "select {d '2020-01-01'}", "select {fn now()}", "optimize table t", "delete t from t where a = 99",
    "update t set a = a + 1 order by a limit 1", "delete from t limit 0", "shutdown_not",
    "grant select on reading.* to nobody_here", "create or replace view v as select f()", "drop view if exists v",
    "create database if not exists reading2", "drop database if exists reading2",
    "set transaction isolation level serializable", "load data infile '/nonexistent' into table t",
    "change master to master_host='x'", "reset query cache", "purge binary logs",
)  # fmt: skip


class Session:
    """A session to run texts in, and what it shows."""

    def __init__(self, connect_args: dict[str, Any], charset: str, sql_mode: str) -> None:
        self.connection = pymysql.connect(
            **{**connect_args, "database": "reading"},
            charset=charset,
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            sql_mode=sql_mode,
        )
        self.connection.encoding = "latin1"  # reads whatever comes
        self.reader = reader_for(charset, self.connection.server_version)
        self.is_mariadb = "mariadb" in self.connection.server_version.lower()

    def read(self, text: bytes) -> int:
        status = self.connection.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
        return self.reader.read(text, status)

    def run(self, text: bytes) -> tuple[int, int, int]:
        """The error's number or 0, the last reply's insert id, its status."""
        connection = self.connection
        try:
            connection.query(text)
            while connection._result.has_next:
                connection.next_result()
        except pymysql.MySQLError as error:
            return int(error.args[0]), 0, 0
        return 0, connection._result.insert_id or 0, connection._result.server_status or 0

    def shows(self) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(
                "select @trace, is_used_lock('l') <=> connection_id(), last_insert_id(), database(), @@sql_mode,"
                " @@character_set_client, @@session.autocommit, current_role()"
                + (", lastval(reading.s)" if self.is_mariadb else "")
            )
            return cursor.fetchone()

    def holds_temporary_table(self) -> bool:
        return self.run(b"drop temporary table x")[0] == 0

    def clean(self) -> None:
        self.run(b"set @trace = null, last_insert_id = 0, autocommit = 1")
        self.run(b"do release_lock('l')")

    def close(self) -> None:
        self.connection.close()


@pytest.fixture(scope="module")
def prepared(server: Any) -> Iterator[dict[str, Any]]:
    arguments = {**server.connect_args, "ssl_disabled": True}
    admin = pymysql.connect(**arguments, autocommit=True)
    with admin.cursor() as cursor:
        for statement in (*SCHEMA, *([SEQUENCE] if "mariadb" in admin.server_version.lower() else [])):
            cursor.execute(statement)
        yield arguments
        cursor.execute("drop database reading")
    admin.close()


def soup(random: Random, most: int) -> str:
    return "".join(random.choices(COVERS, k=random.randint(0, most)))


# Where a trace may hide, or seem to hide.
WRAPS = (
    "'{}'", "'{}'", '"{}"', "/*{}*/ 1", "1 -- {}\n", "1 #{}\n", "1 as `{}`", '1 as "{}"', "{}", "1 --{}\n",
    "1 as '{}'", "concat('{}')", "1 /*'*/, '{}'", "'{}' 'x'", "x'41', '{}'", "1 --\n, '{}'", r"'\\', '{}'",
    "''" + "'{}'", "'{}'" + "''", "N'{}'", "{}",
)  # fmt: skip


def text_of(random: Random) -> str:
    elements = []
    for _ in range(random.randint(1, 3)):
        inside = soup(random, 2) + random.choice(TRACES) + soup(random, 2)
        elements.append(random.choice(WRAPS).replace("{}", inside))
    beginning, end = random.choice(BEGINNINGS)
    listed = random.choice((", ", ",", " , ", ",\n")).join(elements)
    return beginning + listed + soup(random, 1) * (random.random() < 0.2) + end


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sql_mode", SQL_MODES)
@pytest.mark.parametrize("charset", CHARSETS)
def test_what_is_read_as_harmless_leaves_no_trace(prepared: dict[str, Any], charset: str, sql_mode: str) -> None:
    try:
        session = Session(prepared, charset, sql_mode)
    except pymysql.MySQLError:
        pytest.skip(f"no {charset} here")
    clean = session.shows()
    ran = 0
    for seed in range(FIRST, FIRST + TEXTS // len(CHARSETS)):
        text = text_of(Random(f"{seed} {charset} {sql_mode}")).encode("utf-8" if charset == "utf8mb4" else "latin1")
        if session.read(text) != NOTHING:
            continue
        error, _, _ = session.run(text)
        if not error:  # one that fails is reset
            ran += 1
            assert session.shows() == clean, f"seed {seed}: {text!r} is read as harmless"
    session.close()
    assert ran > TEXTS // len(CHARSETS) // 10


@pytest.mark.timeout(300)
def test_statements_that_are_read_as_harmless_show_their_effect_in_the_reply(prepared: dict[str, Any]) -> None:
    for statement in STATEMENTS:
        session = Session(prepared, "utf8mb4", "")
        clean = session.shows()
        text = statement.encode()
        effect = session.read(text)
        error, insert_id, status = (1, 0, 0) if effect & STATE else session.run(text)
        if error:  # is reset
            session.close()
            continue
        seen = session.shows()
        temporary = session.holds_temporary_table()
        session.close()
        assert not temporary, statement
        expected = list(clean)
        if seen[2] != clean[2]:
            assert insert_id or effect & INSERT_ID, f"{statement}: LAST_INSERT_ID() is {seen[2]}, unsaid"
            expected[2] = seen[2]
        if effect == DATABASE:
            expected[3] = "mysql"
        if effect == AUTOCOMMIT:
            expected[6] = bool(status & SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT)
        assert list(seen) == expected, statement


# -- judged once ------------------------------------------------------------------------------------------


def test_statements_that_differ_in_their_literals_are_judged_once() -> None:
    reader = reader_for("utf8mb4", "10.11.7-MariaDB")
    before = len(reader._skeletons)
    for number in range(1000):
        text = f"insert into t (a, b) values ({number}, 'it\\'s {number}'), (NULL, 'f() -- {number}'), (-{number}, '`')"
        assert reader.read(text.encode()) == NOTHING
        values = ", ".join(["1"] * (number % 50 + 1))
        assert reader.read(f"select a from t where a in ({values}) and b = 'x{number}'".encode()) == NOTHING
    assert len(reader._skeletons) - before == 2
