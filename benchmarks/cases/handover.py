"""Hand-over: from one thread giving a connection back to another, already waiting, having it. A pool of one."""

from __future__ import annotations

import threading
import time
from statistics import median

from ..bench import Bench
from ..measure import OURS, Table, percentile
from ..peers import WITH_DEFAULTS, Peer, Peers

SETTLE = 0.003  # seconds for the other thread to be asleep in the queue


def latencies(peer: Peer, number: int) -> list[float]:
    """Microseconds, `number` times."""
    taken = []
    for _ in range(number):
        held = peer.borrow()
        about_to_wait = threading.Event()
        got: list[float] = []

        def wait(announce: threading.Event, into: list[float]) -> None:
            until = time.monotonic() + 20
            announce.set()
            connection, _ = peer.insist(until)
            into.append(time.perf_counter())
            peer.give_back(connection)

        waiter = threading.Thread(target=wait, args=(about_to_wait, got))
        waiter.start()
        about_to_wait.wait()
        time.sleep(SETTLE)
        given = time.perf_counter()
        peer.give_back(held)
        waiter.join()
        taken.append((got[0] - given) * 1e6)
    return taken


def run(bench: Bench) -> list[Table]:
    peers = Peers(WITH_DEFAULTS, bench.tcp, size=1)
    rounds, each = bench.pick((20, 8), (4, 4))
    taken: dict[str, list[float]] = {}
    with peers as there:
        for peer in there.values():
            peer.fill(1)
            latencies(peer, 2)
        for _ in range(rounds):
            for name, peer in there.items():
                taken.setdefault(name, []).extend(latencies(peer, each))
    table = Table("handover", "Hand-over to a waiting thread", ["", "median, ours = 1", "p50 us", "p99 us", "max us"])
    base = median(taken[OURS])
    for name, series in sorted(taken.items(), key=lambda item: median(item[1])):
        series.sort()
        table.add(name, median(series) / base, median(series), percentile(series, 0.99), series[-1])
    table.missing = peers.missing
    return [table]
