"""A statement larger than the server takes is told as that, and not as a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from flask import Flask, g
from pymysql.err import MySQLError, OperationalError

from pymysqlpool import ConnectionPool
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.devserver import DevServer
from pymysqlpool.failures import is_temporary
from pymysqlpool_flask import PyMySQLPool
from tests.proxy import Proxy


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


@pytest.mark.parametrize("ssl_disabled", [False, True], ids=["TLS", "plain"])
@pytest.mark.parametrize("size", [1_100_000, 5_000_000, 17_000_000])
def test_the_error_names_the_limit_on_an_event_loop(small: DevServer, size: int, ssl_disabled: bool) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(**small.connect_args, ssl_disabled=ssl_disabled, maxsize=1, timeout=5) as pool:
            connection = await pool.get_connection()
            with pytest.raises(OperationalError, match="max_allowed_packet") as caught:
                await connection.cursor().execute(f"SELECT '{'a' * size}'")
            assert caught.value.args[0] == 1153
            await connection.close()

    asyncio.run(main())


@pytest.fixture
def overtaken(small: DevServer) -> Iterator[Proxy]:
    """The server's reset comes before its error packet: it takes a large statement to its end, and says nothing."""
    with Proxy((small.host, small.port)) as proxy:
        came = bytearray()

        def take(data: bytes) -> bytes:
            if b"a" * 1000 not in data and not came:
                return data
            came.extend(data)
            if came.endswith(b"'"):
                proxy.reset()
            return b""

        proxy.rewrite = take
        yield proxy


@pytest.mark.parametrize(("size", "number"), [(1_100_000, 1153), (900_000, 2013)])
@pytest.mark.parametrize("fast_reader", [True, False])
def test_the_error_names_the_limit_where_a_reset_has_overtaken_the_packet_that_does(
    small: DevServer, overtaken: Proxy, size: int, number: int, fast_reader: bool
) -> None:
    options = {**small.connect_args, "port": overtaken.port, "ssl_disabled": True, "fast_reader": fast_reader}
    with ConnectionPool(**options, maxsize=1, timeout=5) as pool:
        connection = pool.get_connection()
        with pytest.raises(OperationalError) as caught:
            connection.execute(f"SELECT '{'a' * size}'")
        assert caught.value.args[0] == number, caught.value
        assert ("max_allowed_packet" in str(caught.value)) == (number == 1153)
        connection.close()


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


@pytest.mark.parametrize("size", [1_100_000, 17_000_000])
def test_what_fails_after_it_on_the_same_connection_is_no_reason_to_come_back(small: DevServer, size: int) -> None:
    with ConnectionPool(**small.connect_args, maxsize=1, timeout=5) as pool:
        connection = pool.get_connection()
        with pytest.raises(OperationalError):
            connection.execute(f"SELECT '{'a' * size}'")
        for _ in range(2):
            with pytest.raises(MySQLError) as caught:
                connection.execute("SELECT 1")
            assert caught.value.__cause__ is not None
            assert caught.value.__cause__.args[0] == 1153
            assert not is_temporary(caught.value)
        connection.close()


@pytest.mark.parametrize("size", [1_100_000, 17_000_000])
@pytest.mark.parametrize(("transaction", "status"), [(None, 200), ("request", 500)])
def test_a_view_that_takes_the_error_goes_on_where_nothing_was_lost(
    small: DevServer, size: int, transaction: str | None, status: int
) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**small.connect_args, "ssl_disabled": True, "transaction": transaction}
    app.logger.disabled = True
    db = PyMySQLPool(app)

    @app.get("/")
    def index() -> Any:
        with pytest.raises(OperationalError):
            g.db.execute_query("SELECT LENGTH(%s)", ("a" * size,))
        return str(g.db.execute_query("SELECT 1"))

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, None)
    db.get_pool(app=app).close()


def test_a_visitor_is_not_told_to_come_back_where_sqlalchemy_has_sent_it(small: DevServer) -> None:
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**small.connect_args, "ssl_disabled": True}
    app.logger.disabled = True
    db = PyMySQLPool(app)
    pool = db.get_pool(app=app)
    engine = sqlalchemy.create_engine("mysql+pymysql://", creator=pool.get_connection, poolclass=sqlalchemy.NullPool)

    @app.get("/")
    def index() -> Any:
        with engine.begin() as connection:
            return str(connection.scalar(sqlalchemy.text("SELECT LENGTH(:text)"), {"text": "a" * 1_100_000}))

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (500, None)
    pool.close()
