"""8, 32 and 128 threads on pools of 4, 32 on 8: each borrowing, SELECT 1, returning and at once borrowing again.

The wait is from the first attempt of an operation to holding a connection; where a peer refuses instead of waiting,
each refusal is an error and it is asked again after 1 ms. Speeds and percentiles are medians over the stretches; the
maximum is that of all. Fairness: operations of the idlest and the busiest thread, and their ratio, in the least fair
stretch. Counted is what begins when all threads have been at work for a while. On all CPUs, and for pools of 4 also
with client and server on one.

Beside them a bare queue: strict order of arrival, one lock per waiter, our reader, and nothing else. It is what order
alone costs. The tables `contention_web_...` are the same with 1 ms of Python between two borrows, as an application
has it; there the peers are those that serve in order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..bench import Bench
from ..measure import Cell, Table, percentile
from ..peers import BARE, WITH_DEFAULTS, Bare, Ours, Peer, Peers, PsycopgPool, query


@dataclass(slots=True)
class Cellful:
    """What happened in one stretch of one peer."""

    rate: float  # operations per second
    per_thread: list[int]
    waits: list[float]  # milliseconds, sorted
    errors: int

    @property
    def fairness(self) -> float:
        """Operations of the idlest thread / of the busiest."""
        return min(self.per_thread) / max(1, max(self.per_thread))


class BareQueue(Peer):
    """First come, first served, and nothing else: no check, no verdict, no handle, no report."""

    name = "a bare queue, our reader"

    def __init__(self, connect: Mapping[str, Any], size: int) -> None:
        self._pool = Ours(connect, size)
        self._held = [self._pool.borrow() for _ in range(size)]
        self._idle = deque(self._held)
        self._waiting: deque[list[Any]] = deque()
        self._lock = threading.Lock()
        self.borrow = self._borrow
        self.give_back = self._give_back

    def _borrow(self) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            signal = threading.Lock()
            signal.acquire()
            waiter = [signal, None]
            self._waiting.append(waiter)
        signal.acquire()
        return waiter[1]

    def _give_back(self, connection: Any) -> None:
        with self._lock:
            if not self._waiting:
                self._idle.append(connection)
                return
            waiter = self._waiting.popleft()
            waiter[1] = connection
        waiter[0].release()

    def close(self) -> None:
        for connection in self._held:
            connection.close()
        self._pool.close()


RAMP = 0.2  # seconds until all threads are at work


@dataclass(slots=True)
class _Window:
    """When operations are counted; monotonic."""

    begins: float = 0.0
    ends: float = 0.0


@dataclass(slots=True)
class _Worker:
    peer: Peer
    window: _Window
    start: threading.Barrier
    think: float = 0.0  # seconds of Python between two operations
    operations: int = 0
    errors: int = 0
    waits: list[float] = field(default_factory=list)

    def run(self) -> None:
        self.start.wait()
        clock = time.monotonic
        counted_from, until = self.window.begins, self.window.ends
        peer, waits = self.peer, self.waits
        while (asked := clock()) < until:
            try:
                connection, refusals = peer.insist(until)
            except TimeoutError:
                self.errors += 1
                break
            waited = clock() - asked
            query(connection)
            peer.give_back(connection)
            if self.think:
                _work(self.think)
            if asked >= counted_from:
                waits.append(waited)
                self.operations += 1
                self.errors += refusals


def _work(seconds: float) -> None:
    """Python that takes so long of this thread's CPU time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def stretch(peers: list[Peer], seconds: float, think: float = 0.0) -> Cellful:
    """Run a thread on each of `peers` (the same one, many times, when it is a pool) for so long."""
    start = threading.Barrier(len(peers) + 1)
    window = _Window()
    workers = [_Worker(peer, window, start, think) for peer in peers]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    window.begins = time.monotonic() + RAMP
    window.ends = window.begins + seconds
    start.wait()
    for thread in threads:
        thread.join()
    operations = [worker.operations for worker in workers]
    waits = sorted(wait * 1000 for worker in workers for wait in worker.waits)
    return Cellful(sum(operations) / seconds, operations, waits or [0.0], sum(worker.errors for worker in workers))


def run(bench: Bench) -> list[Table]:
    tables: list[Table] = []
    lists: dict[str, list[Peer]]
    threads: tuple[int, ...] = bench.pick((8, 32, 128), (8, 32))
    for size in bench.pick((4, 8), (4,)):
        bare = [Bare(bench.tcp) for _ in range(size)]
        peers = Peers((*WITH_DEFAULTS, BareQueue), bench.tcp, size=size)
        with peers as there:
            for peer in there.values():
                peer.fill(size)
            if size == 4:
                in_order = [there[kind.name] for kind in (Ours, PsycopgPool, BareQueue) if kind.name in there]
                for number in threads[1:]:
                    lists = {BARE: list(bare)} | {peer.name: [peer] * number for peer in in_order}
                    tables.append(table(bench, lists, peers.missing, number, size, think=0.001))
            for number in threads if size == 4 else (32,):
                lists = {BARE: list(bare)}
                lists |= {name: [peer] * number for name, peer in there.items()}
                tables.append(table(bench, lists, peers.missing, number, size))
                if size == 4:
                    with bench.pinned(bench.server.pid):
                        tables.append(table(bench, lists, peers.missing, number, size, on_one_cpu=True))
        for peer in bare:
            peer.close()
    return tables


def table(
    bench: Bench,
    lists: Mapping[str, list[Peer]],
    missing: Mapping[str, str],
    number: int,
    size: int,
    on_one_cpu: bool = False,
    think: float = 0.0,
) -> Table:
    rounds, seconds = bench.pick((3, 1.2) if think else (3, 0.4), (2, 0.2))
    cells: dict[str, list[Cellful]] = {name: [] for name in lists}
    for turn in range(rounds):
        order = list(lists)
        for name in order[turn:] + order[:turn]:
            cells[name].append(stretch(lists[name], seconds, think))
    columns = ["", f"speed, {size} bare = 1", "p50 ms", "p99 ms", "p99.9 ms", "max ms"]
    columns += ["idlest", "busiest", "fairness", "errors"]
    key, title = f"contention_{number}_on_{size}", f"{number} threads on {size} connections"
    if think:
        key = f"contention_web_{number}_on_{size}"
        title = f"{title}, {think * 1000:.0f} ms of Python between two borrows"
    if on_one_cpu:
        key, title = f"{key}_one_cpu", f"{title}, one CPU"
    made = Table(key, title, columns, missing=dict(missing))
    for name, of in sorted(cells.items(), key=lambda item: -median(one.rate for one in item[1])):
        made.add(name, *_row(of, cells[BARE]))
    return made


def _row(of: list[Cellful], bare: list[Cellful]) -> list[Any]:
    unfairest = min(of, key=lambda one: one.fairness)
    speed = median(one.rate / other.rate for one, other in zip(of, bare, strict=True))
    cells: list[Cell] = [speed]
    cells += [median(percentile(one.waits, share) for one in of) for share in (0.5, 0.99, 0.999)]
    cells += [max(one.waits[-1] for one in of)]
    cells += [min(unfairest.per_thread), max(unfairest.per_thread), unfairest.fairness]
    return [*cells, sum(one.errors for one in of)]
