"""Ways to dirty a session, and a picture of all that a session shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor

from pymysqlpool._driver.reading import COPIED

Dirty = Callable[[Any], Any]

SCHEMA = (
    "create database if not exists other",
    "drop table if exists autos, ledger, locked",
    "create table autos (id int auto_increment primary key, v int) engine=innodb",
    "insert into autos (v) values (1)",
    "create table ledger (id int primary key, v int) engine=innodb",
    "insert into ledger values (1, 1), (2, 2)",
    "create table locked (id int) engine=innodb",
    "drop procedure if exists set_variable",
    "create procedure set_variable() set @x = 3",
    "drop procedure if exists make_temporary",
    "create procedure make_temporary() create temporary table tmp (a int)",
    "drop procedure if exists take_lock",
    "create procedure take_lock() do get_lock('l', 0)",
    "drop procedure if exists open_transaction",
    "create procedure open_transaction() begin start transaction; replace into ledger values (9, 9); end",
    "drop procedure if exists insert_auto",
    "create procedure insert_auto() insert into autos (v) values (5)",
    "drop procedure if exists change_isolation",
    "create procedure change_isolation() set session transaction isolation level serializable",
    "drop function if exists sets_variable",
    "create function sets_variable() returns int no sql begin set @x = 4; return 1; end",
    "drop function if exists takes_lock",
    "create function takes_lock() returns int no sql begin do get_lock('l', 0); return 1; end",
)


def sql(*statements: str) -> Dirty:
    def run(connection: Any) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
            while cursor.nextset():
                pass

    return run


def failing(statement: str) -> Dirty:
    def run(connection: Any) -> None:
        with suppress(pymysql.err.MySQLError):
            sql(statement)(connection)

    return run


def _patch(name: str, value: Any) -> Dirty:
    def run(connection: Any) -> None:
        setattr(connection, name, value)

    return run


WAYS: dict[str, Dirty] = {
    "user variable": sql("set @x = 1"),
    "user variable in a select": sql("select @x := 5"),
    "select into a variable": sql("select v from ledger where id = 1 into @x"),
    "sql_mode": sql("set session sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'"),
    "sql_mode by @@": sql("set @@sql_mode = ''"),
    "set names": sql("set names latin1"),
    "set_character_set()": lambda connection: connection.set_character_set("latin1"),
    "collation_connection": sql("set collation_connection = 'utf8mb4_bin'"),
    "character_set_results": sql("set character_set_results = NULL"),
    "time_zone": sql("set time_zone = '+05:00'"),
    "timestamp": sql("set timestamp = 1"),
    "foreign_key_checks": sql("set foreign_key_checks = 0"),
    "unique_checks": sql("set unique_checks = 0"),
    "sql_safe_updates": sql("set sql_safe_updates = 1"),
    "sql_select_limit": sql("set sql_select_limit = 1"),
    "group_concat_max_len": sql("set group_concat_max_len = 4"),
    "wait_timeout": sql("set session wait_timeout = 100"),
    "lock_wait_timeout": sql("set session lock_wait_timeout = 7"),
    "sql_auto_is_null": sql("set sql_auto_is_null = 1"),
    "insert_id": sql("set insert_id = 1000"),
    "lc_time_names": sql("set lc_time_names = 'de_DE'"),
    "autocommit off by SQL": sql("set autocommit = 0"),
    "autocommit on by SQL": sql("SET AUTOCOMMIT=1"),
    "autocommit(True)": lambda connection: connection.autocommit(True),
    "autocommit(False)": lambda connection: connection.autocommit(False),
    "isolation of the session": sql("set session transaction isolation level read uncommitted"),
    "isolation of the next transaction": sql("set transaction isolation level serializable"),
    "read only transactions": sql("set session transaction read only"),
    "use": sql("use other"),
    "select_db()": lambda connection: connection.select_db("other"),
    "temporary table": sql("create temporary table tmp (a int)"),
    "temporary table that hides one": sql("create temporary table ledger (z int)"),
    "lock tables": sql("lock tables locked write"),
    "flush tables with read lock": sql("flush tables locked with read lock"),
    "get_lock": sql("select get_lock('l', 0)"),
    "do get_lock": sql("do get_lock('l', 0)"),
    "get_lock in an update": sql("update ledger set v = v + get_lock('l', 0) * 0 where id = 1"),
    "prepared statement": sql("prepare ps from 'select 1'"),
    "handler": sql("handler ledger open as h"),
    "insert with auto_increment": sql("insert into autos (v) values (2)"),
    "insert of many": lambda connection: connection.cursor().executemany(
        "insert into autos (v) values (%s)", [(1,), (2,)]
    ),
    "insert of many that lock": lambda connection: connection.cursor().executemany(
        "replace into ledger values (%s, get_lock('l', %s))", [(50, 0), (51, 0)]
    ),
    "last_insert_id in many updates": lambda connection: connection.cursor().executemany(
        "update ledger set v = last_insert_id(%s) where id = %s", [(5, 1), (6, 2)]
    ),
    "unread rows that lock": lambda connection: connection.cursor(SSCursor).execute(
        "select get_lock('l', 0) from ledger"
    ),
    "unread rows for update": lambda connection: connection.cursor(SSCursor).execute(
        "select * from ledger where id = 2 for update"
    ),
    "failed insert with auto_increment": failing("insert into autos (id, v) values (1, 2)"),
    "last_insert_id(7)": sql("select last_insert_id(7)"),
    "last_insert_id in an update": sql("update ledger set v = last_insert_id(v + 1) where id = 1"),
    "set last_insert_id": sql("set last_insert_id = 4"),
    "warning": sql("select cast('a' as signed)"),
    "warning of an insert": sql("insert ignore into ledger values (1, 1)"),
    "error": failing("insert into ledger values (1, 1)"),
    "syntax error": failing("selec 1"),
    "transaction": sql("begin", "update ledger set v = v where id = 1"),
    "begin()": lambda connection: connection.begin(),
    "uncommitted insert": sql("begin", "replace into ledger values (77, 1)"),
    "consistent snapshot": sql("start transaction with consistent snapshot"),
    "select under autocommit=0": sql("set autocommit = 0", "select * from ledger"),
    "select for update": sql("begin", "select * from ledger where id = 2 for update"),
    "savepoint": sql("begin", "savepoint s"),
    "commit and chain": sql("begin", "commit and chain"),
    "xa transaction": sql("xa start 'x'"),
    "procedure that sets a variable": sql("call set_variable()"),
    "procedure that makes a temporary table": sql("call make_temporary()"),
    "procedure that takes a lock": sql("call take_lock()"),
    "procedure that opens a transaction": sql("call open_transaction()"),
    "procedure that inserts": sql("call insert_auto()"),
    "procedure that changes isolation": sql("call change_isolation()"),
    "callproc()": lambda connection: connection.cursor().callproc("set_variable"),
    "callproc() with a transaction": lambda connection: connection.cursor().callproc("open_transaction"),
    "function that sets a variable": sql("select sets_variable()"),
    "function that takes a lock": sql("select `takes_lock` ()"),
    "function behind a comment": sql("/* it's */ select takes_lock /* ( */ ()"),
    "several statements": sql("select 1; set @x = 7; select 2"),
    "several statements with use": sql("select 1; use other"),
    "drop database in use": sql("create database if not exists doomed", "use doomed", "drop database doomed"),
    "an attribute": _patch("note", "mine"),
    "cursorclass": _patch("cursorclass", pymysql.cursors.DictCursor),
    "encoding": _patch("encoding", "latin1"),
    "autocommit_mode": _patch("autocommit_mode", None),
    "decoders": lambda connection: connection.decoders.update({FIELD_TYPE.LONGLONG: str}),
    "encoders": lambda connection: connection.encoders.update({int: lambda value, mapping: "0"}),
    "decoders replaced": _patch("decoders", {}),
    "attributes for the server": lambda connection: connection._connect_attrs.update(mine="yes"),
    "plugins of the login": lambda connection: connection._auth_plugin_map.update(mine=object),
    "kept cursor": lambda connection: connection.execute("select 1"),
}

# They change from one connection, or from one moment, to the next.
VOLATILE = frozenset(
    {
        "timestamp",
        "pseudo_thread_id",
        "rand_seed1",
        "rand_seed2",
        "last_gtid",
        "gtid_seq_no",
        "server_uuid",
        "statement_id",
        "version",  # no session changes it, and some tests do
    }
)


def error_of(cursor: Any, statement: str) -> int:
    try:
        cursor.execute(statement)
        cursor.fetchall()
    except pymysql.err.MySQLError as error:
        return int(error.args[0])
    return 0


def picture(connection: Any, admin: Any) -> dict[str, Any]:
    """All that this session shows, and all that others can see of it."""
    shown: dict[str, Any] = {
        "attributes": sorted(set(connection.__dict__) - {*COPIED, "_error_args"}),
        "cursorclass": connection.cursorclass,
        "encoding": connection.encoding,
        "charset": connection.charset,
        "collation": connection.collation,
        "autocommit_mode": connection.autocommit_mode,
        "get_autocommit": connection.get_autocommit(),
        "decoders": dict(connection.decoders),
        "encoders": dict(connection.encoders),
        "of the login": (dict(connection._connect_attrs), dict(connection._auth_plugin_map)),
        "server_status": connection.server_status,
        "warnings": connection.show_warnings(),
    }
    number = connection.thread_id()
    with admin.cursor() as other:
        other.execute("select count(*) from information_schema.innodb_trx where trx_mysql_thread_id = %s", (number,))
        shown["open transaction"] = other.fetchone()
        other.execute("select is_used_lock('l') <=> %s", (number,))
        shown["named lock"] = other.fetchone()
        other.execute("set session lock_wait_timeout = 1")
        shown["table lock"] = error_of(other, "insert into locked values (1)")
        shown["row lock"] = error_of(other, "update ledger set v = v + 1 where id = 2")
    cursor = connection.cursor(pymysql.cursors.Cursor)
    cursor.execute("select last_insert_id(), database(), @x, @@character_set_connection, @@collation_connection")
    shown["session"] = cursor.fetchall()
    cursor.execute("show session variables")
    shown["variables"] = {name: value for name, value in cursor.fetchall() if name not in VOLATILE}
    cursor.execute("select abs(timestampdiff(minute, now(), sysdate())) < 5")
    shown["clock runs"] = cursor.fetchall()
    shown["temporary table"] = error_of(cursor, "select * from tmp")
    shown["hidden table"] = error_of(cursor, "select id, v from test.ledger")
    shown["prepared statement"] = error_of(cursor, "execute ps")
    shown["handler"] = error_of(cursor, "handler h read first")
    cursor.execute("rollback")
    return shown


def difference(seen: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in new.items():
        if key == "variables":
            found.update(
                {f"@@{name}": (seen[key].get(name), was) for name, was in value.items() if seen[key].get(name) != was}
            )
        elif seen[key] != value:
            found[key] = (seen[key], value)
    return found
