"""A statement larger than the server takes is told as that, and not as a lost connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, g
from pymysql.err import OperationalError

from pymysqlpool import ConnectionPool
from pymysqlpool.devserver import DevServer
from pymysqlpool_flask import PyMySQLPool


@pytest.fixture(scope="module")
def small() -> Iterator[DevServer]:
    with DevServer(options=["--max-allowed-packet=1M"]) as server:
        yield server


@pytest.mark.parametrize("ssl_disabled", [False, True], ids=["TLS", "plain"])
@pytest.mark.parametrize("size", [1_100_000, 5_000_000, 17_000_000, 40_000_000])
def test_the_error_names_the_limit(small: DevServer, size: int, ssl_disabled: bool) -> None:
    with ConnectionPool(**small.connect_args, ssl_disabled=ssl_disabled, maxsize=1, timeout=5) as pool:
        for _ in range(2):
            connection = pool.get_connection()
            with pytest.raises(OperationalError, match="max_allowed_packet") as caught:
                connection.execute(f"SELECT '{'a' * size}'")
            assert caught.value.args[0] == 1153
            connection.close()
        with pool.get_connection() as connection:
            connection.execute("SELECT 1")


def test_a_visitor_is_not_told_to_come_back_with_it(small: DevServer) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**small.connect_args, "ssl_disabled": True}
    app.logger.disabled = True
    db = PyMySQLPool(app)

    @app.get("/<int:size>")
    def index(size: int) -> Any:
        return str(g.db.execute_query("SELECT LENGTH(%s)", ("a" * size,)))

    for size, status in ((1000, 200), (1_500_000, 500), (20_000_000, 500)):
        assert app.test_client().get(f"/{size}").status_code == status
    assert db.get_pool(app=app).stats().in_use == 0
    db.get_pool(app=app).close()
