"""What COM_RESET_CONNECTION keeps: the difference between a reset session and a new one, measured on this server.

`recipe` says again, asks for, or refuses each of what is found here; anything new that a server keeps fails here first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool._driver.commands import COM_RESET_CONNECTION
from tests.core.dirt import SCHEMA, WAYS, sql
from tests.sweep import Sweep

# What a session shows. Each is asked in a statement of its own, and an error is an answer, too.
LOOKS = {
    "warnings": "show warnings",
    "insert id": "select last_insert_id(), @@identity, @@insert_id",
    "roles": "select current_role()",
    "database": "select database()",
    "user": "select user(), current_user()",
    "user variables": "select @x, @y",
    "temporary table": "select * from test.tmp",
    "hidden table": "select id, v from test.ledger",
    "temporary sequence": "select * from test.tmp_sequence",
    "prepared statement": "execute ps",
    "handler": "handler h read first",
    "profiles": "show profiles",
    "last value of a sequence": "select lastval(test.kept_sequence)",
    "named lock": "select is_used_lock('l')",
    "grants": "show grants",
    "writes": "update test.ledger set v = v where id = 1",
    "definitions": "alter table test.locked comment = ''",
}
MORE_WAYS = {
    "set role": sql("set role kept_boss"),
    "set profiling": sql("set profiling = 1", "select 'private'"),
    "nextval": sql("do nextval(kept_sequence)"),
    "temporary sequence": sql("create temporary sequence tmp_sequence"),
    "create temporary table ... select": sql("create temporary table tmp select 1 as a"),
    "prepared XA branch": sql(
        "xa start 'kept'", "insert into ledger values (55, 1)", "xa end 'kept'", "xa prepare 'kept'"
    ),
    "flush tables with read lock": sql("flush tables with read lock"),
    "backup stage": sql("backup stage start"),
    "backup lock": sql("backup lock ledger"),
    "lock instance": sql("lock instance for backup"),
    "resource group": sql("set resource group usr_default"),
    "optimizer trace": sql("set optimizer_trace = 'enabled=on'", "select 1"),
    "signal": sql("signal sqlstate '01000'"),
    "next transaction read only": sql("set transaction read only"),
    "binary log off": sql("set sql_log_bin = 0"),
    "trackers off": sql("set session_track_state_change = 0, session_track_schema = 0"),
    "ROLLBACK that left a warning": sql("begin", "insert into kept_noisy values (1)", "rollback"),
}
# "writes" and "database" after a prepared branch: MariaDB's session is of no use any more.
KEPT = {
    "mariadb": {
        "roles",
        "grants",
        "database",
        "profiles",
        "writes",
        "definitions",
        "last value of a sequence",
        "hidden table",
    },
    "mysql": {"roles", "grants", "database", "last value of a sequence"},  # the last: only another error
}
KEEPS = {
    "mariadb": {"use", "select_db()", "several statements with use", "drop database in use", "set role",
                "set profiling", "prepared XA branch"},
    "mysql": {"use", "select_db()", "several statements with use", "drop database in use", "set role"},
}  # fmt: skip


def reset(connection: Any) -> None:
    connection._execute_command(COM_RESET_CONNECTION, b"")
    connection._read_ok_packet()


def ask(connection: Any, statement: str) -> Any:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    except pymysql.err.MySQLError as error:
        return error.args[0]


def look(connection: Any) -> dict[str, Any]:
    shown = {what: ask(connection, statement) for what, statement in LOOKS.items()}
    ask(connection, "rollback")
    return shown


@pytest.fixture(scope="module")
def arguments(server: Any) -> Iterator[dict[str, Any]]:
    arguments = {**server.connect_args, "ssl_disabled": True, "client_flag": CLIENT.MULTI_STATEMENTS}
    admin = pymysql.connect(**arguments, autocommit=True)
    sql(*SCHEMA)(admin)
    for statement in (
        "create sequence kept_sequence",
        "create role kept_boss",
        "grant kept_boss to root@'127.0.0.1'",
        "grant select on test.* to kept_boss",
        "create table kept_noisy (id int) engine=myisam",
    ):
        with suppress(pymysql.err.MySQLError):
            sql(statement)(admin)
    yield arguments
    for statement in ("drop role kept_boss", "drop sequence kept_sequence", "drop table kept_noisy"):
        with suppress(pymysql.err.MySQLError):
            sql(statement)(admin)
    admin.close()


def test_a_reset_session_differs_from_a_new_one_in_what_the_recipe_names(arguments: Any, server: Any) -> None:
    new = pymysql.connect(**arguments)
    expected = look(new)
    new.close()
    keeps: dict[str, set[str]] = {}
    for way, dirty in {**WAYS, **MORE_WAYS}.items():
        connection = pymysql.connect(**arguments)
        with suppress(pymysql.err.MySQLError, AttributeError):  # not every way is of every server and of PyMySQL
            dirty(connection)
        reset(connection)
        connection.decoders, connection.encoding = pymysql.converters.decoders.copy(), "utf8"
        connection.cursorclass = pymysql.cursors.Cursor
        seen = look(connection)
        different = {what for what, answer in expected.items() if seen[what] != answer}
        if different:
            keeps[way] = different
        connection.close()
        admin = pymysql.connect(**arguments, autocommit=True)
        for _ in range(50):
            if not ask(admin, "xa recover"):
                break
            ask(admin, "xa rollback 'kept'")
        admin.close()
    assert set(keeps) == KEEPS[server.flavor], keeps
    assert set.union(*keeps.values()) <= KEPT[server.flavor], keeps


@pytest.mark.timeout(240)
def test_a_reset_brings_every_session_variable_back(arguments: Any, server: Any, sweep: Sweep) -> None:
    values = ("1", "0", "2", "100", "'ON'", "'OFF'", "'de_DE'", "'latin1'", "'latin1_bin'", "'+03:00'",
              "'SERIALIZABLE'", "'ANSI'", "65536", "''", "'x'")  # fmt: skip
    free = {"timestamp", "rand_seed1", "rand_seed2", "statement_id", "pseudo_thread_id", "last_gtid"}
    connection = pymysql.connect(**arguments)

    def variables() -> dict[str, str]:
        shown = ask(connection, "show session variables")
        return dict(shown) if isinstance(shown, tuple) else {}

    reset(connection)
    expected = variables()
    changed, kept = 0, set()
    for name in sweep.some(sorted(expected.keys() - free), 0.25):
        for value in values:
            if isinstance(ask(connection, f"set session {name} = {value}"), int):
                continue
            if variables().get(name) == expected[name]:
                continue
            changed += 1
            reset(connection)
            after = variables()
            kept |= {key for key in expected.keys() - free if after.get(key) != expected[key]}
            break
    connection.close()
    assert changed > sweep.times(20, 120)
    # Variables of replication that MariaDB shows in a session and keeps for the server.
    assert kept <= {"max_relay_log_size", "sql_slave_skip_counter"}, kept
