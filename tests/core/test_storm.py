"""A storm: exceptions raised in the borrowers at random bytecodes, on a real server.

`PYMYSQLPOOL_STORM_SECONDS` says how long (default 3, with --all 8; the long run is 60). The claim: no answer ever
belongs to another query, work goes on, and at the end all capacity is there.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import sys
import threading
import time

import pytest

from pymysqlpool import ConnectionPool, logger
from tests.conftest import MakePool
from tests.support import Bolt, strike, wait_until
from tests.sweep import Sweep

# An exception between socket() and the name it is bound to leaves it to the collector, which warns of it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

SECONDS = float(os.environ.get("PYMYSQLPOOL_STORM_SECONDS", "0"))  # 0: as long as the run has for it


class Worker(threading.Thread):
    tokens = itertools.count(1)

    def __init__(self, pool: ConnectionPool, stop: threading.Event) -> None:
        super().__init__()
        self.pool = pool
        self.stop = stop
        self.good = 0
        self.wrong: list[str] = []
        self.errors: dict[str, int] = {}
        self.struck = 0

    def run(self) -> None:
        while True:
            try:
                self.work()
                return
            except Bolt:  # struck between two rounds
                self.struck += 1

    def work(self) -> None:
        while not self.stop.is_set():
            try:
                self.once()
            except Bolt:
                self.struck += 1
            except Exception as error:  # noqa: BLE001 - counted, and looked at in the end
                try:
                    key = f"{type(error).__name__}: {error}"[:120]
                    self.errors[key] = self.errors.get(key, 0) + 1
                except Bolt:
                    self.struck += 1

    def once(self) -> None:
        token = next(self.tokens)
        kind = token % 4
        if kind == 0:
            connection = self.pool.get_connection(timeout=20)
            cursor = connection.cursor()
            cursor.execute(f"select {token}")
            self.see(cursor.fetchall(), ((token,),))
            connection.close()
        elif kind == 1:
            with self.pool.get_connection(timeout=20) as connection:
                connection.execute("set @token = %s", (token,))
                connection.execute("select @token")
                self.see(connection.fetchall(), ((token,),))
        elif kind == 2:
            with self.pool.get_connection(timeout=20) as connection:
                connection.begin()
                connection.execute("insert into storm values (%s)", (token,))
                connection.execute("select max(id) from storm where id = %s", (token,))
                self.see(connection.fetchall(), ((token,),))
                connection.rollback()
        else:
            with self.pool.get_connection(timeout=20) as connection:
                connection.execute(f"select {token}, repeat('x', 20000)")
                self.see(connection.fetchone()[:1], (token,))

    def see(self, rows: object, expected: object) -> None:
        if rows == expected:
            self.good += 1
        else:
            self.wrong.append(f"{rows!r} instead of {expected!r}")


@pytest.mark.timeout(SECONDS + 60)
def test_no_answer_belongs_to_another_query_and_no_capacity_is_lost(
    make_pool: MakePool, admin: object, monkeypatch: pytest.MonkeyPatch, sweep: Sweep
) -> None:
    """Invariants 3, 5, 6, 11."""
    seconds = SECONDS or sweep.times(3, 8)
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)  # pytest's own would be struck too
    # A bolt between `handler.acquire()` and its `try` leaves a logging handler locked for ever; that is logging's, so
    # nothing is logged here. (With warnings on, one run of ten hung there.)
    monkeypatch.setattr(logger, "disabled", True)
    with admin.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("drop table if exists storm")
        cursor.execute("create table storm (id bigint primary key) engine=innodb")
    pool = make_pool(size=4, maxsize=4, autocommit=True)
    stop = threading.Event()
    workers = [Worker(pool, stop) for _ in range(8)]
    chance = random.Random(20261122)
    for worker in workers:
        worker.start()
    end = time.monotonic() + seconds
    last = end + 20  # on a busy machine the answers take their time
    enough, bolts = 100 * seconds, 0
    while (now := time.monotonic()) < end or (now < last and sum(worker.good for worker in workers) <= enough):
        strike(chance.choice(workers))
        bolts += 1
        stop.wait(chance.uniform(0, 0.006))
    stop.set()
    for worker in workers:
        worker.join(40)
    assert not any(worker.is_alive() for worker in workers), "a worker hangs"
    wrong = [answer for worker in workers for answer in worker.wrong]
    good = sum(worker.good for worker in workers)
    errors: dict[str, int] = {}
    for worker in workers:
        for key, count in worker.errors.items():
            errors[key] = errors.get(key, 0) + count
    sys.stderr.write(
        f"{seconds:.0f} s, {bolts} bolts, {good} right answers, {len(wrong)} wrong, errors {errors}, {pool.stats()}\n"
    )
    assert not wrong
    assert good > enough
    assert not [key for key in errors if "Packet sequence" in key or "PoolTimeout" in key], errors
    del workers, worker
    gc.collect()
    wait_until(lambda: full_capacity(pool), f"every slot is usable again: {pool.stats()}")


def full_capacity(pool: ConnectionPool) -> bool:
    leases = []
    try:
        for _ in range(4):
            lease = pool.get_connection(timeout=5)
            leases.append(lease)
            assert lease.execute("select 1") == 1
    finally:
        for lease in leases:
            lease.close()
    stats = pool.stats()
    return (stats.idle, stats.in_use, stats.total) == (4, 0, 4)
