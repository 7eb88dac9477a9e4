"""What a borrower sees: cursors, transactions, returns, errors."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from pymysql import err
from pymysql.cursors import DictCursor, SSCursor

from pymysqlpool import (
    Connection,
    ConnectionInterruptedError,
    PoolClosed,
    PoolDeadlock,
    PoolTimeout,
    ReturnConnectionToPoolError,
    aio,
)
from pymysqlpool._async import worker as _worker
from pymysqlpool._async.worker import ThreadCall
from pymysqlpool._driver.wire import Wire
from pymysqlpool._pool.for_loops import A_CUT
from pymysqlpool._pool.while_waiting import LOOK_AROUND
from pymysqlpool.aio import AsyncConnection, AsyncConnectionPool
from pymysqlpool.transaction import TransactionError

from .conftest import Opened
from .support import until


@pytest.fixture
def table(admin: Any) -> Any:
    """An empty table `note (id)`; returns what is committed in it."""
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS note")
        cursor.execute("CREATE TABLE note (id INT PRIMARY KEY) ENGINE=InnoDB")

    def committed() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT id FROM note ORDER BY id")
            return [number for (number,) in cursor.fetchall()]

    yield committed
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE note")


async def insert(connection: AsyncConnection, number: int) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("INSERT INTO note VALUES (%s)", (number,))


def test_it_reads_like_aiomysql(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as pool, pool.get_connection() as connection:
            async with connection.cursor() as cursor:
                assert await cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3") == 3
                assert await cursor.fetchone() == (1,)
                assert await cursor.fetchmany(1) == ((2,),)
                assert await cursor.fetchall() == ((3,),)
                assert (cursor.rowcount, cursor.description[0][0]) == (3, "1")
            cursor = await connection.cursor(DictCursor)
            await cursor.execute("SELECT 5 AS five")
            assert [row async for row in cursor] == [{"five": 5}]
            await cursor.close()
            cursor = connection.cursor(SSCursor)
            await cursor.execute("SELECT seq FROM seq_1_to_300")
            assert [number async for (number,) in cursor] == list(range(1, 301))
            await connection.ping()
            assert await connection.run_sync(lambda sync: sync.thread_id()) > 0

    asyncio.run(main())


def test_executemany_and_several_result_sets(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened(client_flag=1 << 16) as pool, pool.get_connection() as connection:
            cursor = connection.cursor()
            assert await cursor.executemany("INSERT INTO note VALUES (%s)", [(1,), (2,)]) == 2
            await cursor.execute("SELECT 1; SELECT 2")
            assert await cursor.fetchone() == (1,)
            assert await cursor.nextset()
            assert await cursor.fetchone() == (2,)

    asyncio.run(main())
    assert table() == [1, 2]


def test_a_good_block_commits_and_a_bad_one_rolls_back(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            async with pool.get_connection() as connection:
                await insert(connection, 1)
            with pytest.raises(ZeroDivisionError):
                async with pool.get_connection() as connection:
                    await insert(connection, 2)
                    raise ZeroDivisionError
            connection = await pool.get_connection()
            await insert(connection, 3)
            await connection.commit()
            await insert(connection, 4)
            await connection.rollback()
            await connection.begin()
            await insert(connection, 5)
            await connection.close()
            assert (pool.stats().idle, pool.stats().created) == (1, 1)

    asyncio.run(main())
    assert table() == [1, 3]


def test_transaction_blocks_nest_by_savepoints(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened(autocommit=True) as pool, pool.get_connection() as connection:
            async with connection.transaction():
                await insert(connection, 1)
                with pytest.raises(ZeroDivisionError):
                    async with connection.transaction():
                        await insert(connection, 2)
                        raise ZeroDivisionError
                async with connection.transaction():
                    await insert(connection, 3)
            with pytest.raises(err.IntegrityError):
                async with connection.transaction():
                    await insert(connection, 4)
                    await insert(connection, 1)
            assert pool.stats().in_use == 1

    asyncio.run(main())
    assert table() == [1, 3]


def test_a_transaction_that_cannot_begin_says_why(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened() as pool:
            connection = await pool.get_connection()
            await insert(connection, 1)
            with pytest.raises(TransactionError, match="uncommitted changes"):
                async with connection.transaction():
                    pass
            await connection.close()

    asyncio.run(main())


def test_a_transaction_left_by_cancellation_is_rolled_back(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened(autocommit=True) as pool, pool.get_connection() as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), connection.transaction():
                    await insert(connection, 1)
                    await asyncio.Event().wait()
            await insert(connection, 2)  # nothing ran when it was cancelled: the connection is as good as before

    asyncio.run(main())
    assert table() == [2]


def test_a_returned_connection_is_dead_and_says_where_it_was_returned(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as pool:
            connection = await pool.get_connection()
            cursor = connection.cursor()
            await cursor.execute("SELECT 1")
            await connection.close()
            for use in (connection.close, connection.ping, cursor.fetchone, connection.commit):
                with pytest.raises(ReturnConnectionToPoolError, match=r"test_async_pool\.py"):
                    await use()
            with pytest.raises(ReturnConnectionToPoolError, match="returned to the pool"):
                connection.cursor()

    asyncio.run(main())


def test_a_clean_return_needs_no_thread_and_no_round_trip(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as pool:
            async with pool.get_connection():
                pass
            threads = threading.active_count()
            pool.pool._tend_at = float("inf")
            for _ in range(50):
                async with pool.get_connection():
                    pass
            assert threading.active_count() == threads
            assert pool.stats().created == 1

    asyncio.run(main())


def test_a_dirty_session_is_as_new_for_the_next(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            async with pool.get_connection() as connection:
                await connection.cursor().execute("SET @mine = 1, sql_mode = 'ANSI'")
            async with pool.get_connection() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT @mine, @@sql_mode LIKE '%ANSI%'")
                assert await cursor.fetchone() == (None, 0)
            assert (pool.stats().created, dict(pool.stats().discarded)) == (1, {})

    asyncio.run(main())


def test_a_half_read_result_is_discarded_and_not_drained(opened: Opened) -> None:
    """20: an exception ends the cursor's block at once."""

    async def main() -> None:
        async with opened() as pool:
            with pytest.raises(ZeroDivisionError):
                async with pool.get_connection() as connection, connection.cursor(SSCursor) as cursor:
                    await cursor.execute("SELECT seq, REPEAT('x', 200) FROM seq_1_to_2000000")
                    await cursor.fetchone()
                    raise ZeroDivisionError
            assert sum(pool.stats().discarded.values()) == 1

    asyncio.run(main())


def test_tasks_that_share_a_connection_are_served_one_after_the_other(opened: Opened) -> None:
    """34"""

    async def one(connection: AsyncConnection, number: int) -> int:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT %s, SLEEP(0.001)", (number,))
            return (await cursor.fetchone())[0]  # type: ignore[no-any-return]

    async def main() -> None:
        async with opened() as pool, pool.get_connection() as connection:
            assert await asyncio.gather(*(one(connection, number) for number in range(50))) == list(range(50))

    asyncio.run(main())


def test_closing_cuts_off_what_another_task_is_doing(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            connection = await pool.get_connection()
            tasks = [asyncio.create_task(connection.cursor().execute("SELECT SLEEP(30)")) for _ in range(2)]
            await asyncio.sleep(0.1)
            await connection.close()
            with pytest.raises(err.MySQLError):
                await tasks[0]
            with pytest.raises(ReturnConnectionToPoolError):
                await tasks[1]
            async with pool.get_connection() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT 1")
                assert await cursor.fetchone() == (1,)

    asyncio.run(main())


def test_a_timeout_names_the_holders_of_the_connections(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool, pool.get_connection():
            with pytest.raises(PoolTimeout, match=r"(?s)1 in use.*test_async_pool.py") as raised:
                await pool.get_connection(timeout=0.1)
            assert "This caller itself holds 1 of them" in str(raised.value)
            with pytest.raises(PoolTimeout, match=r"1 in use.*") as raised:
                await asyncio.create_task(pool.get_connection(timeout=0.1).__aenter__())
            assert "itself" not in str(raised.value), "tasks share the loop's thread, and are not one"

    asyncio.run(main())


def test_a_timeout_names_the_task_that_holds_it_before_and_after_a_statement(opened: Opened) -> None:
    """Not the worker thread that said the statement; and that thread is itself again afterwards."""

    async def main() -> None:
        asyncio.current_task().set_name("the import")  # type: ignore[union-attr]
        async with opened(size=1, maxsize=1) as pool, pool.get_connection() as connection:
            for _ in range(2):
                with pytest.raises(PoolTimeout, match=r"held for .* by task 'the import', not in a transaction"):
                    await pool.get_connection(timeout=0.01)
                await connection.ping()
            await connection.close()
            lent = await pool.run(ThreadCall(pool.pool.get_connection, lambda: None))
            with pytest.raises(PoolTimeout, match=r"held for .* by thread 'pymysqlpool "):
                await pool.get_connection(timeout=0.01)
            lent.close()

    asyncio.run(main())


async def nest(pool: AsyncConnectionPool, all_hold_one: asyncio.Barrier) -> str:
    """Hold one, and when all do, ask for another."""
    async with pool.get_connection(timeout=30):
        await all_hold_one.wait()
        async with pool.get_connection(timeout=40) as second, second.cursor() as cursor:
            return f"served {await cursor.execute('SELECT 1')}"


def test_of_many_tasks_that_wait_for_each_other_one_is_ended_and_all_others_are_served(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=8, maxsize=8, deadlock="raise") as pool:
            barrier = asyncio.Barrier(8)
            results = await asyncio.gather(*(nest(pool, barrier) for _ in range(8)), return_exceptions=True)
            assert sorted(type(one).__name__ for one in results) == ["PoolDeadlock"] + ["str"] * 7, results
            stats = pool.stats()
            assert (stats.in_use, stats.waiting, stats.timeouts) == (0, 0, 1)

    asyncio.run(main())


def test_by_default_one_warning_names_the_tasks_that_hold_them(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with opened(size=2, maxsize=2) as pool:
            barrier = asyncio.Barrier(2)
            tasks = [asyncio.create_task(nest(pool, barrier), name=name) for name in ("left", "right")]
            await until(lambda: "All who hold one wait for another: a deadlock" in caplog.text)
            pool.pool.resize(2, 3)  # room for one more
            assert await asyncio.gather(*tasks) == ["served 1"] * 2

    asyncio.run(main())
    [warning] = [text for record in caplog.records if "wait for another" in (text := record.getMessage())]
    assert "by task 'left'" in warning
    assert "by task 'right'" in warning


def test_a_connection_used_by_another_task_is_that_tasks(opened: Opened) -> None:
    """One that borrows for others waits for them as long as it likes."""

    async def main() -> None:
        async with opened(size=1, maxsize=1, deadlock="raise") as pool:
            connection = await pool.get_connection()
            used = asyncio.Event()
            finish = asyncio.Event()

            async def work() -> None:
                await connection.ping()
                used.set()
                await finish.wait()
                await connection.close()

            worker = asyncio.create_task(work(), name="the worker")
            await used.wait()
            with pytest.raises(PoolTimeout, match=r"by task 'the worker'") as raised:
                await pool.get_connection(timeout=1)  # longer than it takes to see a deadlock
            assert type(raised.value) is PoolTimeout
            finish.set()
            await worker

    asyncio.run(main())


def test_what_a_task_that_has_ended_used_last_is_still_its_borrowers(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool, pool.get_connection() as connection:
            await asyncio.create_task(connection.ping())
            gc.collect()
            with pytest.raises(PoolTimeout):
                await pool.get_connection(timeout=0.6)  # looks for the borrowers that have ended
            await connection.ping()
            assert pool.stats().leaked == 0

    asyncio.run(main())


def test_a_nested_borrow_in_a_tasks_thread_is_known_as_the_tasks(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1, deadlock="raise", timeout=20) as pool, pool.get_connection() as connection:
            await connection.ping()
            with pytest.raises(PoolDeadlock):
                await connection.run_sync(lambda lease: pool.pool.get_connection())

    asyncio.run(main())


@pytest.mark.parametrize("instant", ["before the question", "before the cut"])
def test_what_another_thread_gives_back_in_this_very_instant_is_not_cut_for_the_next(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    """A thread still used the lease when the task looked. Then it gives it back, and the next one borrows."""
    lent: list[Connection] = []

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            connection = await pool.get_connection()
            await connection.ping()

            def give_back_and_borrow() -> None:
                connection.lease.close()
                lent.append(pool.pool.get_connection())

            def question(core: object, lease: Connection) -> str:
                if instant == "before the question":
                    thread.submit(give_back_and_borrow).result()
                return A_CUT

            def shutdown(wire: Wire) -> None:
                if instant == "before the cut":
                    thread.submit(give_back_and_borrow).result()
                cut(wire)

            cut = Wire.cut
            with ThreadPoolExecutor(1) as thread:
                with monkeypatch.context() as patch:
                    patch.setattr(aio, "return_takes", question)
                    patch.setattr(Wire, "cut", shutdown)
                    returned = pool.give_back_nowait(connection.lease, partial(connection._give_back, None))
                assert returned is not None
                await returned.wait()
                thread.submit(lent[0].ping, reconnect=False).result()
                thread.submit(lent[0].close).result()

    asyncio.run(main())
    assert len(lent) == 1


def test_a_loop_that_lives_keeps_what_it_borrowed(opened: Opened) -> None:
    """A search for leases of dead threads finds none here, before and after the first statement."""

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool, pool.get_connection() as connection:
            for _ in range(2):
                with pytest.raises(PoolTimeout):
                    await pool.get_connection(timeout=0.01)
                assert pool.stats().leaked == 0
                await connection.ping()

    asyncio.run(main())


def test_a_connection_that_was_not_given_back_is_taken_back(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            await pool.get_connection()
            async with pool.get_connection(timeout=5) as connection:
                await connection.ping()
            assert pool.stats().leaked == 1
            assert "never given back" in caplog.text

    asyncio.run(main())


def test_closing_the_pool_fails_its_waiters_at_once(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            connection = await pool.get_connection()
            waiting = asyncio.ensure_future(pool.get_connection())
            await asyncio.sleep(0.05)
            closing = asyncio.create_task(pool.close())
            with pytest.raises(PoolClosed):
                await waiting
            assert not closing.done(), "it waits for the lent connection"
            await connection.ping()
            await connection.close()
            await asyncio.wait_for(closing, 2)

    asyncio.run(main())


def test_hooks_and_pings_run_in_threads(opened: Opened) -> None:
    threads: list[int] = []

    def note(connection: Any) -> None:
        threads.append(threading.get_ident())
        connection.ping()

    async def main() -> None:
        hooks = {"on_connect": note, "on_checkout": note, "on_checkin": note}
        async with opened(size=1, maxsize=1, pre_ping=True, **hooks) as pool:
            for _ in range(2):
                async with pool.get_connection() as connection:
                    await connection.ping()
        assert len(threads) == 5
        assert threading.get_ident() not in threads

    asyncio.run(main())


def test_lost_changes_are_not_passed_over_in_silence(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened(kill_on_cancel=True) as pool:
            with pytest.raises(ConnectionInterruptedError, match="not committed"):
                async with pool.get_connection() as connection:
                    await insert(connection, 1)
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await connection.cursor().execute("SELECT SLEEP(5)")

    asyncio.run(main())
    assert table() == []


def test_it_works_where_asgiref_is_not_installed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the bridge back from a user's function to the loop is missing then."""
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)
    _worker._sync_to_async.cache_clear()

    async def main() -> None:
        async with opened() as pool, pool.get_connection() as connection:
            await connection.cursor().execute("SELECT 1")
            assert await connection.run_sync(lambda lease: lease.open)

    asyncio.run(main())
    _worker._sync_to_async.cache_clear()


def test_a_function_in_a_thread_comes_back_to_the_loop_by_asgiref(opened: Opened) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def where() -> Any:
            return asyncio.get_running_loop()

        async with opened() as pool, pool.get_connection() as connection:
            assert await connection.run_sync(lambda lease: async_to_sync(where)()) is loop

    asyncio.run(main())


def test_a_hook_that_fails_costs_the_connection_and_no_capacity(opened: Opened) -> None:
    refused = [True]

    def check(connection: Any) -> None:
        connection.ping()
        if refused[0]:
            raise ZeroDivisionError

    async def main() -> None:
        async with opened(size=1, maxsize=1, on_checkout=check) as pool:
            with pytest.raises(ZeroDivisionError):
                await pool.get_connection()
            refused[0] = False
            async with pool.get_connection() as connection:
                await connection.ping()
            assert (pool.stats().created, dict(pool.stats().discarded)) == (2, {"interrupted": 1})

    asyncio.run(main())


def test_a_forgotten_await_is_named(opened: Opened) -> None:
    async def main() -> None:
        async with opened() as pool:
            with pytest.raises(AttributeError, match=r"'cursor': there is no connection yet\. Write `async with pool"):
                pool.get_connection().cursor()
            plain = pytest.raises(TypeError, match=r"plain `with` cannot wait.*`async with pool\.get_connection\(\)")
            with plain, pool.get_connection():
                pass
            assert not hasattr(pool.get_connection(), "_private")
            async with pool.get_connection() as connection:
                with pytest.raises(AttributeError, match=r"'execute': a cursor has\. Write `async with con"):
                    await connection.execute("SELECT 1")  # type: ignore[attr-defined]
                assert getattr(connection, "nothing", None) is None
        assert pool.stats().borrowed == 1

    asyncio.run(main())


def test_only_the_outermost_block_commits_and_gives_back(opened: Opened, table: Any) -> None:
    async def main() -> None:
        async with opened() as pool:
            async with pool.get_connection() as connection:
                async with connection:
                    await connection.cursor().execute("INSERT INTO note VALUES (1)")
                await connection.rollback()
                async with connection.transaction():
                    async with connection:
                        await connection.cursor().execute("INSERT INTO note VALUES (2)")
                    assert not connection.closed
            async with pool.get_connection() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT id FROM note")
                assert await cursor.fetchall() == ((2,),)

    asyncio.run(main())


def test_a_wait_is_counted_from_its_beginning(opened: Opened) -> None:
    """A task waits for `LOOK_AROUND` by a shorter path, and then by the one of threads."""

    async def main() -> None:
        async with opened(size=1, maxsize=1) as pool:
            held = await pool.get_connection()
            waiter = asyncio.create_task(_borrow(pool))
            await until(lambda: pool.stats().waiting)
            await asyncio.sleep(LOOK_AROUND * 1.5)  # the length of the wait is the claim
            await held.close()
            await (await waiter).close()
            assert pool.stats().waits == 1
            assert pool.stats().wait_time >= LOOK_AROUND * 1.4

    asyncio.run(main())


async def _borrow(pool: AsyncConnectionPool) -> AsyncConnection:
    return await pool.get_connection()
