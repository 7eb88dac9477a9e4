"""What serves requests warns once of a pool whose statements may wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.asgi import PoolMiddleware as AsgiMiddleware
from pymysqlpool.wsgi import PoolMiddleware as WsgiMiddleware


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for record in caplog.records if "no read_timeout" in (text := record.getMessage())]


def application(*_: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize("middleware", [WsgiMiddleware, AsgiMiddleware])
def test_a_middleware_warns_once_of_a_pool_without_read_timeout(
    caplog: pytest.LogCaptureFixture, middleware: type[Any]
) -> None:
    pool = ConnectionPool(name="shop")
    for _ in range(2):
        made = middleware(application, pool)
    [warning] = warnings(caplog)
    assert "pool(shop)" in warning
    if middleware is AsgiMiddleware:
        asyncio.run(made.pool.close())


@pytest.mark.parametrize("middleware", [WsgiMiddleware, AsgiMiddleware])
def test_of_a_pool_with_read_timeout_nothing_is_said(caplog: pytest.LogCaptureFixture, middleware: type[Any]) -> None:
    made = middleware(application, ConnectionPool(read_timeout=30))
    assert not warnings(caplog)
    if middleware is AsgiMiddleware:
        asyncio.run(made.pool.close())


def test_flask_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    flask = pytest.importorskip("flask")
    from pymysqlpool_flask import PyMySQLPool

    for options, number in (({"name": "shop"}, 1), ({"read_timeout": 30}, 0)):
        caplog.clear()
        app = flask.Flask(__name__)
        app.config["PYMYSQLPOOL"] = options
        extension = PyMySQLPool(app)
        for _ in range(2):
            extension.get_pool(app=app)
        assert len(warnings(caplog)) == number
