"""`PYMYSQLPOOL = {"hosts": [...]}`: g.db is the primary, g.replica a reader."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import Any

import pytest
from flask import Flask, g

from pymysqlpool.devserver import DevServer
from pymysqlpool_flask import ConfigError, PyMySQLPool
from tests.routing.test_cluster import APP, Trio, execute, servers, start, trio
from tests.support import wait_until

__all__ = ["servers", "trio"]


def test_the_request_writes_to_the_primary_and_reads_from_a_replica(trio: Trio) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {"hosts": trio.hosts(), "size": 2, "balance": "order", **APP}
    db = PyMySQLPool(app)

    @app.get("/")
    def ports() -> dict[str, Any]:
        said = []
        for connection in (g.replica, g.db):  # these servers do not tell positions of commits: the replica first
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@port")
                said.append(cursor.fetchone()[0])
        return {"ports": said}

    with app.test_client() as client:
        expected = [trio.servers[1].port, trio.servers[0].port]
        assert client.get("/").json == {"ports": expected}
        assert client.get("/").json == {"ports": expected}
    with app.app_context():
        pool: Any = db.get_pool()
        assert pool.stats().in_use == 0
        assert db.health().ready
        pool.close(timeout=0)


VISITORS = 8


class Visits:
    """Visitors that come one request after the other, and what they were answered."""

    def __init__(self, app: Flask) -> None:
        self.answers: Counter[tuple[int, bool]] = Counter()  # status, and whether there is a Retry-After
        self._app = app
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(VISITORS)]

    def _visit(self) -> None:
        with self._app.test_client() as client:
            while not self._ends.wait(0.002):
                answer = client.post("/")
                self.answers[answer.status_code, "Retry-After" in answer.headers] += 1

    def see(self, status: int, what: str) -> None:
        """Wait until 50 more requests have had that status."""
        key = (status, status == 503)
        wanted = self.answers[key] + 50
        wait_until(lambda: self.answers[key] >= wanted, what, 30)

    def __enter__(self) -> Visits:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.parametrize(
    ("event", "transaction"),
    [
        ("killed", "request"),
        ("read-only", None),
        pytest.param("killed", None, marks=pytest.mark.slow),
        pytest.param("read-only", "request", marks=pytest.mark.slow),
    ],
)
def test_while_the_primary_changes_the_only_other_answer_is_503_with_retry_after(
    trio: Trio, request: pytest.FixtureRequest, event: str, transaction: str | None
) -> None:
    with contextlib.ExitStack() as stack:
        old: DevServer = trio.servers[0]
        if event == "killed":
            old = start(stack, request)
            trio.role(0, writable=False)
        for server in (old, trio.servers[1]):
            execute(server, "CREATE OR REPLACE TABLE test.visits (id INT AUTO_INCREMENT PRIMARY KEY)")
        app = Flask(__name__)
        hosts = [{"host": old.host, "port": old.port}, *(host for host in trio.hosts() if host["port"] != old.port)]
        options = {"size": 4, "maxsize": 4, "timeout": 0.3, "transaction": transaction, **APP}
        app.config["PYMYSQLPOOL"] = {"hosts": hosts, **options}
        app.logger.setLevel("ERROR")
        db = PyMySQLPool(app)

        @app.post("/")
        def visit() -> str:
            with g.db.cursor() as cursor:
                cursor.execute("INSERT INTO visits VALUES ()")
            if transaction is None:
                g.db.commit()
            return "written"

        with Visits(app) as visits:
            visits.see(200, "visitors are served")
            if event == "killed":
                old.kill()
            else:
                execute(old, "SET GLOBAL read_only = 1")
            visits.see(503, "they are asked to come back")
            trio.role(1, writable=True)
            visits.see(200, "the new primary serves them")
        lost_in_commit = visits.answers.pop((500, False), 0)
        assert lost_in_commit <= (4 if event == "killed" and transaction else 0), "whether it was done is not known"
        assert set(visits.answers) == {(200, False), (503, True)}, visits.answers
        with app.app_context():
            pool: Any = db.get_pool()
            assert pool.stats().in_use == 0
            pool.close(timeout=0)


def test_what_cannot_be_is_said_when_the_application_is_made() -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {"hosts": ["db1"], "siz": 2}
    with pytest.raises(ConfigError, match="siz"):
        PyMySQLPool(app)
    app.config["PYMYSQLPOOL"] = {"hosts": ["db1"]}
    app.config["PYMYSQLPOOL_BINDS"] = {"replica": {"host": "db2"}}
    with pytest.raises(ConfigError, match="replicas of PYMYSQLPOOL's hosts"):
        PyMySQLPool(app)
