"""Invariants whose test belongs to no single room of the core: 4, 18, 19."""

from __future__ import annotations

import gc
import logging
import threading
from contextlib import suppress
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool, logger
from tests.conftest import MakePool
from tests.support import run_threads


def answers_another_thread(pool: ConnectionPool) -> bool:
    """Whether another thread can ask the pool now, which takes its lock."""
    thread = threading.Thread(target=pool.stats)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_no_hook_and_no_log_handler_runs_with_the_lock_held(make_pool: MakePool) -> None:
    """Invariant 4."""
    seen: dict[str, bool] = {}

    def look(name: str) -> Any:
        def hook(*_: object) -> None:
            if pools:
                seen[name] = seen.get(name, True) and answers_another_thread(pools[0])

        return hook

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            look("log")()

    pools: list[ConnectionPool] = []
    hooks = {name: look(name) for name in ("on_connect", "on_checkout", "on_checkin", "on_discard")}
    pools.append(make_pool(size=1, maxsize=1, **hooks))
    handler = Handler(logging.DEBUG)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        for _ in range(3):
            pools[0].get_connection().close()
        pools[0].drain()
        pools[0].get_connection().close()
        lease = pools[0].get_connection()
        lease.execute("select 1")
        del lease
        gc.collect()
        pools[0].get_connection(timeout=5).close()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert seen == dict.fromkeys([*hooks, "log"], True)


def test_a_statement_whose_connection_is_lost_is_not_sent_again(make_pool: MakePool, admin: Any) -> None:
    """Invariant 18."""
    with admin.cursor() as cursor:
        cursor.execute("drop table if exists once")
        cursor.execute("create table once (id int auto_increment primary key) engine=innodb")
        pool = make_pool(size=2, maxsize=2, autocommit=True, pre_create_num=2)
        connection = pool.get_connection()
        cursor.execute(f"kill {connection.thread_id()}")
        with pytest.raises(pymysql.err.MySQLError):
            connection.execute("insert into once values ()")
        connection.close()
        with pool.get_connection() as connection:
            connection.execute("insert into once values ()")
        cursor.execute("select count(*) from once")
        assert cursor.fetchone() == (1,)
        cursor.execute("drop table once")


def test_a_finalizer_may_borrow_while_its_thread_gets_its_token(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 19: the first borrow of a thread makes its token, and the collector may run within."""
    pool = make_pool(size=2, maxsize=2, autocommit=True)
    pool.get_connection().close()
    usual = threading.current_thread
    told: list[Any] = []

    def interrupted() -> threading.Thread:
        if not told:
            told.append(None)
            with pool.get_connection() as connection:
                told.append(connection.execute_query("SELECT 1"))
            told.append(pool.stats().in_use)
        return usual()

    def work() -> None:
        monkeypatch.setattr("pymysqlpool._util.callsite.threading.current_thread", interrupted)
        pool.get_connection().close()
        monkeypatch.undo()

    assert run_threads(1, lambda index: work()) == [None]
    assert told == [None, ((1,),), 0]


def test_a_finalizer_may_use_the_pool_wherever_it_runs(make_pool: MakePool) -> None:
    """Invariant 19: the collector runs it at any allocation, so also where the pool holds its own lock."""
    pool = make_pool(size=1, maxsize=1, autocommit=True)
    used = 0

    class Session:
        """As an application's: it borrowed a connection, and uses the pool when it is collected."""

        def __init__(self) -> None:
            self.circle = self

        def __del__(self) -> None:
            nonlocal used
            pool.stats()
            with suppress(pymysql.err.MySQLError):
                pool.get_connection(timeout=0).close()
            used += 1

    def work() -> None:
        for _ in range(300):
            Session()
            with suppress(pymysql.err.MySQLError):
                pool.get_connection(timeout=1).close()
            pool.stats()

    usual = gc.get_threshold()
    gc.set_threshold(1)
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
        thread.join(30)
    finally:
        gc.set_threshold(*usual)
    assert not thread.is_alive(), "a finalizer waits for a lock that its own thread holds"
    gc.collect()
    assert used == 300
