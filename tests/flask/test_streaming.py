"""Bodies that are made while they are sent (behaviours 16, 17, 20)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Response, g, stream_with_context
from pymysql.cursors import SSCursor

from pymysqlpool import ReturnConnectionToPoolError
from tests.support import wait_until

from .conftest import Site, ask

# More than the socket's buffers hold, so that the server is still sending when the client has gone.
MANY = "SELECT REPEAT('x', 1000), seq FROM seq_1_to_2000000"


def test_a_stream_with_its_context_keeps_its_connection_until_its_end(site: Site) -> None:
    """17"""

    @site.app.get("/")
    def index() -> Response:
        def lines() -> Iterator[str]:
            for number in range(3):
                yield f"{ask(g.db, 'SELECT %s', number)}:{site.in_use} "

        return Response(stream_with_context(lines()))

    before = site.pool.stats()
    assert site.client.get("/").data == b"0:1 1:1 2:1 "
    now = site.pool.stats()
    assert (now.in_use, now.borrowed - before.borrowed, now.returned - before.returned) == (0, 1, 1)


def test_a_stream_that_fails_gives_its_connection_back(site: Site) -> None:
    """17"""

    @site.app.get("/")
    def index() -> Response:
        def lines() -> Iterator[str]:
            yield str(ask(g.db, "SELECT 1"))
            raise KeyError

        return Response(stream_with_context(lines()))

    with pytest.raises(KeyError):
        _ = site.client.get("/").data
    assert site.in_use == 0


def test_a_stream_without_its_context_gets_a_clear_error(site: Site) -> None:
    """16"""

    @site.app.get("/g")
    def on_g() -> Response:
        def lines() -> Iterator[str]:
            yield str(g.db)

        return Response(lines())

    @site.app.get("/kept")
    def kept() -> Response:
        connection = g.db

        def lines() -> Iterator[str]:
            yield str(ask(connection, "SELECT 1"))

        return Response(lines())

    with pytest.raises(RuntimeError, match="application context"):
        _ = site.client.get("/g").data
    with pytest.raises(ReturnConnectionToPoolError):
        _ = site.client.get("/kept").data
    assert site.in_use == 0


@pytest.mark.parametrize("keep", [True, False], ids=["cursor kept on g", "cursor dies with the stream"])
def test_a_client_that_hangs_up_in_a_half_read_result_is_not_waited_for(site: Site, keep: bool) -> None:
    """20: the connection is discarded, not drained, whether the cursor dies with the stream or something keeps it."""

    @site.app.get("/")
    def index() -> Response:
        def lines() -> Iterator[str]:
            cursor: Any = g.db.cursor(SSCursor)
            if keep:
                g.cursor = cursor
            cursor.execute(MANY)
            while True:
                yield cursor.fetchone()[0]

        return Response(stream_with_context(lines()))

    environ = site.client.get("/nowhere").request.environ
    body = site.app.wsgi_app({**environ, "PATH_INFO": "/"}, lambda *_: lambda data: None)
    chunks = iter(body)
    assert len(next(chunks)) == 1000
    started = time.monotonic()
    body.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 0.5
    wait_until(lambda: site.pool.stats().discarded.get("interrupted") == 1, "discarded as interrupted")
    assert site.in_use == 0
