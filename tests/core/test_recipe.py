"""Invariant 21: a new session, a reset one and a replaced one are set up alike, and as PyMySQL's `connect()` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool
from pymysqlpool._driver import character_set
from tests.conftest import MakePool
from tests.core.dirt import VOLATILE
from tests.proxy import Proxy
from tests.support import Questions

Hook = Callable[[Any], None]


class Executing:
    """An `on_connect` that executes `statements`; in a test's name it shows them."""

    def __init__(self, *statements: str) -> None:
        self.statements = statements

    def __call__(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            for statement in self.statements:
                cursor.execute(statement)
                cursor.fetchall()

    def __repr__(self) -> str:
        return f"executing {'; '.join(self.statements)}"


def choose_charset(connection: Any) -> None:
    connection.set_character_set("utf8mb4")


def commit_by_itself(connection: Any) -> None:
    connection.autocommit(True)


# What a pool is asked for; `on_connect` is called with PyMySQL's connection, too, for comparison.
SET_UPS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "autocommit": {"autocommit": True},
    "autocommit left alone": {"autocommit": None},
    "charset": {"charset": "latin1"},
    "collation": {"collation": "utf8mb4_unicode_ci"},
    "sql_mode": {"sql_mode": "ANSI,STRICT_ALL_TABLES"},
    "sql_mode that MySQL warns of": {"sql_mode": "NO_ZERO_DATE"},
    "character set that MySQL warns of": {"charset": "utf8mb3"},
    "flags of the login": {"client_flag": CLIENT.INTERACTIVE | CLIENT.IGNORE_SPACE | CLIENT.FOUND_ROWS},
    "no database": {"database": None},
    "init_command: time zone": {"init_command": "SET time_zone = '+05:00'"},
    "init_command: isolation": {"init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"},
    "init_command: autocommit": {"init_command": "SET autocommit = 1"},
    "init_command: autocommit off": {"init_command": "SET autocommit = 0", "autocommit": None},
    "init_command: database": {"init_command": "USE mysql"},
    "init_command: character set": {"init_command": "SET NAMES latin1"},
    "init_command: sql_mode": {"init_command": "SET sql_mode = 'ANSI'", "sql_mode": "STRICT_ALL_TABLES"},
    "init_command: reads": {"init_command": "SELECT * FROM recipe_rows"},
    "init_command: variable": {"init_command": "SET @tenant = 'acme'"},
    "init_command: begins": {"init_command": "START TRANSACTION"},
    "init_command: trackers off": {"init_command": "SET session_track_state_change = 0"},
    "on_connect: time zone": {
        "on_connect": Executing("SET time_zone = '+05:00', @tenant = 'acme', sql_safe_updates = 1")
    },
    "on_connect: character set": {"on_connect": choose_charset, "charset": "latin1"},
    "on_connect: collation": {"on_connect": Executing("SET NAMES utf8mb4 COLLATE utf8mb4_bin")},
    "on_connect: autocommit": {"on_connect": commit_by_itself},
    "on_connect: autocommit by SQL": {"on_connect": Executing("SET autocommit = 1")},
    "on_connect: database": {"on_connect": lambda connection: connection.select_db("mysql")},
    "on_connect: isolation": {"on_connect": Executing("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")},
    "on_connect: reads": {"on_connect": Executing("SELECT * FROM test.recipe_rows")},
    "on_connect: inserts": {"on_connect": Executing("INSERT INTO test.recipe_autos (v) VALUES (1)")},
    "on_connect and init_command": {
        "on_connect": Executing("SET time_zone = '-03:00'"),
        "init_command": "SET @tenant = 'acme', time_zone = '+01:00'",
    },
}


def lose(connection: Any) -> None:
    connection._sock.close()


LEAVES: dict[str, Hook] = {
    "nothing": lambda connection: None,
    "a look": Executing("SELECT 1"),
    "SET": Executing("INSERT INTO test.recipe_autos (v) VALUES (1)", "COMMIT"),
    "autocommit": lambda connection: connection.autocommit(not connection.get_autocommit()),
    "ROLLBACK": Executing("BEGIN", "UPDATE test.recipe_rows SET v = v + 1"),
    "RESET": Executing("SET @tenant = 'other', time_zone = '+09:00', sql_mode = '', @x = 1"),
    "RESET by SET NAMES": Executing("SET NAMES latin1"),
    "another SET NAMES": Executing("SET NAMES utf8mb4"),
    "another database": Executing("USE other_recipes"),
    "CLOSE": lose,
}


@pytest.fixture(scope="module")
def prepared(server: Any) -> Iterator[Any]:
    admin = pymysql.connect(**server.connect_args, ssl_disabled=True, autocommit=True)
    Executing(
        "CREATE DATABASE IF NOT EXISTS other_recipes",
        "DROP TABLE IF EXISTS recipe_rows, recipe_autos",
        "CREATE TABLE recipe_rows (v INT) ENGINE=InnoDB",
        "INSERT INTO recipe_rows VALUES (1)",
        "CREATE TABLE recipe_autos (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=InnoDB",
    )(admin)
    yield admin
    admin.close()


def shown_by(connection: Any) -> dict[str, Any]:
    """Everything that the set-up decides."""
    shown: dict[str, Any] = {
        "server_status": connection.server_status,
        "warnings": connection.show_warnings(),
        "get_autocommit()": connection.get_autocommit(),
        **{
            name: getattr(connection, name)
            for name in ("charset", "encoding", "collation", "db", "autocommit_mode", "sql_mode", "init_command")
        },
        # A pool's own are PyMySQL's with two methods more.
        "cursorclass": connection.cursorclass.__name__,
        "decoders": dict(connection.decoders),
        "encoders": dict(connection.encoders),
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT DATABASE(), @tenant, @x, CURRENT_USER(), CURRENT_ROLE(), 'caf\u00e9'")
        shown["session"] = cursor.fetchall()
        cursor.execute("SHOW SESSION VARIABLES")
        shown |= {
            f"@@{name}": value if name not in ("last_insert_id", "identity") else value != "0"
            for name, value in cursor.fetchall()
            if name not in VOLATILE and not name.startswith("session_track_")
        }
    with suppress(pymysql.err.MySQLError):
        connection.rollback()
    return shown


def stock(connect_args: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    arguments = {**connect_args, **options}
    hook = arguments.pop("on_connect", None)
    connection = pymysql.connect(**arguments)
    try:
        if hook is not None:
            hook(connection)
        connection.rollback()  # the pool lends no session with a transaction
        return shown_by(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("set_up", SET_UPS)
def test_every_borrower_has_the_session_that_pymysql_would_have_made(
    make_pool: MakePool, prepared: Any, connect_args: dict[str, Any], set_up: str
) -> None:
    options = SET_UPS[set_up]
    expected = stock(connect_args, options)
    for left, leave in LEAVES.items():
        pool: ConnectionPool = make_pool(size=1, maxsize=1, **options)
        for number in range(3):
            with pool.get_connection() as connection:
                seen = shown_by(connection)
                assert seen == expected, f"borrower {number} after {left}: " + str(
                    {name: (seen[name], value) for name, value in expected.items() if seen[name] != value}
                )
            connection = pool.get_connection()
            with suppress(pymysql.err.MySQLError):
                leave(connection)
            connection.close()
        pool.close(timeout=0)


@pytest.mark.parametrize("left", ["nothing", "RESET", "CLOSE"])
@pytest.mark.parametrize(
    "options",
    [
        {"init_command": "SELECT * FROM recipe_rows FOR UPDATE"},
        {"init_command": "START TRANSACTION WITH CONSISTENT SNAPSHOT"},
        {"init_command": "SET @n = (SELECT MAX(v) FROM recipe_rows)"},
        {"on_connect": Executing("SELECT * FROM recipe_rows FOR UPDATE")},
        {"on_connect": Executing("UPDATE recipe_rows SET v = v")},
        {
            "autocommit": None,
            "init_command": "SET autocommit = 0",
            "on_connect": Executing("SELECT * FROM recipe_rows"),
        },
    ],
    ids=str,
)
def test_a_set_up_that_reads_leaves_no_transaction(
    make_pool: MakePool, prepared: Any, options: dict[str, Any], left: str
) -> None:
    pool = make_pool(size=1, maxsize=1, **options)
    connection = pool.get_connection()
    LEAVES[left](connection)
    connection.close()
    pool.get_connection().close()
    Executing("UPDATE recipe_rows SET v = v + 1")(prepared)  # would wait for a lock
    with pool.get_connection() as connection, prepared.cursor() as cursor:
        connection.execute("SELECT v FROM recipe_rows")
        cursor.execute("SELECT v FROM recipe_rows")
        assert connection.fetchall() == cursor.fetchall()


def test_text_is_stored_once_encoded_when_on_connect_chose_the_character_set(
    make_pool: MakePool, prepared: Any
) -> None:
    Executing(
        "CREATE TABLE IF NOT EXISTS recipe_texts (v VARCHAR(20) CHARACTER SET utf8mb4)", "DELETE FROM recipe_texts"
    )(prepared)
    pool = make_pool(size=1, maxsize=1, charset="latin1", on_connect=choose_charset, autocommit=True)
    for _ in range(3):
        with pool.get_connection() as connection:
            connection.execute("INSERT INTO recipe_texts VALUES (%s)", ("caf\u00e9",))
            connection.execute("SET @x = 1")
    assert pool.stats().created == 1
    with prepared.cursor() as cursor:
        cursor.execute("SELECT DISTINCT v FROM recipe_texts")
        assert cursor.fetchall() == (("caf\u00e9",),)


def test_on_connect_is_called_once_for_each_time_that_a_session_is_set_up(make_pool: MakePool) -> None:
    sessions: list[int] = []
    pool = make_pool(size=1, maxsize=1, on_connect=lambda connection: sessions.append(connection.thread_id()))
    for statement in ("SELECT 1", "SET @x = 1", "SELECT 2", "SET @x = 2"):
        with pool.get_connection() as connection:
            connection.execute(statement)
    assert len(sessions) == 3
    assert len(set(sessions)) == 1


def test_on_connect_has_the_conveniences_of_a_connection_after_a_reset_too(make_pool: MakePool) -> None:
    def set_up(connection: Any) -> None:
        connection.execute("SET @tenant = 'acme'")
        connection.note = connection.thread_id()

    pool = make_pool(size=1, maxsize=1, on_connect=set_up)
    for _ in range(3):
        with pool.get_connection() as connection:
            connection.execute("SELECT @tenant")
            assert connection.fetchall() == (("acme",),)
            assert connection.note == connection.thread_id()
            connection.note = 0
            connection.execute("SET @x = 1")
    assert pool.stats().created == 1


def test_an_on_connect_that_fails_after_a_reset_costs_the_connection_and_no_borrower_sees_it(
    make_pool: MakePool,
) -> None:
    calls: list[int] = []

    def fail_the_second_time(connection: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("not now")

    pool = make_pool(size=1, maxsize=1, on_connect=fail_the_second_time)
    with pool.get_connection() as connection:
        connection.execute("SET @x = 1")
    assert dict(pool.stats().discarded) == {"reset failed": 1}
    with pool.get_connection() as connection:
        assert connection.execute("SELECT 1") == 1


def test_autocommit_of_the_set_up_decides_what_has_to_be_undone(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1, on_connect=commit_by_itself)
    pool.get_connection().close()
    with Questions(admin).during() as counted:
        with pool.get_connection() as connection:
            connection.execute("SELECT 1")
        with pool.get_connection() as connection:
            connection.execute("SET autocommit = 1")
    assert counted == [2]
    assert pool.stats().reset == 0


# -- SET to what it is anyway ------------------------------------------------------------------------------------------


SAME = (
    "SET NAMES utf8mb4",
    "set names 'utf8mb4';",
    "SET time_zone = '+00:00'",
    "SET @@session.sql_mode = 'PIPES_AS_CONCAT'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET foreign_key_checks = 1",
    "SET autocommit = 0",
)
OTHER = (
    "SET NAMES latin1",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET time_zone = '+01:00'",
    "SET sql_mode = ''",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET foreign_key_checks = 0",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET NAMES utf8mb4, @x = 1",
    "SET time_zone = '+00:00', @x = 1",
)


def test_a_set_to_what_the_session_is_set_to_is_free_and_any_other_is_undone(
    make_pool: MakePool, prepared: Any, connect_args: dict[str, Any]
) -> None:
    isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    options = {
        "sql_mode": "PIPES_AS_CONCAT",
        "init_command": "SET time_zone = '+00:00'",
        "on_connect": Executing(isolation),
    }
    pool = make_pool(size=1, maxsize=1, **options)
    expected = stock(connect_args, options)
    with pool.get_connection() as connection:
        connection.execute("SET NAMES latin1")  # the first SET of a pool makes it ask what its sessions are set to
    for statement in (*SAME, *OTHER, *SAME):
        before = pool.stats().reset
        with pool.get_connection() as connection:
            connection.execute(statement)
        assert pool.stats().reset - before == (statement in OTHER), statement
        with pool.get_connection() as connection:
            assert shown_by(connection) == expected, statement


def test_set_names_is_not_free_where_a_later_step_of_the_set_up_says_another(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, init_command="SET NAMES utf8mb4 COLLATE utf8mb4_bin")
    for _ in range(4):
        with pool.get_connection() as connection:
            connection.execute("SELECT @@collation_connection")
            assert connection.fetchall() == (("utf8mb4_bin",),)
            connection.execute("SET NAMES utf8mb4")


def test_a_drain_makes_the_pool_learn_anew_what_its_sessions_are_set_to(make_pool: MakePool, admin: Any) -> None:
    def shown() -> int:
        with pool.get_connection() as connection:
            return int(connection.execute_query("SELECT @@net_read_timeout")[0][0])

    pool = make_pool(size=1, maxsize=1)
    usual = shown()
    for _ in range(2):  # the first makes it ask what its sessions are set to
        with pool.get_connection() as connection:
            connection.execute(f"SET net_read_timeout = {usual}")
    assert pool.stats().reset == 1
    try:
        admin.query(f"SET GLOBAL net_read_timeout = {usual + 5}")
        pool.drain()
        for value in (usual, usual + 5, usual):
            with pool.get_connection() as connection:
                connection.execute(f"SET net_read_timeout = {value}")
            assert shown() == usual + 5
    finally:
        admin.query(f"SET GLOBAL net_read_timeout = {usual}")
    assert pool.stats().reset == 3


def test_a_server_that_reports_more_variables_costs_no_reset(make_pool: MakePool, admin: Any) -> None:
    everything = "SET SESSION session_track_system_variables = '*'"
    pool = make_pool(size=1, maxsize=1, init_command=everything, autocommit=True)
    Executing("CREATE TABLE IF NOT EXISTS recipe_plain (v INT)")(admin)
    for statement in ("INSERT INTO recipe_plain VALUES (1)", "SELECT 1", "BEGIN", "COMMIT"):
        with pool.get_connection() as connection:
            connection.execute(statement)
            connection.rollback()
    assert pool.stats().reset == 0


def test_a_rollback_without_a_transaction_sends_nothing_and_one_with_it_is_sent(
    make_pool: MakePool, prepared: Any
) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
        with Questions(prepared).during() as counted:
            connection.rollback()
        assert counted == [0]
        connection.execute("UPDATE recipe_rows SET v = v + 1")
        with Questions(prepared).during() as counted:
            connection.rollback()
        assert counted == [1]


# -- what does not fit the server --------------------------------------------------------------------------------------

TRACKING = b"session_track_state_change"


@pytest.mark.parametrize("number", [1064, 1105, 1193, 1227, 1235])
def test_a_server_that_refuses_the_trackers_with_any_number_is_reset_whenever_it_was_touched(
    make_pool: MakePool, proxy: Proxy, number: int
) -> None:
    def refuse(data: bytes) -> bytes:
        return data.replace(TRACKING, TRACKING[::-1]).replace(
            b"\xff\xa9\x04#", b"\xff" + number.to_bytes(2, "little") + b"#"
        )

    proxy.rewrite = refuse
    pool = make_pool(port=proxy.port, size=1, maxsize=1)
    with pool.get_connection() as connection:
        before = connection.thread_id()
        connection.execute("SET @x = 1")
    with pool.get_connection() as connection:
        assert connection.thread_id() == before
        connection.execute("SELECT @x")
        assert connection.fetchall() == ((None,),)


# In gbk the backslash is the second half of a character, and the quote after it ends the string.
IN_GBK = "select '\u4e2d\\', get_lock('misread', 0) -- '"


@pytest.mark.parametrize(
    "set_up",
    [
        {"on_connect": Executing("SET NAMES gbk")},
        {"on_connect": Executing("SELECT 1", "SET time_zone = '+00:00', character_set_client = gbk")},
        {"on_connect": Executing("SET @@session.character_set_client = gbk")},
        {"init_command": "SET NAMES gbk"},
        {"init_command": "SET CHARACTER SET gbk"},
        {"init_command": "SET time_zone = '+00:00', NAMES gbk", "on_connect": Executing("SELECT 1")},
        {"init_command": "SET NAMES latin1", "on_connect": Executing("SET NAMES gbk", "SET @a = 1")},
    ],
    ids=str,
)
def test_statements_are_read_in_the_character_set_that_the_set_up_has_chosen(
    make_pool: MakePool, prepared: Any, set_up: dict[str, Any]
) -> None:
    """Invariant 8."""
    pool = make_pool(size=1, **set_up)
    for _ in range(3):
        with pool.get_connection() as connection:
            number = connection.thread_id()
            assert connection.execute_query(IN_GBK)[0][1] == 1  # the server has called it
        prepared_lock = "select is_used_lock('misread') <=> %s"
        with prepared.cursor() as cursor:
            cursor.execute(prepared_lock, (number,))
            assert cursor.fetchone() == (0,)
    assert pool.stats().created == 1


@pytest.mark.parametrize(
    ("statement", "leaves_it"),
    [
        ("SET time_zone = '+00:00'", True),
        ("set session sql_mode='STRICT_TRANS_TABLES', default_storage_engine=INNODB;", True),
        ("SET @tenant = 'acme', @@session.wait_timeout := 5", True),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", True),
        ("SET NAMES gbk", False),
        ("SET @a = 1, NAMES gbk", False),
        ("SET character_set_client = gbk", False),
        ("SET @a = 1, @@character_set_client = gbk", False),
        ("SET @@session.character_set_client = gbk", False),
        ("SET SESSION character_set_client = gbk", False),
        ("SET @@session . character_set_client = gbk", False),
        ("SET `character_set_client` = gbk", False),
        ("SET CHARSET gbk", False),
        ("SET CHAR SET gbk", False),
        ("SET @a = 1; SET NAMES gbk", False),
        ("SET @a = /* x */ 1", False),
        ("SET @a = f()", False),
        ("CALL set_up()", False),
    ],
)
def test_a_set_that_leaves_the_character_set_alone_is_told_by_its_text(statement: str, leaves_it: bool) -> None:
    assert character_set.leaves_it(statement.encode()) is leaves_it
