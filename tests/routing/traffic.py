"""Steady traffic on a cluster while something befalls it, and what became of each request.

12 threads with a pool of 8 connections per host; each sends a request every 20 ms. A request writes a row with a number
of its own and commits, then reads it back with another borrow. `SiteTraffic` does the same through a Flask application.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic
from typing import Any, TypeVar

import pymysql
from flask import Flask, g

from pymysqlpool.cluster import Cluster
from pymysqlpool_flask import PyMySQLPool
from tests.support import wait_until

THREADS = 12
POOL = 8
EVERY = 0.02  # seconds
PATIENCE = {"size": POOL, "maxsize": POOL, "timeout": 5, "read_timeout": 5}
WRITE = "INSERT INTO visit (id) VALUES (%s)"  # twice if it is sent twice: the number is no key
READ = "SELECT 1 FROM visit WHERE id = %s"
Seen = TypeVar("Seen", bound="Traffic")
_logger = logging.getLogger(__name__)  # pytest --log-cli-level=info shows the figures


class Answer(Exception):
    """A web application answered with an error.

    Args:
        status: its status, and its Retry-After if there is one.
    """


def longest_gap(times: Sequence[float]) -> tuple[float, float]:
    """The longest time between two of these instants, and when it ended."""
    return max(((later - earlier, later) for earlier, later in pairwise(times)), default=(0.0, 0.0))


class Traffic:
    """What the visitors saw.

    Args:
        lender: what lends connections for writes, such as `cluster.primary`.
        numbers: the source of the numbers that are written.
        logins: returns how many connections were made.
        reader: what lends a connection that sees the commit; None: `lender`, which is not told of the commit.

    Attributes:
        written: the rows whose COMMIT was acknowledged.
        failed: each failed request's error number, and how often.
        failed_late: how many failed that began when the first failure had been reported: none was in flight then.
        stale: how many rows their writer did not find.
        times: when requests succeeded, monotonic.
        longest_failed: seconds that the slowest of the failed requests took.
        forgets_commits: whether `reader` is not told of the commit either.
    """

    def __init__(
        self,
        lender: Any,
        numbers: Iterator[int],
        *,
        logins: Callable[[], int],
        reader: Any = None,
        threads: int = THREADS,
    ) -> None:
        self.lender = lender
        self.written: set[int] = set()
        self.failed: Counter[str] = Counter()
        self.failed_late = 0
        self.stale = 0
        self.times: list[float] = []
        self.longest_failed = 0.0
        self.forgets_commits = False
        self._first_failed_at = float("inf")  # monotonic
        self._reader = reader
        self._logins = logins
        self._logins_before = 0
        self._numbers = numbers
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(threads)]

    def _visit(self) -> None:
        while not self._ends.wait(EVERY):
            began = monotonic()
            try:
                self._request(next(self._numbers))
            except (pymysql.err.MySQLError, OSError, Answer) as error:
                number = error.args[0] if error.args else ""
                self.failed[f"{type(error).__name__} {number}"] += 1
                self.failed_late += began > self._first_failed_at
                self._first_failed_at = min(self._first_failed_at, now := monotonic())
                self.longest_failed = max(self.longest_failed, now - began)
            else:
                self.times.append(monotonic())

    def _request(self, number: int) -> None:
        with self.lender.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute(WRITE, (number,))
            connection.commit()
        self.written.add(number)
        if self._reader is None:
            again = self.lender.get_connection()
        else:
            again = self._reader.get_connection(after=None if self.forgets_commits else connection.commit_token)
        with again as connection, connection.cursor() as cursor:
            cursor.execute(READ, (number,))
            self.stale += not cursor.fetchone()

    def go_on(self, requests: int = 100, timeout: float = 30) -> None:
        """Until so many more have succeeded."""
        wanted = len(self.times) + requests
        wait_until(lambda: len(self.times) >= wanted, "requests succeed again", timeout)

    def begin_event(self) -> None:
        """Count from now on."""
        self._logins_before = self._logins()

    @property
    def gap(self) -> float:
        """The longest time without a success, in seconds."""
        return longest_gap(self.times)[0]

    @property
    def logins(self) -> int:
        """All, those before the event too."""
        return self._logins()

    @property
    def logins_since(self) -> int:
        """Those since `begin_event`."""
        return self._logins() - self._logins_before

    def told(self) -> str:
        return (
            f"{sum(self.failed.values())} failed {dict(self.failed)}, {self.failed_late} of them late, "
            f"{len(self.times)} succeeded, "
            f"gap {self.gap:.2f} s, {self.logins} logins, {self.logins_since} in the event, {self.stale} stale"
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a visitor hangs"


class SiteTraffic(Traffic):
    """Visitors of a Flask application; a failed request counts by its status.

    Attributes:
        is_told_to_retry: whether each visitor that was not served got 503 with Retry-After.
    """

    def __init__(self, app: Flask, numbers: Iterator[int], **options: Any) -> None:
        super().__init__(None, numbers, **options)
        self._app = app

    @property
    def is_told_to_retry(self) -> bool:
        return all(kind.startswith("Answer 503 with Retry-After") for kind in self.failed)

    def _request(self, number: int) -> None:
        client = self._app.test_client()
        for method in (client.post, client.get):
            answer = method(f"/{number}")
            if answer.status_code >= 400:
                again = answer.headers.get("Retry-After")
                raise Answer(f"{answer.status_code}{f' with Retry-After {again}' if again else ''}")
            if method == client.post:
                self.written.add(number)
        self.stale += answer.text != "1"


@contextmanager
def traffic(
    hosts: list[dict[str, Any]], numbers: Iterator[int], *, reads_replicas: bool = False, **options: Any
) -> Iterator[Traffic]:
    """Traffic that has begun; it has ended after the block, and the cluster is still there for a look."""
    with Cluster(hosts, **{**PATIENCE, **options}) as cluster:
        reader = cluster.replica if reads_replicas else None
        with begun(Traffic(cluster.primary, numbers, logins=lambda: cluster.stats().created, reader=reader)) as seen:
            yield seen


@contextmanager
def site_traffic(
    hosts: list[dict[str, Any]], numbers: Iterator[int], *, threads: int = THREADS, **options: Any
) -> Iterator[SiteTraffic]:
    """The same through a Flask application."""
    app = Flask(__name__)
    app.logger.disabled = True  # a line for each 503
    app.config["PYMYSQLPOOL"] = {"hosts": hosts, **PATIENCE, **options}
    db = PyMySQLPool(app)

    @app.post("/<int:number>")
    def write(number: int) -> str:
        with db.transaction(), g.db.cursor() as cursor:
            cursor.execute(WRITE, (number,))
        return "written"

    @app.get("/<int:number>")
    def read(number: int) -> str:
        with g.db.cursor() as cursor:
            return str(cursor.execute(READ, (number,)))

    pool = db.get_pool(app=app)
    try:
        with begun(SiteTraffic(app, numbers, logins=lambda: pool.stats().created, threads=threads)) as seen:
            yield seen
    finally:
        pool.close()


@contextmanager
def begun(seen: Seen) -> Iterator[Seen]:
    seen.start()
    try:
        seen.go_on()
        seen.begin_event()
        yield seen
    finally:
        seen.end()
        _logger.info(seen.told())
