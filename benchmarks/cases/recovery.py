"""After the server was killed and started again: how many operations fail, and how long until 100 good ones.

"Idle": all 8 connections of a pool were idle at the time, and are then asked for 8 at a time. "Busy": 8 threads go
on working through it; failures while the server is away are not counted, only those after it is back.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from math import inf
from statistics import median
from typing import Any

import pymysql

from ..bench import Bench
from ..measure import OURS, Cell, Table
from ..peers import WITH_DEFAULTS, Peer, Peers, query

SIZE = 8
GOOD = 100
PATIENCE = 5.0  # seconds for one peer to come back


def give_up(peer: Peer, connection: Any) -> None:
    """Return a connection after an error, whatever the peer says about it."""
    with suppress(Exception):
        peer.give_back(connection)


def idle(peer: Peer) -> tuple[int, float]:
    """Failed operations, and seconds, until 100 good ones in batches of 8; infinity when it takes too long."""
    failed = good = 0
    began = time.monotonic()
    while good < GOOD:
        if time.monotonic() - began > PATIENCE:
            return failed, inf
        if failed:
            time.sleep(0.002)
        lent: list[Any] = []
        for _ in range(SIZE):
            try:
                lent.append(peer.borrow())
            except Exception:  # noqa: BLE001 - whatever a peer raises is a failure
                failed += 1
        for connection in lent:
            try:
                query(connection)
            except Exception:  # noqa: BLE001 - whatever a peer raises is a failure
                failed += 1
            else:
                good += 1
            give_up(peer, connection)
    return failed, time.monotonic() - began


class Busy:
    """8 threads at work on one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._back: float | None = None  # when the server was; guarded by _lock, as are the next two
        self.failed = 0
        self.good = 0
        self.took = inf
        self.recovered = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(SIZE)]
        for thread in self._threads:
            thread.start()

    def server_is_back(self) -> None:
        with self._lock:
            self._back = time.monotonic()

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._end.is_set():
            connection = None
            try:
                connection = self._peer.borrow()
                query(connection)
            except Exception:  # noqa: BLE001 - whatever a peer raises is a failure
                self._note(False)
                time.sleep(0.002)
            else:
                self._note(True)
            finally:
                if connection is not None:
                    give_up(self._peer, connection)

    def _note(self, good: bool) -> None:
        with self._lock:
            if self._back is None or self.recovered.is_set():
                return
            self.good += good
            self.failed += not good
            if self.good == GOOD:
                self.took = time.monotonic() - self._back
                self.recovered.set()


def again(bench: Bench) -> None:
    """Kill the server, start it, and let it serve a first connection."""
    bench.server.kill()
    bench.server.start()
    pymysql.connect(**bench.tcp).close()


def run(bench: Bench) -> list[Table]:
    rounds = bench.pick(2, 1)
    tables = []
    connect = {**bench.tcp, "connect_timeout": 5}
    for key, title, restart in (
        ("recovery_idle", "A restart while 8 connections were idle", _idle_round),
        ("recovery_busy", "A restart under 8 threads at work", _busy_round),
    ):
        failed: dict[str, list[int]] = {}
        took: dict[str, list[float]] = {}
        missing: dict[str, str] = {}
        for _ in range(rounds):
            missing = restart(bench, connect, failed, took)
        table = Table(key, title, ["", "failed after it", "ms to 100 good", "time, ours = 1"])
        base = median(took[OURS])
        for name, times in sorted(took.items(), key=lambda item: (median(failed[item[0]]), median(item[1]))):
            took_long: list[Cell] = [f"not in {PATIENCE:.0f} s", None]
            in_time: list[Cell] = [median(times) * 1000, median(times) / base]
            table.add(name, median(failed[name]), *(took_long if median(times) == inf else in_time))
        table.missing = missing
        tables.append(table)
    return tables


Note = dict[str, list[Any]]


def _idle_round(bench: Bench, connect: dict[str, Any], failed: Note, took: Note) -> dict[str, str]:
    peers = Peers(WITH_DEFAULTS, connect, SIZE)
    with peers as there:
        for peer in there.values():
            peer.fill(SIZE)
        again(bench)
        for name, peer in there.items():
            _keep(name, idle(peer), failed, took)
    return peers.missing


def _busy_round(bench: Bench, connect: dict[str, Any], failed: Note, took: Note) -> dict[str, str]:
    missing: dict[str, str] = {}
    for kind in WITH_DEFAULTS:
        peers = Peers([kind], connect, SIZE)
        missing |= peers.missing
        with peers as there:
            for name, peer in there.items():
                _keep(name, _through_a_restart(bench, peer), failed, took)
    return missing


def _through_a_restart(bench: Bench, peer: Peer) -> tuple[int, float]:
    peer.fill(SIZE)
    busy = Busy(peer)
    try:
        time.sleep(0.1)
        bench.server.kill()
        bench.server.start()
        busy.server_is_back()
        busy.recovered.wait(PATIENCE)
    finally:
        busy.end()
    return busy.failed, busy.took


def _keep(name: str, figures: tuple[int, float], failed: Note, took: Note) -> None:
    failed.setdefault(name, []).append(figures[0])
    took.setdefault(name, []).append(figures[1])
