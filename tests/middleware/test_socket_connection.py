"""A websocket's connection under WSGI: idle it holds no lease, and nothing is taken away that would be missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from pymysql.cursors import DictCursor, SSCursor

from pymysqlpool import Connection, ConnectionPool
from pymysqlpool.request_scope import request_scope
from pymysqlpool.transaction import TransactionLostError, transaction
from pymysqlpool.wsgi import SocketConnection

from ..conftest import MakePool

Kept = Callable[[], list[int]]


@pytest.fixture
def kept(admin: Any) -> Iterator[Kept]:
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS message")
        cursor.execute("CREATE TABLE message (id INT PRIMARY KEY AUTO_INCREMENT, body INT) ENGINE=InnoDB")
        cursor.execute("CREATE OR REPLACE PROCEDURE message_of(number INT) SELECT number")

    def committed() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT body FROM message ORDER BY id")
            return [number for (number,) in cursor.fetchall()]

    yield committed
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS message")
        cursor.execute("DROP PROCEDURE IF EXISTS message_of")


@pytest.fixture(params=[False, True], ids=["autocommit off", "autocommit on"])
def pool(make_pool: MakePool, request: pytest.FixtureRequest) -> ConnectionPool:
    return make_pool(size=1, maxsize=1, timeout=1, autocommit=request.param)


@pytest.fixture
def socket(pool: ConnectionPool) -> Iterator[Any]:
    with request_scope(pool) as scope:
        yield SocketConnection(scope, pool)
    assert pool.stats().in_use == 0


def add(connection: Any, body: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO message (body) VALUES (%s)", (body,))
        return int(cursor.lastrowid)


IDLE_AFTER: dict[str, Callable[[Any], Any]] = {
    "a cursor": lambda its: its.cursor(),
    "SELECT": lambda its: its.cursor().execute("SELECT 1"),
    "SELECT of a DictCursor": lambda its: its.cursor(DictCursor).execute("SELECT 1 AS a"),
    "SELECT on the connection": lambda its: its.execute("SELECT 1"),
    "an unbuffered result read to its end": lambda its: _unbuffered(its).fetchall(),
    "an unbuffered result whose cursor was closed": lambda its: _unbuffered(its).close(),
    "a written and committed row": lambda its: [add(its, 1), its.commit()],
    "a written row, rolled back": lambda its: [add(its, 1), its.rollback()],
    "a procedure": lambda its: _call(its),
    "execute_query": lambda its: its.execute_query("INSERT INTO message (body) VALUES (1)"),
    "a with-block": lambda its: _with(its),
    "a transaction block": lambda its: _transaction(its),
    "a locking read, ended": lambda its: [its.begin(), its.execute("SELECT 1 FROM message FOR UPDATE"), its.commit()],
    "an error": lambda its: _fail(its),
    "ping": lambda its: its.ping(reconnect=False),
    "thread_id": lambda its: its.thread_id(),
    "escape": lambda its: its.escape("it's"),
}


def _unbuffered(connection: Any) -> Any:
    cursor = connection.cursor(SSCursor)
    cursor.execute("SELECT seq FROM seq_1_to_1000")
    return cursor


def _call(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("message_of", (7,))
        assert cursor.fetchall() == ((7,),)
        cursor.execute("SELECT @_message_of_0")
        assert cursor.fetchone() == (7,)


def _with(connection: Any) -> None:
    with connection as same:
        add(same, 1)
        same.execute("SELECT LAST_INSERT_ID()")


def _transaction(connection: Any) -> None:
    with transaction(connection):
        add(connection, 1)
        with transaction(connection):
            add(connection, 2)


def _fail(connection: Any) -> None:
    with pytest.raises(pymysql.err.ProgrammingError):
        connection.cursor().execute("SELECT nonsense FROM nowhere")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("what", IDLE_AFTER)
def test_after_its_work_the_lease_is_back(pool: ConnectionPool, socket: Any, what: str) -> None:
    result = IDLE_AFTER[what](socket)
    socket.give_back_if_idle()  # an unbuffered result was read without a call that it sees
    assert pool.stats().in_use == 0
    assert isinstance(socket, Connection)
    del result


HELD_AFTER: dict[str, Callable[[Any], Any]] = {
    "a transaction that was begun": lambda its: its.begin(),
    "BEGIN": lambda its: its.execute("BEGIN"),
    "a locking read in it": lambda its: [its.begin(), its.execute("SELECT 1 FROM message FOR UPDATE")],
    "a result half read": lambda its: _unbuffered(its).fetchone(),
    "a variable": lambda its: its.execute("SET @a = 1"),
    "a time zone": lambda its: its.execute("SET time_zone = '+02:00'"),
    "a lock": lambda its: its.execute("SELECT GET_LOCK('a', 1)"),
    "a temporary table": lambda its: its.execute("CREATE TEMPORARY TABLE own (id INT)"),
    "another database": lambda its: its.select_db("information_schema"),
}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("what", HELD_AFTER)
def test_what_would_be_missed_keeps_the_lease(pool: ConnectionPool, socket: Any, what: str) -> None:
    kept = HELD_AFTER[what](socket)
    assert pool.stats().in_use == 1
    del kept


def test_uncommitted_changes_stay_until_they_are_committed(make_pool: MakePool, kept: Kept) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    with request_scope(pool) as scope:
        socket: Any = SocketConnection(scope, pool)
        first = add(socket, 1)
        assert (pool.stats().in_use, kept()) == (1, [])
        assert add(socket, 2) == first + 1
        socket.commit()
        assert (pool.stats().in_use, kept()) == (0, [1, 2])


def test_it_sees_what_others_have_committed_meanwhile(make_pool: MakePool, kept: Kept, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    with request_scope(pool) as scope:
        socket: Any = SocketConnection(scope, pool)
        cursor = socket.cursor()
        for number in range(3):
            cursor.execute("SELECT COUNT(*) FROM message")
            assert cursor.fetchone() == (number,)
            add(admin, number)


def test_a_session_that_ended_while_nothing_was_at_stake_is_not_noticed(
    pool: ConnectionPool, socket: Any, admin: Any
) -> None:
    for _ in range(3):
        admin.kill(socket.thread_id())
        cursor = socket.cursor()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize("question", ["SELECT LAST_INSERT_ID()", "show warnings", "SELECT FOUND_ROWS ( )"])
def test_a_question_about_the_statement_before_is_refused_where_its_session_is_gone(
    make_pool: MakePool, kept: Kept, question: str
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    with request_scope(pool) as scope:
        socket: Any = SocketConnection(scope, pool)
        add(socket, 1)
        with pytest.raises(pymysql.err.InterfaceError, match="session of its own"):
            socket.execute(question)
        assert pool.stats().in_use == 0


def test_a_transaction_block_refuses_what_comes_after_its_end(socket: Any, kept: Kept) -> None:
    with pytest.raises(TransactionLostError), transaction(socket):
        add(socket, 1)
        socket.commit()
        add(socket, 2)
    assert kept() == [1]


def test_a_closed_cursor_stays_closed(socket: Any) -> None:
    cursor = socket.cursor()
    cursor.close()
    with pytest.raises(pymysql.err.ProgrammingError, match="Cursor closed"):
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("end", ["rollback", "commit", "use"])
def test_a_session_lost_with_changes_costs_no_slot_and_is_told(
    make_pool: MakePool, kept: Kept, admin: Any, end: str
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    with request_scope(pool) as scope:
        socket: Any = SocketConnection(scope, pool)
        add(socket, 1)
        admin.kill(socket.thread_id())
        with pytest.raises(pymysql.err.OperationalError):
            socket.execute("SELECT 1")
        assert pool.stats().in_use == 0
        if end == "rollback":
            socket.rollback()
        else:
            with pytest.raises(pymysql.err.OperationalError, match="uncommitted changes"):
                socket.commit() if end == "commit" else socket.execute("SELECT 1")
        add(socket, 2)
        socket.commit()
    assert kept() == [2]


def test_a_block_that_loses_its_session_gets_no_other_one(pool: ConnectionPool, kept: Kept, admin: Any) -> None:
    with request_scope(pool) as scope:
        socket: Any = SocketConnection(scope, pool)
        with pytest.raises(pymysql.err.MySQLError), socket:
            socket.begin()
            add(socket, 1)
            admin.kill(socket.thread_id())
            for _ in range(3):
                with pytest.raises(pymysql.err.OperationalError):
                    add(socket, 2)
        assert pool.stats().in_use == 0
        add(socket, 3)
        socket.commit()
    assert kept() == [3]
