"""For each kind of statement of both manuals: what the session shows afterwards is told, or expected of the text.

The reply tells (status, insert id, warnings, session trackers), or the text is not known to be harmless. Where neither
marks the lease, the session must show what a new one shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool
from pymysqlpool._driver.exchange import CLIENT_SESSION_TRACK
from pymysqlpool._driver.session_state import tells_of_state
from pymysqlpool.devserver import DevServer
from tests.session_fuzz import Fuzz, differences
from tests.session_pieces import EVERYDAY, ODD
from tests.sweep import Sweep

# What an application says day by day and what leaves nothing: giving the connection back must be free.
FREE = (
    "select 1",
    "select * from plain",
    "select id, v from plain where id = 1",
    "select count(*), max(v) from plain where t like 'a%'",
    "select p.id from plain p left join autos a on a.id = p.id where p.v in (1, 2, 3)",
    "select concat(t, 'x''y'), upper(t), now(), coalesce(v, 0) from plain",
    "update plain set v = v + 1 where id = 1",
    "update plain set t = 'semi;colon' where id = 3",
    "delete from plain where id = 99999",
    "replace into plain (id, v, t) values (2, 2, 'b')",
    "insert into plain (id, v, t) values (4, 4, 'x') on duplicate key update v = 4",
    "commit",
    "rollback",
    "show tables",
    "describe plain",
    "select last_insert_id()",
    "select database()",
    "set autocommit = 1",
    # Django
    "SELECT VERSION(), @@sql_mode, @@sql_auto_is_null, CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
    "SELECT `s`.`id` FROM `plain` AS `s` WHERE (`s`.`t` = 'a' AND `s`.`v` > 1) LIMIT 21",
    "SELECT (1) AS `a` FROM `plain` WHERE `plain`.`id` = 1 LIMIT 1",
    "UPDATE `plain` SET `v` = 3, `t` = 'x' WHERE `plain`.`id` = 1",
    "DELETE FROM `plain` WHERE `plain`.`id` IN (90, 91)",
    # SQLAlchemy
    "SELECT plain.id AS plain_id, plain.v AS plain_v \nFROM plain \nWHERE plain.id = 1",
    "UPDATE plain SET v=(plain.v + 1) WHERE plain.id = 1",
    "SELECT count(*) AS count_1 \nFROM (SELECT plain.id AS plain_id FROM plain) AS anon_1",
    # WordPress
    "SELECT option_name.t, option_name.v FROM plain option_name WHERE v = 1",
    "SELECT plain.id FROM plain WHERE 1=1 AND ((plain.t = 'a')) ORDER BY plain.id DESC LIMIT 0, 10",
    "SELECT t.*, tt.* FROM plain AS t INNER JOIN autos AS tt ON t.id = tt.id WHERE t.t IN ('a') ORDER BY t.t ASC",
)


@pytest.fixture(scope="module")
def fuzz(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    file: Path = tmp_path_factory.mktemp("told") / "rows.txt"
    file.write_text("\\N\t5\n\\N\t6\n")
    with DevServer(binary=request.config.getoption("--server")) as server:
        fuzz = Fuzz(server, "auto", 1, str(file), autocommit=True)
        yield fuzz
        fuzz.close()


@pytest.mark.timeout(120)
def test_what_a_session_shows_after_a_statement_was_told(fuzz: Fuzz, sweep: Sweep) -> None:
    missed = {}
    for piece in sweep.some((*EVERYDAY, *ODD), 0.3):
        statement = piece.replace("{file}", fuzz.file)
        connection = fuzz.pool.get_connection()
        with suppress(pymysql.err.MySQLError, UnicodeError, RuntimeError), connection.cursor() as cursor:
            cursor.execute(statement)
            while cursor.nextset():
                pass
        is_told = bool(connection._marks) or connection.get_autocommit() is not True
        if not is_told:
            seen = fuzz.glance.look(connection)
            found = differences(seen, fuzz.usual) and differences(seen, fuzz.brand_new())
            if found:
                missed[statement] = found
        number = connection.thread_id()
        connection.close()
        if is_told and "xa" in statement:
            closed = fuzz.pool.stats().total == 0
            fuzz.end_branch(number if closed else 0)
        fuzz.usual = fuzz.brand_new()
    assert not missed


def test_the_everyday_statements_cost_nothing(fuzz: Fuzz) -> None:
    pool: ConnectionPool = fuzz.pool
    for statement in FREE:
        before = pool.stats()
        with pool.get_connection() as connection:
            connection.execute(statement)
        after = pool.stats()
        assert (after.reset - before.reset, sum(after.discarded.values())) == (0, sum(before.discarded.values())), (
            statement
        )


def test_every_set_of_a_session_variable_is_reported_as_a_change_of_state(server: Any) -> None:
    """So what comes as SYSTEM_VARIABLES alone is no change: last_gtid, statement_id."""
    flags = CLIENT_SESSION_TRACK | CLIENT.MULTI_STATEMENTS
    connection = pymysql.connect(**server.connect_args, ssl_disabled=True, client_flag=flags)
    with connection.cursor() as cursor:
        cursor.execute("SET session_track_state_change = 1, session_track_system_variables = '*'")
        cursor.execute("SHOW SESSION VARIABLES")
        names = [name for name, _ in cursor.fetchall()]
        told = 0
        for name in names:
            if name == "session_track_state_change":
                continue  # which MySQL does not report; the text of a SET does
            with suppress(pymysql.err.MySQLError):
                cursor.execute(f"SET SESSION {name} = @@SESSION.{name}")
                message = connection._result.message
                assert tells_of_state(message), name
                told += 1
    connection.close()
    assert told > 100
