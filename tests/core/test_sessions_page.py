"""docs/sessions.md: each sentence has a test. `CLAIMS` names it; those that no other file has are here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pymysql
import pytest

from benchmarks.proxy import Link
from pymysqlpool._driver.recipe import Recipe
from pymysqlpool.devserver import DevServer
from pymysqlpool.settings import Settings
from tests.conftest import MakePool
from tests.core.dirt import Dirty, sql

ROOT = Path(__file__).parents[2]
FUZZ = "test_session_fuzz::test_no_statement_leaves_anything"
NEXT = "test_session::test_the_next_borrower_sees_a_new_session"
RECIPE = "test_recipe::test_every_borrower_has_the_session_that_pymysql_would_have_made"
READ = "test_statements::test_what_is_read_as_harmless_leaves_no_trace"
TOLD = "test_what_replies_tell::test_what_a_session_shows_after_a_statement_was_told"
KEPT = "test_what_a_reset_keeps::test_a_reset_session_differs_from_a_new_one_in_what_the_recipe_names"
HERE = "test_sessions_page::"

# How a sentence (a row, a point) begins, and the tests, by file and the beginning of their names.
CLAIMS = {
    "The next borrower sees": [NEXT, FUZZ],
    "`tests/core/test_session.py` compares": [NEXT, "test_session::test_pairs_of_ways", FUZZ],
    # what the borrower did
    "nothing, reads under autocommit": [
        "test_session::test_a_clean_return_after_a_query_costs_no_statement",
        "test_session::test_a_committed_block_costs_its_statements_and_the_commit",
    ],
    "SET NAMES, time zone": ["test_recipe::test_a_set_to_what_the_session_is_set_to_is_free"],
    "left a transaction or a snapshot": [
        "test_session::test_an_open_transaction_costs_one_rollback",
        "test_session::test_a_borrower_never_reads_another_ones_snapshot",
        "test_round_trips::test_what_a_borrower_leaves_behind_costs_one_round_trip",
    ],
    "inserted into an AUTO_INCREMENT": [
        "test_round_trips::test_what_a_borrower_leaves_behind_costs_one_round_trip",
        HERE + "test_a_return_costs_these_round_trips",
    ],
    "anything else that another": [NEXT, HERE + "test_a_return_costs_these_round_trips"],
    "any of the last four, and": [
        "test_session::test_a_server_that_cannot_track_is_asked_once",
        "test_recipe::test_a_server_that_refuses_the_trackers_with_any_number",
    ],
    "a database was chosen and": [
        "test_kept_by_a_reset::test_a_pool_without_a_database",
        "test_kept_by_a_reset::test_a_prepared_branch_outlives",
        "test_kept_by_a_reset::test_the_texts_of_statements_in_show_profiles",
        "test_kept_by_a_reset::test_a_session_that_got_a_command_which_pymysql_has_no_method_for",
        "test_session::test_a_server_that_can_neither_track_nor_reset",
    ],
    # how a session is set up
    "By the same steps": [RECIPE],
    "`tests/core/test_recipe.py` compares": [RECIPE],
    "of a used session only": [RECIPE, "test_kept_by_a_reset::test_a_default_role_that_was_given_up_is_there_again"],
    "SET NAMES, `sql_mode`": [RECIPE],
    "`init_command`": [RECIPE],
    "autocommit": [RECIPE],
    "`on_connect`, with": [RECIPE, "test_recipe::test_text_is_stored_once_encoded_when_on_connect"],
    "ROLLBACK, if any": ["test_recipe::test_a_set_up_that_reads_leaves_no_transaction"],
    "What they wrote without": [HERE + "test_what_a_set_up_writes_without_a_commit_is_lost"],
    "So `init_command` and": ["test_recipe::test_on_connect_is_called_once_for_each_time", RECIPE],
    "Where they may have changed the character set": [
        "test_recipe::test_statements_are_read_in_the_character_set_that_the_set_up_has_chosen",
        "test_recipe::test_a_set_that_leaves_the_character_set_alone",
        HERE + "test_a_return_costs_these_round_trips",
    ],
    # how the pool knows
    "The status flags": ["test_reader::test_the_status_that_pymysql_drops_is_recorded", TOLD],
    "`CLIENT_SESSION_TRACK` with": ["test_what_replies_tell::test_every_set_of_a_session_variable_is_reported", TOLD],
    "The server's own counters": ["test_recipe::test_a_server_that_reports_more_variables_costs_no_reset"],
    "The insert id and": [TOLD, NEXT],
    "The text.": [READ],
    "What is not known": [READ, FUZZ],
    "It is cut as the server": [READ, "test_native_functions::test_"],
    "A statement of more than 64": ["test_linear_reading::test_a_text_longer_than_a_reset_is_dear_is_not_read"],
    "Reading is linear": ["test_linear_reading::test_no_text_of_any_length"],
    # what COM_RESET_CONNECTION keeps
    "Measured by": [KEPT, "test_what_a_reset_keeps::test_a_reset_brings_every_session_variable_back"],
    "the current database": [KEPT, "test_kept_by_a_reset::test_a_pool_without_a_database"],
    "roles": [KEPT, "test_kept_by_a_reset::test_the_privileges_of_a_role_end_with_the_lease"],
    "what SHOW PROFILES": [KEPT, "test_kept_by_a_reset::test_the_texts_of_statements_in_show_profiles"],
    "what information_schema.OPTIMIZER_TRACE": [
        "test_kept_by_a_reset::test_what_the_optimizer_trace_shows_of_statements_reaches_no_other_borrower"
    ],
    "the resource group": ["test_kept_by_a_reset::test_a_resource_group_ends_with_the_lease"],
    "what COM_SET_OPTION,": ["test_kept_by_a_reset::test_a_session_that_got_a_command_which_pymysql_has_no_method_for"],
    "It also takes away": ["test_kept_by_a_reset::test_what_a_login_gives_is_there_for_every_borrower", RECIPE],
    "The pool sets them": ["test_kept_by_a_reset::test_what_a_login_gives_is_there_for_every_borrower", RECIPE],
    "a prepared XA branch": ["test_kept_by_a_reset::test_a_prepared_branch_outlives"],
    # the modes
    '`"auto"` (default)': [FUZZ, NEXT],
    '`"always"`': [FUZZ, HERE + "test_always_undoes_what_stored_code_behind_a_harmless_name_did"],
    '`"never"`': ["test_session::test_reset_never_still_rolls_back"],
    '**What `"auto"` cannot see**': [HERE + "test_auto_does_not_see_stored_code_behind_a_harmless_name"],
    "A CALL is always": [HERE + "test_a_call_is_followed_by_a_reset"],
    '**What `"auto"` leaves': [HERE + "test_what_auto_leaves_where_a_return_needs_no_reset"],
    "**What no mode undoes**": [
        "test_kept_by_a_reset::test_the_history_of_a_session_in_performance_schema_stays",
        "test_kept_by_a_reset::test_what_performance_schema_records_of_a_session_stays_as_it_was_set",
        HERE + "test_what_no_mode_undoes",
        "test_kept_by_a_reset::test_a_prepared_branch_outlives",
    ],
    "A server's `init_connect`": [HERE + "test_what_only_a_login_runs_is_there_for_every_borrower"],
    "A connection that needs a reset is closed": [HERE + "test_what_only_a_login_runs_is_there_for_every_borrower"],
    "A SET that is free": ["test_recipe::test_a_set_to_what_the_session_is_set_to_is_free"],
    "Where an administrator": ["test_recipe::test_a_drain_makes_the_pool_learn_anew"],
    # and the rest
    "After a CALL": ["test_call::test_a_procedure_whose_last_reply_is_unread_costs_no_login"],
    "It reads no further": ["test_call::test_a_further_result_set_is_not_read"],
    "`pipeline_reset=False`": [
        "test_session::test_a_reset_keeps_the_connection_with_or_without_pipelining",
        HERE + "test_several_commands_at_once_are_sent_to_these_servers_only",
    ],
    "A pool whose borrowers": [HERE + "test_a_return_costs_these_round_trips"],
    "Without one it costs": ["test_session::test_a_pool_without_a_database_discards_what_has_used_one"],
    "`reset_timeout` bounds": [
        HERE + "test_reset_timeout_bounds_on_connect_too",
        "test_protocol::test_a_connection_is_kept_only_if_its_rollback_was_confirmed_in_time",
    ],
}


def sentences() -> list[str]:
    found: list[str] = []
    for block in re.split(r"\n\s*\n", (ROOT / "docs/sessions.md").read_text()):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines and lines[0].startswith("|"):
            found += [line.strip("| ") for line in lines[2:]]
            continue
        items = re.split(r"\n(?:\* |\d\. )", "\n" + "\n".join(lines))
        for item in items:
            text = " ".join(item.split())
            found += [sentence for sentence in re.split(r"(?<=[^.]\.)\s+(?=[A-Z`*])", text) if sentence]
    return found


def test_each_sentence_has_its_tests() -> None:
    said = sentences()
    assert len(said) > 40
    assert [sentence for sentence in said if not any(sentence.startswith(claim) for claim in CLAIMS)] == []
    assert [claim for claim in CLAIMS if not any(sentence.startswith(claim) for sentence in said)] == []


@pytest.mark.parametrize("name", sorted({name for names in CLAIMS.values() for name in names}))
def test_the_tests_that_are_named_exist(name: str) -> None:
    file, function = name.split("::")
    assert f"\ndef {function}" in (ROOT / f"tests/core/{file}.py").read_text()


# -- round trips ---------------------------------------------------------------------------------------------


@pytest.fixture
def link(server: DevServer) -> Iterator[Link]:
    with Link((server.host, server.port), 0.001) as link:
        yield link


TOUCH = sql("SET @touched = 1")
TRIPS: list[tuple[dict[str, Any], Dirty, int]] = [
    ({}, TOUCH, 1),
    ({}, sql("BEGIN", "SET @touched = 1"), 1),
    ({}, sql("SET autocommit = 1"), 1),
    ({}, sql("USE mysql"), 1),
    ({"init_command": "SET @a = 1"}, TOUCH, 1),
    ({"init_command": "SET @a = 1"}, sql("BEGIN", "SET @touched = 1"), 2),
    ({"init_command": "SET NAMES utf8mb4 COLLATE utf8mb4_bin"}, TOUCH, 2),
    ({"on_connect": sql("SET @a = 1", "SET @b = 2")}, TOUCH, 1 + 2),
    ({"on_connect": sql("SET NAMES utf8mb4 COLLATE utf8mb4_bin")}, TOUCH, 1 + 1 + 1),
    ({"on_connect": sql("SET NAMES utf8mb4 COLLATE utf8mb4_bin"), "reset": "always"}, TOUCH, 1 + 1),
]


@pytest.mark.parametrize(("options", "leave", "trips"), TRIPS)
def test_a_return_costs_these_round_trips(
    make_pool: MakePool, link: Link, options: dict[str, Any], leave: Dirty, trips: int
) -> None:
    pool = make_pool(port=link.port, size=1, maxsize=1, pre_create_num=1, autocommit=False, **options)
    with pool.get_connection() as connection:
        TOUCH(connection)  # after the first SET the pool asks once what its sessions are set to
    for _ in range(3):
        connection = pool.get_connection()
        leave(connection)
        link.reset()
        connection.close()
        assert link.round_trips == trips
    assert (pool.stats().created, dict(pool.stats().discarded)) == (1, {})


@pytest.mark.parametrize(
    ("greeting", "at_once"), [("5.7.44-log", False), ("8.0.36", True), ("9.7.4", True), ("10.6.1-MariaDB", True)]
)
def test_several_commands_at_once_are_sent_to_these_servers_only(greeting: str, at_once: bool) -> None:
    connection = SimpleNamespace(
        server_version=greeting, autocommit_mode=False, db=None, init_command=None, charset="utf8mb4", collation=None,
        sql_mode=None,
    )  # fmt: skip
    made: Callable[..., Recipe] = cast("Any", Recipe)
    assert made(connection, Settings(), None).pipelines is at_once
    assert made(connection, Settings(pipeline_reset=not at_once), None).pipelines is not at_once


def test_reset_timeout_bounds_on_connect_too(make_pool: MakePool) -> None:
    calls: list[Any] = []

    def hook(connection: Any) -> None:
        calls.append(connection)
        if len(calls) > 1:
            connection.cursor().execute("SELECT SLEEP(10)")

    pool = make_pool(size=1, maxsize=1, on_connect=hook, reset_timeout=0.3)
    connection = pool.get_connection()
    TOUCH(connection)
    began = time.monotonic()
    connection.close()
    assert time.monotonic() - began < 5
    assert dict(pool.stats().discarded) == {"reset failed": 1}


# -- what is undone, and what is not -------------------------------------------------------------------------


@pytest.fixture
def stored(admin: Any, server: Any) -> None:
    default = "(stored_sets())" if server.flavor == "mysql" else "(next value for stored_sequence)"
    for statement in (
        "DROP VIEW IF EXISTS stored_locking, stored_setting",
        "DROP TABLE IF EXISTS stored_rows, stored_defaults",
        "DROP FUNCTION IF EXISTS stored_sets",
        "DROP FUNCTION IF EXISTS stored_locks",
        "DROP PROCEDURE IF EXISTS stored_nothing",
        "CREATE FUNCTION stored_locks() RETURNS INT NO SQL RETURN GET_LOCK('stored', 0)",
        "CREATE FUNCTION stored_sets() RETURNS INT NO SQL BEGIN SET @stored = 1; RETURN 1; END",
        "CREATE PROCEDURE stored_nothing() DO 0",
        "CREATE VIEW stored_locking AS SELECT stored_locks()",
        "CREATE VIEW stored_setting AS SELECT stored_sets()",
        "CREATE TABLE stored_rows (v INT)",
        "CREATE TRIGGER stored_trigger BEFORE INSERT ON stored_rows FOR EACH ROW DO GET_LOCK('stored', 0)",
        "CREATE OR REPLACE SEQUENCE stored_sequence" if server.flavor == "mariadb" else "DO 0",
        f"CREATE TABLE stored_defaults (v INT, d INT DEFAULT {default})" if server.flavor == "mariadb" else "DO 0",
    ):
        admin.query(statement)


HIDDEN = ("SELECT * FROM stored_locking", "SELECT * FROM stored_setting", "INSERT INTO stored_rows VALUES (1)")


def left_by(pool: Any, statement: str) -> tuple[Any, ...]:
    with pool.get_connection() as connection:
        connection.execute(statement)
    with pool.get_connection() as connection:
        connection.execute("SELECT @stored, IS_USED_LOCK('stored') <=> CONNECTION_ID()")
        found: tuple[Any, ...] = connection.fetchone()
        return found


@pytest.mark.parametrize("statement", HIDDEN)
def test_always_undoes_what_stored_code_behind_a_harmless_name_did(
    make_pool: MakePool, stored: None, statement: str
) -> None:
    assert left_by(make_pool(size=1, maxsize=1, reset="always"), statement) == (None, 0)


def test_always_undoes_what_a_default_did(make_pool: MakePool, admin: Any, server: Any, stored: None) -> None:
    if server.flavor != "mariadb":
        pytest.skip("MySQL has no sequences, and no stored functions in defaults")
    pool = make_pool(size=1, maxsize=1, reset="always")
    with pool.get_connection() as connection:
        connection.execute("INSERT INTO stored_defaults (v) VALUES (1)")
    with pool.get_connection() as connection:
        assert connection.execute_query("SELECT LASTVAL(stored_sequence)") == ((None,),)


@pytest.mark.parametrize("statement", HIDDEN)
def test_auto_does_not_see_stored_code_behind_a_harmless_name(
    make_pool: MakePool, server: Any, stored: None, statement: str
) -> None:
    pool = make_pool(size=1, maxsize=1, reset="auto", autocommit=True)
    of_variable = (None, 0) if server.flavor == "mariadb" else (1, 0)  # MariaDB's reply tells
    assert left_by(pool, statement) == (of_variable if "setting" in statement else (None, 1))


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_call_is_followed_by_a_reset(make_pool: MakePool, stored: None, mode: Any) -> None:
    pool = make_pool(size=1, maxsize=1, reset=mode, autocommit=True)
    for number in range(1, 4):
        with pool.get_connection() as connection:
            connection.cursor().callproc("stored_nothing")
        assert pool.stats().reset == number


@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_what_no_mode_undoes(make_pool: MakePool, admin: Any, mode: Any) -> None:
    pool = make_pool(size=1, maxsize=1, reset=mode, autocommit=True)
    with pool.get_connection() as connection:
        before = connection.execute_query("SELECT @@global.max_connections")[0][0]
        connection.execute(f"SET GLOBAL max_connections = {before + 1}")
    try:
        with pool.get_connection() as connection:
            assert connection.execute_query("SELECT @@global.max_connections") == ((before + 1,),)
    finally:
        admin.query(f"SET GLOBAL max_connections = {before}")


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_what_auto_leaves_where_a_return_needs_no_reset(make_pool: MakePool, admin: Any, mode: Any) -> None:
    admin.query("CREATE OR REPLACE VIEW page_found AS SELECT 1 AS v UNION ALL SELECT 2 UNION ALL SELECT 3")
    pool = make_pool(size=1, maxsize=1, reset=mode, autocommit=True)
    with pool.get_connection() as connection:
        new = connection.execute_query("SELECT FOUND_ROWS(), ROW_COUNT()")
    for dirty in (TOUCH, sql("SELECT nosuch")):
        with pool.get_connection() as connection, suppress(pymysql.err.MySQLError):
            connection.execute("SELECT SQL_CALC_FOUND_ROWS * FROM page_found LIMIT 1")
            dirty(connection)
    for statement, is_left in (("SELECT SQL_CALC_FOUND_ROWS * FROM page_found LIMIT 1", True), ("DO 0", False)):
        with pool.get_connection() as connection:
            connection.execute(statement)
        with pool.get_connection() as connection:
            seen = connection.execute_query("SELECT FOUND_ROWS(), ROW_COUNT()")
            assert (seen != new) == (is_left and mode == "auto")
            ((_, counted),) = connection.execute_query("SHOW SESSION STATUS LIKE 'Com_do'")
            assert int(counted) == (statement == "DO 0" and mode == "auto")
    trace = "SET optimizer_trace = 'enabled=on'"
    pool = make_pool(size=1, maxsize=1, reset=mode, init_command=trace)
    with pool.get_connection() as connection:
        connection.execute("SELECT * FROM page_found WHERE v = 4711")
    with pool.get_connection() as connection:
        texts = str(connection.execute_query("SELECT query FROM information_schema.optimizer_trace"))
        assert ("4711" in texts) == (mode == "auto")


def test_what_a_set_up_writes_without_a_commit_is_lost(make_pool: MakePool, admin: Any) -> None:
    admin.query("CREATE TABLE IF NOT EXISTS page_rows (v INT) ENGINE=InnoDB")
    pool = make_pool(size=1, maxsize=1, on_connect=sql("INSERT INTO test.page_rows VALUES (1)"), autocommit=False)
    for _ in range(2):
        with pool.get_connection() as connection, suppress(pymysql.err.MySQLError):
            TOUCH(connection)
    with admin.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM page_rows")
        assert cursor.fetchone() == (0,)


TENANT = "SET @tenant = 5, net_read_timeout = 77"
# What the server's init_connect says, the pool's options, and how many logins three returns after a SET cost.
INIT_CONNECTS: list[tuple[str, dict[str, Any], int]] = [
    (TENANT, {}, 3),
    (TENANT, {"reset": "always"}, 3),
    (TENANT, {"init_command": TENANT}, 0),
    ("set names latin1;  SET collation_connection = 'latin1_bin' ;", {}, 0),
    ("SET autocommit=0", {"autocommit": False}, 0),
    ("SET autocommit=0", {"autocommit": None}, 3),
]


@pytest.mark.parametrize(("said", "options", "logins"), INIT_CONNECTS)
def test_what_only_a_login_runs_is_there_for_every_borrower(
    make_pool: MakePool, admin: Any, said: str, options: dict[str, Any], logins: int
) -> None:
    admin.query("DROP USER IF EXISTS page_low@'%'")
    admin.query("CREATE USER page_low@'%' IDENTIFIED BY 'pw'")
    login = {"user": "page_low", "password": "pw", "database": None, "size": 1, "maxsize": 1}
    look = (
        "SELECT @tenant, @@net_read_timeout, @@character_set_client, @@collation_connection, @@autocommit, @@sql_mode"
    )
    try:
        with admin.cursor() as cursor:
            cursor.execute("SET GLOBAL init_connect = %s", (said,))
        with make_pool(**login, **options).get_connection() as connection:
            new = connection.execute_query(look)
        pool = make_pool(**login, **options)
        for _ in range(3):
            with pool.get_connection() as connection:
                assert connection.execute_query(look) == new
                TOUCH(connection)
        assert sum(pool.stats().discarded.values()) == logins
        admin.query("SET GLOBAL init_connect = ''")
        pool.drain()
        for _ in range(3):
            with pool.get_connection() as connection:
                TOUCH(connection)
        assert sum(pool.stats().discarded.values()) <= logins + 1
    finally:
        admin.query("SET GLOBAL init_connect = ''")
        admin.query("DROP USER page_low@'%'")
