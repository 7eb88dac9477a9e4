"""How a pool ends: by close(), with its interpreter, and with a statement still under way (Invariant 12)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pymysql
import pytest

from pymysqlpool import PoolClosed
from pymysqlpool._pool.idle_lease import HAS_GIL
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool
from tests.support import wait_until

ROOT = Path(__file__).parent.parent.parent


def status(admin: Any, name: str) -> int:
    with admin.cursor() as cursor:
        cursor.execute("show global status like %s", (name,))
        return int(cursor.fetchone()[1])


def sleeping(admin: Any) -> int:
    """Sessions that are in the middle of a statement of ours."""
    with admin.cursor() as cursor:
        cursor.execute("select count(*) from information_schema.processlist where info like 'select sleep%'")
        return int(cursor.fetchone()[0])


def others(admin: Any) -> int:
    with admin.cursor() as cursor:
        cursor.execute(
            "select count(*) from information_schema.processlist where id <> connection_id() and command <> 'Daemon'"
        )
        return int(cursor.fetchone()[0])


def test_idle_connections_are_told_goodbye(make_pool: MakePool, admin: Any) -> None:
    wait_until(lambda: others(admin) == 0, "what came before has ended", timeout=20)
    pool = make_pool(size=3, pre_create_num=3)
    aborted = status(admin, "Aborted_clients")
    pool.close()
    wait_until(lambda: others(admin) == 0, "their sessions have ended")
    assert status(admin, "Aborted_clients") == aborted


def test_close_cuts_off_at_its_deadline_a_borrower_in_a_statement(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1)
    told: list[BaseException] = []

    def work() -> None:
        connection = pool.get_connection()
        try:
            connection.execute("select sleep(300)")
        except pymysql.err.MySQLError as error:
            told.append(error)
        connection.close()

    before = sleeping(admin)
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: sleeping(admin) > before, "the statement runs")
    began = time.monotonic()
    pool.close(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 10
    thread.join(20)
    assert not thread.is_alive()
    assert told, "it was woken with an error"
    assert pool.stats().total == 0


def test_a_closed_pool_says_so_whatever_is_asked_of_it(make_pool: MakePool) -> None:
    pool = make_pool(size=1, name="shop")
    pool.get_connection().close()
    pool.close()
    pool.close()
    with pytest.raises(PoolClosed, match=r"pool\(shop\): the pool is closed"):
        pool.get_connection()
    pool.drain()
    pool.resize(2, 3)
    assert "closed" in repr(pool)
    assert pool.stats().total == 0


def test_all_waiters_fail_at_once_when_the_pool_closes(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    held = pool.get_connection()
    told: list[type[BaseException]] = []

    def wait() -> None:
        try:
            pool.get_connection(timeout=50)
        except PoolClosed as error:
            told.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: pool.stats().waiting == 5, "they wait")
    closer = threading.Thread(target=pool.close)
    closer.start()
    for thread in threads:
        thread.join(20)
    assert told == [PoolClosed] * 5
    assert held.execute("select 1") == 1, "while the holder of one goes on"
    held.close()
    closer.join(20)


def test_drain_renews_under_load_and_refuses_no_borrow(make_pool: MakePool) -> None:
    pool = make_pool(size=4, maxsize=4)
    stop = threading.Event()
    good = [0] * 8

    def work(index: int) -> None:
        while not stop.is_set():
            with pool.get_connection(timeout=20) as connection:
                connection.execute("select 1")
            good[index] += 1

    def sessions() -> set[int]:
        wires = [slot.wire for slot in pool._ledger.slots()]
        return {wire.attributes()["server_thread_id"][0] for wire in wires if wire is not None}

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        before = sum(good)
        wait_until(lambda: sum(good) > before + 40, "work goes on")  # noqa: B023 - used at once
        old = sessions()
        pool.drain()
        wait_until(lambda: not sessions() & old, "all are renewed as they come home")  # noqa: B023 - used at once
    stop.set()
    for thread in threads:
        thread.join(20)
    assert all(good), "no caller was refused"
    assert set(pool.stats().discarded) == {"generation"}


PROGRAMS = {
    "idle": "pool.get_connection().close()",
    "lent and forgotten": "kept = pool.get_connection()",
    "in a transaction": "kept = pool.get_connection(); kept.begin(); kept.execute('do 1')",
    "a background thread": "pool.get_connection().close()",
    "a daemon thread in a statement": """
def work():
    with pool.get_connection() as connection:
        started.set()
        connection.execute("select sleep(300)")
started = threading.Event()
threading.Thread(target=work, daemon=True).start()
started.wait(20)
""",
    "a daemon thread that waits for one": """
kept = [pool.get_connection() for _ in range(2)]
threading.Thread(target=lambda: pool.get_connection(timeout=300), daemon=True).start()
wait_until(lambda: pool.stats().waiting, "it waits")
""",
    "sys.exit in a with block": "with pool.get_connection() as kept: kept.execute('do 1'); sys.exit(0)",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_end_of_the_interpreter_is_quick_and_quiet(server: DevServer, admin: Any, program: str) -> None:
    script = (
        "import atexit, json, sys, threading, time\nfrom pymysqlpool import ConnectionPool\n"
        "from tests.support import wait_until\n"
        "pool = ConnectionPool(**json.loads(sys.argv[1]), size=2, maxsize=2, background=sys.argv[2] == 'True')\n"
        f"atexit.register(lambda: print(time.time()))\n{PROGRAMS[program]}\n"
    )
    wait_until(lambda: others(admin) == 0, "what came before has ended", timeout=20)
    aborted = status(admin, "Aborted_clients")
    arguments = [json.dumps({**server.connect_args, "ssl_disabled": True}), str("background" in program)]
    warnings = ["-W", "error"]
    if not HAS_GIL and "kept" in PROGRAMS[program]:
        # Without a GIL, Python finalizes a forgotten lease, its socket and its pool in any order; a socket that comes
        # first says that it was not closed, which is true, and which Python does not show by default.
        warnings += ["-W", "ignore::ResourceWarning"]
    done = subprocess.run(
        [sys.executable, *warnings, "-c", script, *arguments], capture_output=True, text=True, timeout=50, cwd=ROOT
    )
    ended = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 5
    if "kept" not in PROGRAMS[program] and "statement" not in program:
        wait_until(lambda: others(admin) == 0, "its sessions have ended")
        assert status(admin, "Aborted_clients") == aborted
