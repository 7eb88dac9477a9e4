"""A with-block commits at its end, so after a deadlock it refuses what would be committed alone (Invariant 23)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.err import OperationalError

from pymysqlpool import Connection, ConnectionPool
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.request_scope import RequestScope
from pymysqlpool.transaction import TransactionLostError

from ..conftest import MakePool

TAKE = "UPDATE account SET amount = amount - 10 WHERE id = 1"
GIVE = "UPDATE account SET amount = amount + 10 WHERE id = 2"
Kept = Callable[[], list[int]]


class Rival:
    """A heavier transaction, which has locked account 2 and then wants account 1: the other one is the victim."""

    def __init__(self, connect_args: dict[str, Any]) -> None:
        self._connection = pymysql.connect(**connect_args)
        cursor = self._connection.cursor()
        cursor.execute("UPDATE account SET amount = amount WHERE id = 2")
        cursor.executemany("INSERT INTO account VALUES (%s, 0)", [(number,) for number in range(1000, 1200)])
        self._thread = threading.Thread(target=self._cross)

    def start(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _cross(self) -> None:
        self._connection.cursor().execute("UPDATE account SET amount = amount WHERE id = 1")
        self._connection.rollback()

    def end(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(40)
        self._connection.close()


@pytest.fixture
def kept(admin: Any) -> Iterator[Kept]:
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS account")
        cursor.execute("CREATE TABLE account (id INT PRIMARY KEY, amount INT) ENGINE=InnoDB")
        cursor.execute("INSERT INTO account VALUES (1, 100), (2, 100)")

    def amounts() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT amount FROM account WHERE id < 3 ORDER BY id")
            return [amount for (amount,) in cursor.fetchall()]

    yield amounts
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE account")


@pytest.fixture
def rival(kept: Kept, connect_args: dict[str, Any]) -> Iterator[Rival]:
    rival = Rival(connect_args)
    yield rival
    rival.end()


@pytest.fixture
def pool(make_pool: MakePool) -> ConnectionPool:
    return make_pool(size=1, maxsize=1, autocommit=False)


def transfer(connection: Connection, rival: Rival) -> None:
    """Repeat the statement that met the deadlock, as much code does."""
    connection.execute(TAKE)
    rival.start()
    for _ in range(3):
        try:
            connection.execute(GIVE)
        except OperationalError as error:
            if error.args[0] != 1213:
                raise
        else:
            return


def in_a_block_of_the_pool(pool: ConnectionPool, rival: Rival) -> None:
    with pool.get_connection() as connection:
        transfer(connection, rival)


def in_a_block_of_a_scopes_connection(pool: ConnectionPool, rival: Rival) -> None:
    with pool.scope() as scope, scope.connection() as connection:
        transfer(connection, rival)


def in_a_block_inside_another(pool: ConnectionPool, rival: Rival) -> None:
    with pool.get_connection() as connection, connection:
        transfer(connection, rival)


def in_a_block_of_a_task(pool: ConnectionPool, rival: Rival) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.cursor().execute(TAKE)
        rival.start()
        for _ in range(2):
            with suppress(OperationalError):
                await connection.cursor().execute(GIVE)
        await connection.cursor().execute(GIVE)

    async def block() -> None:
        async with AsyncConnectionPool(pool=pool) as shared, shared.get_connection() as connection:
            await work(connection)

    asyncio.run(block())


def in_a_thread_of_a_tasks_block(pool: ConnectionPool, rival: Rival) -> None:
    async def block() -> None:
        async with AsyncConnectionPool(pool=pool) as shared, shared.get_connection() as connection:
            await connection.run_sync(transfer, rival)

    asyncio.run(block())


@pytest.mark.parametrize(
    "work",
    [
        in_a_block_of_the_pool,
        in_a_block_of_a_scopes_connection,
        in_a_block_inside_another,
        in_a_block_of_a_task,
        in_a_thread_of_a_tasks_block,
    ],
)
def test_a_statement_that_is_repeated_after_a_deadlock_is_refused_and_nothing_is_kept(
    pool: ConnectionPool, kept: Kept, rival: Rival, work: Callable[[ConnectionPool, Rival], None]
) -> None:
    with pytest.raises(TransactionLostError, match="rollback") as caught:
        work(pool, rival)
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.args[0] == 1213
    assert kept() == [100, 100]
    assert pool.stats().in_use == 0


@pytest.mark.parametrize("by_a_task", [False, True])
def test_a_block_that_swallows_its_deadlock_does_not_end_well(
    pool: ConnectionPool, kept: Kept, rival: Rival, by_a_task: bool
) -> None:
    async def task() -> None:
        async with AsyncConnectionPool(pool=pool) as shared, shared.get_connection() as connection:
            await connection.cursor().execute(TAKE)
            rival.start()
            with suppress(OperationalError):
                await connection.cursor().execute(GIVE)

    def thread() -> None:
        with pool.get_connection() as connection:
            connection.execute(TAKE)
            rival.start()
            with suppress(OperationalError):
                connection.execute(GIVE)

    with pytest.raises(TransactionLostError):
        asyncio.run(task()) if by_a_task else thread()
    assert kept() == [100, 100]
    assert pool.stats().in_use == 0


def test_after_a_rollback_the_block_goes_on(pool: ConnectionPool, kept: Kept, rival: Rival) -> None:
    with pool.get_connection() as connection:
        for _ in range(2):
            try:
                connection.execute(TAKE)
                rival.start()
                connection.execute(GIVE)
            except OperationalError:
                connection.rollback()
    assert kept() == [90, 110]


def test_where_the_deadlock_undid_nothing_the_block_goes_on(pool: ConnectionPool, kept: Kept, rival: Rival) -> None:
    with pool.get_connection() as connection:
        connection.execute(TAKE)
        connection.commit()
        connection.execute("SELECT amount FROM account WHERE id = 1 FOR UPDATE")
        rival.start()
        with pytest.raises(OperationalError, match="1213"):
            connection.execute(GIVE)
        connection.execute(GIVE)
    assert kept() == [90, 110]


def test_outside_of_a_block_it_is_as_without_a_pool(pool: ConnectionPool, kept: Kept, rival: Rival) -> None:
    """Where the work began is not known, and PyMySQL lets its users go on."""
    scope = RequestScope(pool)
    transfer(scope.connection(), rival)
    assert not scope.connection().in_block
    scope.connection().commit()
    scope.close()
    assert kept() == [100, 110]


@pytest.mark.parametrize("by_execute_query", [False, True])
def test_a_block_that_begins_after_the_deadlock_is_another_piece_of_work(
    pool: ConnectionPool, kept: Kept, rival: Rival, by_execute_query: bool
) -> None:
    with pool.scope() as scope:
        connection = scope.connection()
        connection.execute(TAKE)
        rival.start()
        with pytest.raises(OperationalError, match="1213"):
            connection.execute(GIVE)
        if by_execute_query:
            connection.execute_query(GIVE)
        else:
            with connection:
                connection.execute(GIVE)
    assert kept() == [100, 110]


def test_a_tasks_block_that_begins_after_the_deadlock_is_another_piece_of_work(
    pool: ConnectionPool, kept: Kept, rival: Rival
) -> None:
    async def work() -> None:
        async with AsyncConnectionPool(pool=pool) as shared:
            connection = await shared.get_connection()
            await connection.cursor().execute(TAKE)
            rival.start()
            with pytest.raises(OperationalError, match="1213"):
                await connection.cursor().execute(GIVE)
            async with connection:
                await connection.cursor().execute(GIVE)

    asyncio.run(work())
    assert kept() == [100, 110]
