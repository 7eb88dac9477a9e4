"""Does a cost grow with the number of connections, or of waiters? Up to 10,000 of either.

The books (`_ledger.py`) are driven alone, without a server: borrow and return with so many idle connections, and a
hand-over with so many waiters. Then real threads wait in a real pool of one, and pass the connection on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from pymysqlpool._pool.ledger import Ledger
from pymysqlpool._pool.waiter import Waiter

from ..bench import Bench
from ..measure import OURS, Table, interleave, ratios, timed
from ..peers import MySQLConnector, Ours, Peer, Peers, PsycopgPool, PymysqlPool037, SQLAlchemy


def lease(slot: Any = None) -> Any:
    return SimpleNamespace(_slot=slot)


def ledger_with(idle: int) -> Ledger:
    ledger = Ledger(idle, idle, lease)
    for _ in range(idle):
        owner = lease()
        slot = ledger.open(owner, idle)
        assert slot is not None
        ledger.connected(slot, object())
        ledger.give(slot, owner)
    return ledger


def lending(idle: int) -> Callable[[int], None]:
    ledger, borrower = ledger_with(idle), lease()

    def body(operations: int) -> None:
        for _ in range(operations):
            slot = ledger.take(borrower)
            assert slot is not None
            ledger.give(slot, borrower)

    return body


def handing_over(waiting: int) -> Callable[[int], None]:
    """One connection, and a queue in which each served waiter is followed by a new one at the end."""
    ledger = ledger_with(1)
    owner = lease()
    slot = ledger.take(owner)
    assert slot is not None

    def arrive() -> None:
        waiter = Waiter(lease())
        ledger.arrive(waiter)
        ledger.enqueue(waiter)

    for _ in range(waiting):
        arrive()

    def body(operations: int) -> None:
        nonlocal owner
        for _ in range(operations):
            arrive()
            served = ledger.give(slot, owner)
            assert served is not None
            owner = served.lease

    return body


def relay(peer: Peer, waiting: int) -> float:
    """Microseconds per hand-over while `waiting` threads pass one connection on."""
    held = peer.borrow()
    queued = threading.Semaphore(0)
    until = time.monotonic() + 60

    def wait() -> None:
        queued.release()
        connection, _ = peer.insist(until)
        peer.give_back(connection)

    threads = [threading.Thread(target=wait) for _ in range(waiting)]
    for thread in threads:
        thread.start()
    for _ in threads:
        queued.acquire()
    time.sleep(0.02)
    began = time.perf_counter()
    peer.give_back(held)
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) / waiting * 1e6


def run(bench: Bench) -> list[Table]:
    sizes: tuple[int, ...] = bench.pick((1, 10, 100, 1000, 10_000), (1, 100, 10_000))
    tables = []
    for key, title, make in (
        ("growth_idle", "The books: borrow and return, by idle connections", lending),
        ("growth_waiters", "The books: one arrival and one hand-over, by waiters", handing_over),
    ):
        taken = interleave({str(number): timed(make(number)) for number in sizes}, bench.pick(60, 15))
        made = Table(key, title, ["", f"time, {sizes[0]} = 1", "us, this run"])
        for number in sizes:
            series = taken[str(number)]
            share = median(ratios(series, taken[str(sizes[0])]))
            made.add(str(number), share, median(took.wall for took in series) / 1000)
        tables.append(made)
    return [*tables, relays(bench)]


def relays(bench: Bench) -> Table:
    numbers: tuple[int, ...] = bench.pick((10, 100, 1000), (10, 100))
    kinds = (Ours, PsycopgPool, SQLAlchemy, PymysqlPool037, MySQLConnector)
    table = Table(
        "growth_relay",
        "Real threads waiting for one connection: per hand-over, and refusals asked again",
        ["", *(f"us, {number} waiting" for number in numbers), f"{numbers[-1]} / {numbers[0]}"],
        note="SQLAlchemy's includes a ROLLBACK. pymysql-pool and mysql-connector do not queue: their threads poll.",
    )
    patience = {"timeout": 60.0}
    usual = threading.stack_size(256 * 1024)
    try:
        peers = Peers(kinds, bench.tcp, size=1)
        with peers as there:
            ours = there[OURS]
            assert isinstance(ours, Ours)
            get = ours.pool.get_connection
            ours.borrow = lambda: get(**patience)  # type: ignore[arg-type]
            for name, peer in there.items():
                peer.fill(1)
                relay(peer, 5)
                costs = [relay(peer, number) for number in numbers]
                table.add(name, *costs, costs[-1] / costs[0])
    finally:
        threading.stack_size(usual)
    table.missing = peers.missing
    return table
