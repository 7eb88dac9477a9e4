"""WSGI applications under ASGI servers: the bridges never call `close()` on a body (behaviour 19)."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from pymysqlpool.request_scope import current_connection
from pymysqlpool.wsgi import PoolMiddleware
from tests.support import wait_until

ThreadSensitiveContext = pytest.importorskip("asgiref.sync").ThreadSensitiveContext


def _application(pool: ConnectionPool, fails: bool) -> Any:
    def rows() -> Iterator[bytes]:
        for number in range(3):
            with current_connection(pool).cursor() as cursor:
                cursor.execute("SELECT %s", (number,))
                yield str(cursor.fetchone()[0]).encode()
        if fails:
            raise KeyError

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return rows()

    return PoolMiddleware(application, pool)


def _bridges() -> dict[str, Callable[[Any], Any]]:
    def asgiref(application: Any) -> Any:
        return pytest.importorskip("asgiref.wsgi").WsgiToAsgi(application)

    def starlette(application: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("starlette.middleware.wsgi").WSGIMiddleware(application)

    return {"asgiref": asgiref, "starlette": starlette}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("bridge", list(_bridges()))
def test_a_body_that_is_never_closed_gives_back_at_its_end_or_its_error(
    pool: ConnectionPool, bridge: str, fails: bool
) -> None:
    """19"""
    application = _bridges()[bridge](_application(pool, fails))
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "server": ("localhost", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def exchange() -> None:
        async with ThreadSensitiveContext():  # so that asgiref's thread ends with it
            await application(scope, receive, send)

    if fails:
        with pytest.raises(BaseException) as raised:  # noqa: PT011 - a KeyError, or a group of it
            asyncio.run(exchange())
        assert "KeyError" in repr(raised.value)
        del raised
    else:
        asyncio.run(exchange())
    assert b"".join(message.get("body", b"") for message in sent) == b"012"
    gc.collect()
    wait_until(lambda: pool.stats().in_use == 0, "the lease is back")
    assert pool.stats().leaked == 0
