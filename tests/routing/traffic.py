"""Steady traffic on a cluster while something befalls it, and what became of each request.

12 threads with a pool of 8 connections per host; each sends a request every 20 ms. A request writes a row with a number
of its own and commits, then reads it back with another borrow.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pymysql

from pymysqlpool.cluster import Cluster
from tests.support import wait_until

THREADS = 12
POOL = 8
EVERY = 0.02  # seconds
_logger = logging.getLogger(__name__)  # pytest --log-cli-level=info shows the figures


class Traffic:
    """What the visitors saw.

    Attributes:
        written: the rows whose COMMIT was acknowledged.
        failed: each failed request's error number, and how often.
        stale: how many rows their writer did not find.
        times: when requests succeeded, monotonic.
    """

    def __init__(self, cluster: Cluster, numbers: Iterator[int]) -> None:
        self.cluster = cluster
        self.written: set[int] = set()
        self.failed: Counter[str] = Counter()
        self.stale = 0
        self.times: list[float] = []
        self._numbers = numbers
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(THREADS)]

    def _visit(self) -> None:
        while not self._ends.wait(EVERY):
            try:
                self._request(next(self._numbers))
            except (pymysql.err.MySQLError, OSError) as error:
                number = error.args[0] if error.args else ""
                self.failed[f"{type(error).__name__} {number}"] += 1
            else:
                self.times.append(monotonic())

    def _request(self, number: int) -> None:
        with self.cluster.primary.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO written VALUES (%s, @@server_id)", (number,))
            connection.commit()
        self.written.add(number)
        with self.cluster.primary.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM written WHERE id = %s", (number,))
            if not cursor.fetchone():
                self.stale += 1

    def go_on(self, requests: int = 100, timeout: float = 30) -> None:
        """Until so many more have succeeded."""
        wanted = len(self.times) + requests
        wait_until(lambda: len(self.times) >= wanted, "requests succeed again", timeout)

    @property
    def gap(self) -> float:
        """The longest time without a success, in seconds."""
        return max((later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)), default=0.0)

    @property
    def logins(self) -> int:
        return sum(pool.stats().created for pool in self.cluster.lending.pools)

    def told(self) -> str:
        return (
            f"{sum(self.failed.values())} failed {dict(self.failed)}, {len(self.times)} succeeded, "
            f"gap {self.gap:.2f} s, {self.logins} logins, {self.stale} stale"
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a visitor hangs"


@contextmanager
def traffic(hosts: list[dict[str, Any]], numbers: Iterator[int], **options: Any) -> Iterator[Traffic]:
    """Traffic that has begun; it has ended after the block, and the cluster is still there for a look."""
    with Cluster(hosts, **{"size": POOL, "maxsize": POOL, "timeout": 5, "read_timeout": 5, **options}) as cluster:
        seen = Traffic(cluster, numbers)
        seen.start()
        try:
            seen.go_on()
            yield seen
        finally:
            seen.end()
            _logger.info(seen.told())
