"""The scope itself, transactions, and the helpers for users' tests (behaviours 2, 4, 14, 27, 37, 53, 54)."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pymysql.err import OperationalError

from pymysqlpool import ConnectionPool, PoolTimeout
from pymysqlpool.request_scope import NoRequestScopeError, RequestScope, current_connection, request_scope
from pymysqlpool.testing import ImplicitCommitError, assert_nothing_borrowed, record, rollback
from pymysqlpool.transaction import TransactionError, TransactionLostError, transaction
from tests.support import run_threads, wait_until

Committed = Callable[[], list[int]]


def test_a_child_thread_and_a_task_with_a_copied_context_share_the_lease(pool: ConnectionPool) -> None:
    """33: the variable holds a mutable holder, so what a child borrows the parent's scope gives back."""

    async def in_task() -> Any:
        return await asyncio.to_thread(current_connection, pool)

    with request_scope(pool) as scope:
        found: list[Any] = []
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: found.append(current_connection()),))
        thread.start()
        thread.join(10)
        found.append(asyncio.run(in_task()))
        assert found == [scope.connection(), scope.connection()]
        assert pool.stats().borrowed == 1
    assert pool.stats().in_use == 0


def test_a_borrow_that_comes_too_late_for_the_end_of_its_scope_is_given_back(
    make_pool: Callable[..., ConnectionPool],
) -> None:
    pool = make_pool(size=1, maxsize=1, timeout=10)
    scope = RequestScope(pool)
    errors: list[BaseException] = []

    def late() -> None:
        try:
            scope.connection()
        except NoRequestScopeError as error:
            errors.append(error)

    with pool.get_connection():
        thread = threading.Thread(target=late)
        thread.start()
        wait_until(lambda: pool.stats().waiting == 1, "the thread waits")
        scope.close()  # not held up by the one that waits
    thread.join(10)
    assert "ended while this thread waited" in str(errors[0])
    assert pool.stats().in_use == 0


def test_closing_from_many_threads_gives_back_once_and_raises_nothing(pool: ConnectionPool) -> None:
    """4"""
    scope = RequestScope(pool)
    scope.connection()
    assert run_threads(8, lambda _: scope.close()) == [None] * 8
    assert pool.stats().returned == 1
    with pytest.raises(NoRequestScopeError, match="has ended"):
        scope.connection()


def test_a_connection_that_the_user_closed_is_replaced_by_a_new_one(pool: ConnectionPool) -> None:
    with request_scope(pool) as scope:
        first = scope.connection()
        first.close()
        assert scope.connection() is not first
        scope.connection().execute("SELECT 1")


@pytest.mark.parametrize("fails", [False, True])
def test_a_scope_with_a_transaction_commits_at_its_end_and_rolls_back_at_an_exception(
    pool: ConnectionPool, table: Committed, fails: bool
) -> None:
    try:
        with request_scope(pool, transaction="request") as scope:
            scope.connection().execute("INSERT INTO item VALUES (1)")
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert table() == ([] if fails else [1])


def test_begin_does_not_commit_by_the_way_what_was_not_committed(pool: ConnectionPool, table: Committed) -> None:
    with pool.get_connection() as connection:
        connection.execute("INSERT INTO item VALUES (1)")
        with pytest.raises(TransactionError, match="uncommitted"), transaction(connection):
            pass
        connection.rollback()
    assert table() == []


def test_a_deadlock_inside_is_noticed_also_when_it_was_swallowed(pool: ConnectionPool, table: Committed) -> None:
    """27: the server has rolled back everything, not only the statement."""
    with pool.get_connection() as setup:
        setup.execute("INSERT INTO item VALUES (1), (2)")
    first_step = threading.Barrier(2)

    def change(index: int) -> str:
        with pool.get_connection() as connection:
            try:
                with transaction(connection):
                    connection.execute("UPDATE item SET id = id WHERE id = %s", (1 + index,))
                    connection.execute("INSERT INTO item VALUES (%s)", (10 + index,))
                    first_step.wait(10)
                    try:
                        connection.execute("UPDATE item SET id = id WHERE id = %s", (2 - index,))
                    except OperationalError as error:
                        if error.args[0] != 1213:
                            raise
            except TransactionLostError:
                return "lost"
        return "well"

    outcomes = run_threads(2, change)
    assert sorted(outcomes) == ["lost", "well"]
    assert table() == [1, 2, 10 + outcomes.index("well")]


@pytest.mark.parametrize("autocommit", [False, True])
def test_rollback_undoes_what_borrowers_committed_and_shows_them_what_they_would_see(
    make_pool: Callable[..., ConnectionPool], table: Committed, autocommit: bool
) -> None:
    """53"""
    pool = make_pool(size=1, maxsize=1, autocommit=autocommit)

    def count(connection: Any) -> int:
        connection.execute("SELECT COUNT(*) FROM item")
        return int(connection.fetchone()[0])

    with rollback(pool) as session:
        with pool.get_connection() as one:
            one.execute("INSERT INTO item VALUES (1)")  # committed by the end of the block
        two = pool.get_connection()
        two.execute("INSERT INTO item VALUES (2)")
        two.close()  # not committed, unless by autocommit
        with pool.get_connection() as three, pool.get_connection() as four:
            three.begin()
            three.execute("INSERT INTO item VALUES (3)")
            three.rollback()
            assert count(three) == count(four) == (2 if autocommit else 1)
        found: list[int] = run_threads(2, lambda _: _counted(pool, count))
        assert found == [count(session)] * 2
    assert table() == []


def _counted(pool: ConnectionPool, count: Callable[[Any], int]) -> int:
    with pool.get_connection() as connection:
        return count(connection)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE IF NOT EXISTS item (id INT)", "TRUNCATE item", "LOCK TABLES item WRITE"]
)
def test_rollback_names_the_statement_that_commits_by_itself(
    pool: ConnectionPool, table: Committed, statement: str
) -> None:
    """53: one of its limits."""
    with (
        pytest.raises(ImplicitCommitError, match=re.escape(statement)),
        rollback(pool),
        pool.get_connection() as connection,
    ):
        connection.execute(statement)
    assert pool.stats().in_use == 0


def test_rollback_notices_at_its_end_a_commit_that_nothing_showed(pool: ConnectionPool, table: Committed) -> None:
    """53: here in a comment's disguise."""
    with (
        pytest.raises(ImplicitCommitError, match="something in the block"),
        rollback(pool),
        pool.get_connection() as connection,
    ):
        connection.execute("INSERT INTO item VALUES (1)")
        connection.execute("/* in disguise */ LOCK TABLES item WRITE")
    assert pool.stats().in_use == 0


def test_rollback_lets_one_thread_at_a_time_borrow(make_pool: Callable[..., ConnectionPool]) -> None:
    """53"""
    pool = make_pool(pre_create_num=1, timeout=0.05)
    with rollback(pool), pool.get_connection():
        (error,) = run_threads(1, lambda _: pool.get_connection())
    assert isinstance(error, PoolTimeout)
    assert "one thread at a time" in str(error)


def test_rollback_puts_the_pool_back_as_it_was(pool: ConnectionPool) -> None:
    """53"""
    with rollback(pool):
        kept = pool.get_connection()
    with pytest.raises(Exception, match=r"closed|returned"):
        kept.execute("SELECT 1")
    assert not {"get_connection", "_give_back"} & set(vars(pool))
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")


def test_what_was_not_given_back_fails_the_test_and_says_where(pool: ConnectionPool) -> None:
    """54"""
    with (
        pytest.raises(AssertionError, match=r"test_request_scope\.py:\d+ in test_what"),
        assert_nothing_borrowed(pool),
    ):
        kept = pool.get_connection()
    kept.close()


def test_what_was_not_given_back_inside_a_rollback_fails_the_test_too(pool: ConnectionPool) -> None:
    """53, 54: the pool itself sees one session, whatever becomes of the handles on it."""
    with (
        pytest.raises(AssertionError, match=r"^1 connections .*\n.*rollback\(\).*scope\.py:\d+ in test_what_was"),
        assert_nothing_borrowed(pool),
        rollback(pool),
    ):
        pool.get_connection().close()
        kept = pool.get_connection()
    with assert_nothing_borrowed(pool), rollback(pool):
        pool.get_connection().close()
    del kept


def test_recording_lists_the_statements_of_this_pool_with_the_place(
    pool: ConnectionPool, make_pool: Callable[..., ConnectionPool]
) -> None:
    """54"""
    with record(pool) as queries:
        for each in (pool, make_pool()):
            with each.get_connection() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT %s", (1,))
    assert [query.statement for query in queries] == ["SELECT 1"]
    assert "in test_recording" in queries[0].place
    assert queries[0].seconds > 0


def test_a_borrow_for_a_scope_inside_a_borrow_for_it_gets_the_same_connection(
    make_pool: Callable[..., ConnectionPool],
) -> None:
    """As by a finalizer or a hook in the same thread: it neither waits for its own thread nor loses a connection."""
    inside: list[Any] = []
    asked = []

    def ask(lease: Any) -> None:
        if not asked:
            asked.append(1)
            inside.append(scope.connection())

    pool = make_pool(size=2, maxsize=2, on_checkout=ask)
    scope = RequestScope(pool)
    assert scope.connection() is inside[0]
    assert pool.stats().in_use == 1
    scope.close()
    assert pool.stats().in_use == 0
