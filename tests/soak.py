"""A soak under faults: money is moved between accounts while servers restart, sessions are killed, the network stalls
and exceptions strike the borrowers. Kept out of CI; `scripts/soak [SECONDS]` runs it (default 600).

At the end: the sum is right, every acknowledged commit is there exactly once, no slot is missing, no thread and no file
descriptor leaked, and memory is flat. Exits 1 if not. Prints its figures.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import sys
import threading
import time
from array import array
from pathlib import Path

import pymysql

from pymysqlpool import ConnectionPool, logger
from pymysqlpool.devserver import DevServer
from tests.proxy import Proxy
from tests.support import Bolt, strike

ACCOUNTS = 20
START = 1000
WORKERS = 12
SLOTS = 6


class Worker(threading.Thread):
    """Moves money; remembers which commits were acknowledged."""

    numbers = itertools.count(1)

    def __init__(self, pool: ConnectionPool, stop: threading.Event) -> None:
        super().__init__()
        self.pool = pool
        self.stop = stop
        self.chance = random.Random()
        self.acknowledged = array("q")  # compact, so that the memory seen is the pool's
        self.failed: dict[str, int] = {}
        self.struck = 0

    def run(self) -> None:
        while True:
            try:
                self.work()
                return
            except Bolt:
                self.struck += 1

    def work(self) -> None:
        while not self.stop.is_set():
            try:
                self.transfer()
            except Bolt:
                self.struck += 1
            except pymysql.err.MySQLError as error:
                kind = f"{type(error).__name__} {error.args[0] if isinstance(error.args[0], int) else ''}".strip()
                self.failed[kind] = self.failed.get(kind, 0) + 1

    def transfer(self) -> None:
        token = next(self.numbers)
        giver, taker = self.chance.sample(range(ACCOUNTS), 2)
        amount = self.chance.randint(1, 50)
        with self.pool.get_connection(timeout=30) as connection:
            for account, change in sorted([(giver, -amount), (taker, amount)]):
                connection.execute("update account set balance = balance + %s where id = %s", (change, account))
            connection.execute("insert into journal values (%s)", (token,))
        self.acknowledged.append(token)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory() -> int:
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def trouble(server: DevServer, proxy: Proxy, workers: list[Worker], done: dict[str, int]) -> None:
    """One fault, at random."""
    kind = random.choices(["bolt", "kill", "stall", "cut", "reset", "restart", "crash"], [60, 20, 6, 5, 5, 2, 2])[0]
    done[kind] = done.get(kind, 0) + 1
    if kind == "bolt":
        victim = random.choice(workers)
        strike(victim)
    elif kind == "kill":
        with pymysql.connect(**server.connect_args, ssl_disabled=True) as admin, admin.cursor() as cursor:
            cursor.execute("select id from information_schema.processlist where id <> connection_id()")
            sessions = cursor.fetchall()
            if sessions:
                try:
                    cursor.execute(f"kill {random.choice(sessions)[0]}")
                except pymysql.err.MySQLError:
                    done[kind] -= 1  # it had ended by itself
    elif kind == "stall":
        proxy.stalled = True
        threading.Event().wait(random.uniform(0.05, 0.5))
        proxy.stalled = False
    elif kind in ("cut", "reset"):
        getattr(proxy, kind)()
    elif kind == "restart":
        server.restart()
    else:
        server.kill()
        threading.Event().wait(random.uniform(0, 0.5))
        server.start()


def main(seconds: float) -> int:
    sys.unraisablehook = lambda unraisable: None  # bolts in finalizers
    logger.setLevel("ERROR")  # leaks are what this is about
    with DevServer() as server, Proxy((server.host, server.port)) as proxy:
        admin = pymysql.connect(**server.connect_args, ssl_disabled=True, autocommit=True)
        with admin.cursor() as cursor:
            cursor.execute("create table account (id int primary key, balance int not null) engine=innodb")
            cursor.execute("create table journal (token bigint primary key) engine=innodb")
            for account in range(ACCOUNTS):
                cursor.execute("insert into account values (%s, %s)", (account, START))
        admin.close()
        print(f"{server.version}, {WORKERS} workers, {SLOTS} connections, {seconds:.0f} s of faults")
        options = {**server.connect_args, "port": proxy.port, "ssl_disabled": True}
        pool = ConnectionPool(size=SLOTS, maxsize=SLOTS, read_timeout=10, **options)
        pool.get_connection().close()
        threads_before = threading.active_count() - len(proxy._threads)
        stop = threading.Event()
        workers = [Worker(pool, stop) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        began = time.monotonic()
        done: dict[str, int] = {}
        sizes: list[int] = []
        while time.monotonic() - began < seconds:
            trouble(server, proxy, workers, done)
            stop.wait(random.uniform(0, 0.1))
            if len(sizes) < (time.monotonic() - began) // (seconds / 10):
                sizes.append(memory())
        stop.set()
        for worker in workers:
            worker.join(60)
        hanging = sum(worker.is_alive() for worker in workers)
        acknowledged = [token for worker in workers for token in worker.acknowledged]
        failed: dict[str, int] = {}
        for worker in workers:
            for kind, count in worker.failed.items():
                failed[kind] = failed.get(kind, 0) + count
        struck = sum(worker.struck for worker in workers)
        del workers, worker
        gc.collect()
        leases = [pool.get_connection(timeout=30) for _ in range(SLOTS)]
        for lease in leases:
            lease.execute("select 1")
            lease.close()
        stats = pool.stats()
        pool.close()
        with pymysql.connect(**server.connect_args, ssl_disabled=True) as admin, admin.cursor() as cursor:
            cursor.execute("select sum(balance), count(*) from account")
            total, _ = cursor.fetchone()
            cursor.execute("select token from journal")
            written = {token for (token,) in cursor.fetchall()}
        proxy.cut()
        missing = [token for token in acknowledged if token not in written]
        threads = threading.active_count() - len([one for one in proxy._threads if one.is_alive()])
        print(f"faults       {done}")
        print(
            f"transfers    {len(acknowledged)} acknowledged, {len(written)} written, {struck} struck, failed {failed}"
        )
        print(f"pool         {stats}")
        print(f"memory MiB   {sizes}")
        print(f"threads      {threads_before} before, {threads} after; {descriptors()} descriptors open")
        claims = {
            "no worker hangs": hanging == 0,
            "the sum is right": total == ACCOUNTS * START,
            "every acknowledged commit is there": not missing,
            "none was acknowledged twice": len(acknowledged) == len(set(acknowledged)),
            "every slot is usable": (stats.idle, stats.in_use, stats.total) == (SLOTS, 0, SLOTS),
            "no thread is left": threads <= threads_before,
            "no descriptor is left": descriptors() < 40,
            "memory is flat": not sizes or max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2 + 1]) * 1.25,
        }
    for claim, holds in claims.items():
        print(f"{'ok ' if holds else 'NOT'} {claim}")
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600))
