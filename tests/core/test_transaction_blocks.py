"""All of a transaction block is kept or nothing, whatever ends it and whatever stands inside it (Invariant 23)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.err import OperationalError

from pymysqlpool import Connection, ConnectionPool
from pymysqlpool.request_scope import TransactionMode, request_scope
from pymysqlpool.transaction import TransactionError, TransactionLostError, transaction

from ..conftest import MakePool

Kept = Callable[[], list[int]]


@pytest.fixture
def kept(admin: Any) -> Iterator[Kept]:
    """An empty table `entry (id)`; returns what is committed in it."""
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS entry, entry_too")
        cursor.execute("CREATE TABLE entry (id INT PRIMARY KEY) ENGINE=InnoDB")

    def committed() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT id FROM entry ORDER BY id")
            return [number for (number,) in cursor.fetchall()]

    yield committed
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS entry, entry_too")


@pytest.fixture(params=[False, True], ids=["autocommit off", "autocommit on"])
def pool(make_pool: MakePool, request: pytest.FixtureRequest) -> ConnectionPool:
    return make_pool(size=2, maxsize=2, autocommit=request.param)


def add(connection: Connection, number: int) -> None:
    connection.execute("INSERT INTO entry VALUES (%s)", (number,))


# What ends the transaction inside a block, and whether it keeps what came before.
ENDS: dict[str, tuple[Callable[[Connection], Any], bool]] = {
    "DDL": (lambda its: its.query("CREATE TABLE entry_too (id INT)"), True),
    "LOCK TABLES": (lambda its: its.query("LOCK TABLES entry WRITE"), True),
    "COMMIT": (lambda its: its.commit(), True),
    "COMMIT AND CHAIN": (lambda its: its.query("COMMIT AND CHAIN"), True),
    "SET autocommit": (lambda its: [its.query("SET autocommit = 0"), its.query("SET autocommit = 1")], True),
    "ROLLBACK": (lambda its: its.rollback(), False),
    "ROLLBACK AND CHAIN": (lambda its: its.query("ROLLBACK AND CHAIN"), False),
    "DDL that fails": (lambda its: its.query("CREATE TABLE entry (id INT)"), True),
}


@pytest.mark.parametrize("way", ENDS)
def test_what_comes_after_the_end_of_the_transaction_is_refused_and_never_kept(
    pool: ConnectionPool, kept: Kept, way: str
) -> None:
    end, keeps = ENDS[way]
    with pool.get_connection() as connection:
        with pytest.raises(TransactionLostError), transaction(connection):
            add(connection, 1)
            with suppress(OperationalError):  # 1050: the table exists
                end(connection)
            with pytest.raises(TransactionLostError):
                add(connection, 2)
        add(connection, 3)
    assert kept() == ([1, 3] if keeps else [3])


@pytest.mark.parametrize("way", ENDS)
def test_a_block_whose_transaction_has_ended_cannot_end_well(pool: ConnectionPool, kept: Kept, way: str) -> None:
    end, keeps = ENDS[way]
    with pool.get_connection() as connection, pytest.raises(TransactionLostError), transaction(connection):
        add(connection, 1)
        with suppress(OperationalError):  # 1050: the table exists
            end(connection)
    assert kept() == ([1] if keeps else [])


@pytest.mark.filterwarnings("ignore:The 'reconnect' argument:DeprecationWarning")
def test_a_session_that_ping_has_made_anew_is_not_the_transactions(
    pool: ConnectionPool, kept: Kept, admin: Any
) -> None:
    with pool.get_connection() as connection, pytest.raises(TransactionLostError), transaction(connection):
        add(connection, 1)
        admin.kill(connection.thread_id())
        connection.ping(reconnect=True)
        add(connection, 2)
    assert kept() == []


def test_begin_inside_a_block_is_refused_before_it_commits(pool: ConnectionPool, kept: Kept) -> None:
    with pool.get_connection() as connection:
        for begin in (connection.begin, lambda: connection.execute("/* a comment */ START  TRANSACTION READ WRITE")):
            with pytest.raises(TransactionError, match="would commit"), transaction(connection):
                add(connection, 1)
                begin()
    assert kept() == []


def test_an_error_that_undoes_its_statement_alone_leaves_the_block_as_it_is(pool: ConnectionPool, kept: Kept) -> None:
    with pool.get_connection() as connection, transaction(connection):
        add(connection, 1)
        with pytest.raises(pymysql.err.IntegrityError):
            add(connection, 1)
        with pytest.raises(pymysql.err.ProgrammingError):
            connection.execute("SELEC 1")
        add(connection, 2)
    assert kept() == [1, 2]


def _fall_into_a_deadlock(connection: Connection, rival: Any) -> None:
    """The rival holds row 1 and wants row 2, the connection the other way round; the lighter of them is the victim."""
    connection.execute("UPDATE entry SET id = id WHERE id = 2")
    thread = threading.Thread(target=lambda: rival.cursor().execute("UPDATE entry SET id = id WHERE id = 2"))
    thread.start()
    with pytest.raises(OperationalError) as caught:
        connection.execute("UPDATE entry SET id = id WHERE id = 1")
    assert caught.value.args[0] == 1213
    thread.join()
    rival.rollback()


@pytest.mark.parametrize("nested", [False, True])
def test_a_deadlock_that_is_swallowed_and_its_statement_repeated_keeps_nothing(
    pool: ConnectionPool, kept: Kept, connect_args: dict[str, Any], nested: bool
) -> None:
    rival = pymysql.connect(**connect_args)
    with pool.get_connection() as setup:
        setup.cursor().executemany("INSERT INTO entry VALUES (%s)", [(1,), (2,)])
    rival.cursor().execute("UPDATE entry SET id = id WHERE id = 1")
    rival.cursor().executemany("INSERT INTO entry VALUES (%s)", [(number,) for number in range(1000, 1200)])  # heavier
    with pool.get_connection() as connection:
        with pytest.raises(TransactionLostError) as caught, transaction(connection):
            add(connection, 3)
            if nested:
                with pytest.raises(TransactionLostError), transaction(connection):
                    _fall_into_a_deadlock(connection, rival)
                    add(connection, 4)
            else:
                _fall_into_a_deadlock(connection, rival)
            add(connection, 5)
        assert "Not all of the block was undone" not in "".join(getattr(caught.value, "__notes__", ()))
        assert caught.value.__cause__.args[0] == 1213  # type: ignore[union-attr]
    rival.close()
    assert kept() == [1, 2]


def _with(connection: Connection) -> None:
    with connection as same:
        add(same, 2)


INSIDE: dict[str, Callable[[Connection], Any]] = {
    "execute_query": lambda its: its.execute_query("INSERT INTO entry VALUES (2)"),
    "with": _with,
    "with, twice": lambda its: [its.__enter__(), _with(its), its.__exit__(None, None, None)],
}


@pytest.mark.parametrize("way", INSIDE)
@pytest.mark.parametrize("fails", [False, True])
def test_a_block_of_the_connection_inside_neither_commits_nor_gives_back(
    pool: ConnectionPool, kept: Kept, way: str, fails: bool
) -> None:
    connection = pool.get_connection()
    try:
        with transaction(connection):
            add(connection, 1)
            INSIDE[way](connection)
            assert kept() == []
            add(connection, 3)
            if fails:
                raise KeyError
    except KeyError:
        assert kept() == []
    else:
        assert kept() == [1, 2, 3]
    connection.close()


@pytest.mark.parametrize("way", INSIDE)
@pytest.mark.parametrize("around", ["a scope with a transaction", "a scope"])
def test_the_scope_that_owns_a_lease_ends_it_and_with_blocks_do_not(
    pool: ConnectionPool, kept: Kept, way: str, around: str
) -> None:
    """Without a transaction around it a with-block commits, as ever; the lease stays the scope's."""
    with_transaction = around == "a scope with a transaction"
    mode: TransactionMode = "request" if with_transaction else None
    with pytest.raises(KeyError), request_scope(pool, transaction=mode) as scope:
        connection = scope.connection()
        INSIDE[way](connection)
        assert scope.connection() is connection
        assert kept() == ([] if with_transaction else [2])
        connection.execute("SELECT 1")
        raise KeyError
    assert kept() == ([] if with_transaction else [2])
    assert pool.stats().in_use == 0


def test_the_error_that_ends_a_with_block_is_not_replaced_by_that_of_its_rollback(
    make_pool: MakePool, kept: Kept, admin: Any
) -> None:
    """The statement's error says what happened; that nothing can be rolled back on a dead connection is no news."""
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    with pool.scope() as scope:
        with pytest.raises(KeyError), scope.connection() as connection:
            add(connection, 1)
            admin.kill(connection.thread_id())
            raise KeyError
        assert scope.connection() is not connection
        add(scope.connection(), 2)
        scope.connection().commit()
    assert kept() == [2]


def test_a_with_block_that_fails_in_a_scope_is_rolled_back_and_the_lease_goes_on(
    pool: ConnectionPool, kept: Kept, make_pool: MakePool
) -> None:
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    with pool.scope() as scope:
        connection = scope.connection()
        with pytest.raises(KeyError), connection:
            add(connection, 1)
            raise KeyError
        add(connection, 2)
        connection.commit()
    assert kept() == [2]
