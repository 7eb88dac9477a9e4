"""`PYMYSQLPOOL = {"hosts": [...]}`: g.db is the primary, g.replica a reader."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g

from pymysqlpool_flask import ConfigError, PyMySQLPool
from tests.routing.test_cluster import APP, Trio, servers, trio

__all__ = ["servers", "trio"]


def test_the_request_writes_to_the_primary_and_reads_from_a_replica(trio: Trio) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {"hosts": trio.hosts(), "size": 2, "balance": "order", **APP}
    db = PyMySQLPool(app)

    @app.get("/")
    def ports() -> dict[str, Any]:
        said = []
        for connection in (g.db, g.replica):
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@port")
                said.append(cursor.fetchone()[0])
        return {"ports": said}

    with app.test_client() as client:
        expected = [trio.servers[0].port, trio.servers[1].port]
        assert client.get("/").json == {"ports": expected}
        assert client.get("/").json == {"ports": expected}
    with app.app_context():
        pool: Any = db.get_pool()
        assert pool.stats().in_use == 0
        assert db.health().ready
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
