"""Fork (Invariant 13): the child starts empty, the parent's sessions live on, whatever was going on at the fork."""

from __future__ import annotations

import os
import threading
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool, ForkedConnectionError
from tests.conftest import MakePool
from tests.support import in_child

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # Python 3.12 warns of forking a process with threads, which is what these tests are about.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def session(pool: ConnectionPool) -> int:
    with pool.get_connection(timeout=5) as connection:
        connection.execute("select connection_id()")
        return int(connection.fetchone()[0])


def test_the_child_makes_its_own_and_the_parent_goes_on(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, pre_create_num=2)
    before = {session(pool)}

    def child() -> tuple[int, int, int]:
        mine = session(pool)
        pool.close()
        return mine, len(pool.stats().discarded), os.getpid()

    for _ in range(4):
        text = in_child(child)
        assert text.startswith("returned ("), text
        assert int(text.split("(")[1].split(",")[0]) not in before
    for _ in range(4):
        assert session(pool) in before | {one.wire.sock and session(pool) for one in pool._ledger.idle_slots()}
    assert pool.stats().created == 2, "none of the parent's connections was lost"


def test_a_lease_that_came_along_is_refused_and_its_return_does_no_harm(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    held.execute("set @x = 5")

    def use() -> Any:
        return held.execute("select 1")

    text = in_child(use)
    assert text.startswith(ForkedConnectionError.__name__), text

    def give_back() -> str:
        held.close()  # dirty: in the parent this would send a reset
        return f"{pool.stats().total}"

    assert in_child(give_back) == "returned 0"
    held.execute("select @x")
    assert held.fetchall() == ((5,),)
    held.close()
    assert pool.stats().created == 1


def test_a_transaction_that_came_along_is_the_parents(make_pool: MakePool, admin: Any) -> None:
    with admin.cursor() as cursor:
        cursor.execute("drop table if exists forked")
        cursor.execute("create table forked (v int)")
    pool = make_pool(size=1, maxsize=1, autocommit=False)
    held = pool.get_connection()
    held.execute("insert into forked values (7)")
    assert in_child(held.close) == "returned None"
    held.commit()
    held.close()
    with admin.cursor() as cursor:
        cursor.execute("select v from forked")
        assert cursor.fetchall() == ((7,),)


def test_a_fork_while_another_thread_holds_the_lock_does_not_hang_the_child(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, pre_create_num=1)
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        pool._lock.step(lambda: (held.set(), release.wait(30)))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        text = in_child(lambda: session(pool) > 0)
    finally:
        release.set()
        thread.join()
    assert text == "returned True"
    assert session(pool) > 0


def test_no_hook_at_the_fork_is_needed(make_pool: MakePool) -> None:
    """uWSGI forks without running os.register_at_fork's hooks; libc's fork does not run them either."""
    import ctypes

    pool = make_pool(size=1, maxsize=1)
    before = session(pool)
    reading, writing = os.pipe()
    child = ctypes.CDLL(None).fork()
    if child == 0:
        try:
            text = f"{session(pool)}"
        except BaseException as error:  # noqa: BLE001 - told to the parent
            text = repr(error)
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert int(pipe.read()) != before
    os.waitpid(child, 0)
    assert session(pool) == before


def test_four_children_at_once_get_their_own_answers(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2, pre_create_num=2)

    def ask() -> int:
        wrong = 0
        for number in range(200):
            with pool.get_connection(timeout=5) as connection:
                connection.execute(f"select {os.getpid()}, {number}, repeat('x', 5000)")
                wrong += connection.fetchone()[:2] != (os.getpid(), number)
        return wrong

    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(in_child(ask))) for _ in range(4)]
    for thread in threads:
        thread.start()
    mine = ask()
    for thread in threads:
        thread.join(50)
    assert (texts, mine) == (["returned 0"] * 4, 0)


def test_the_pool_of_a_child_that_forked_before_the_first_borrow_works(make_pool: MakePool) -> None:
    pool = make_pool(size=1)
    assert in_child(lambda: session(pool) > 0) == "returned True"
    assert session(pool) > 0
    with pytest.raises(pymysql.err.Error):
        pool.get_connection().execute("nonsense")
