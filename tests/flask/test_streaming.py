"""Bodies that are made while they are sent (behaviours 16, 17, 20)."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from flask import Response, g, request, send_file, stream_with_context
from pymysql.cursors import Cursor, SSCursor
from pymysql.err import MySQLError
from werkzeug.test import Client

from pymysqlpool import PoolTimeout, ReturnConnectionToPoolError
from pymysqlpool_flask.head import HeadKeeper
from tests.support import wait_until

from .conftest import MakeSite, Site, ask

# More than the socket's buffers hold, so that the server is still sending when the client has gone.
MANY = "SELECT REPEAT('x', 1000), seq FROM seq_1_to_2000000"


class _LeavesItAlone:
    def announce(self, environ: Any) -> None: ...

    def before(self, environ: Any, status: int, headers: Any) -> None: ...

    def instead(self, environ: Any, error: Exception) -> None: ...


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


@pytest.mark.parametrize("kind", [Cursor, SSCursor])
def test_what_the_view_has_borrowed_is_the_streams(site: Site, kind: type[Cursor]) -> None:
    """17: also where Flask tears the request down before the first chunk (3.1.2, 3.1.3)."""

    @site.app.get("/")
    def index() -> Response:
        cursor: Any = g.db.cursor(kind)
        cursor.execute("SELECT seq FROM seq_1_to_3")

        def lines() -> Iterator[str]:
            while row := cursor.fetchone():
                yield f"{row[0]}:{site.in_use} "
            cursor.execute("SELECT 4")
            yield f"{cursor.fetchall()[0][0]}:{g.db is cursor.connection}"

        return Response(stream_with_context(lines()))

    assert site.client.get("/").data == b"1:1 2:1 3:1 4:True"
    now = site.pool.stats()
    assert (now.in_use, now.borrowed) == (0, 1)


def _is_read(body: Any) -> None:
    assert b"".join(body) == b"12"


def _is_begun(body: Any) -> None:
    assert next(iter(body)) == b"1"


def _is_not_asked_for(body: Any) -> None: ...


@pytest.mark.parametrize("how", [_is_read, _is_begun, _is_not_asked_for])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stream_is_over_at_the_latest_when_its_body_is_closed(
    site: Site, how: Callable[[Any], None], method: str
) -> None:
    @site.app.get("/")
    def index() -> Response:
        connection = g.db
        return Response(stream_with_context(str(ask(connection, f"SELECT {number}")) for number in (1, 2)))

    environ = {**site.client.get("/nowhere").request.environ, "PATH_INFO": "/", "REQUEST_METHOD": method}
    body: Any = site.app.wsgi_app(environ, lambda *_: lambda data: None)
    if method == "GET":
        how(body)
    body.close()
    assert site.in_use == 0


@pytest.mark.parametrize("other", ["another response", "an error", "an error that propagates"])
def test_a_stream_that_is_not_sent_keeps_nothing(site: Site, other: str) -> None:
    def late(response: Response) -> Response:
        if not response.is_streamed:
            return response
        response.close()  # up to Flask 3.1.1 the generator leaves its context behind in the thread otherwise
        if other == "another response":
            return Response("instead")
        raise KeyError

    site.app.after_request(late)
    site.app.config["PROPAGATE_EXCEPTIONS"] = other == "an error that propagates"

    @site.app.get("/")
    def index() -> Response:
        connection = g.db
        return Response(stream_with_context(str(ask(connection, "SELECT 1")) for _ in range(2)))

    if other == "an error that propagates":
        with pytest.raises(KeyError):
            site.client.get("/")
    else:
        assert site.client.get("/").status_code == (200 if other == "another response" else 500)
    assert site.in_use == 0


def test_a_stream_that_no_server_will_read_ends_with_its_request(site: Site) -> None:
    """A test that dispatches by itself: nothing is there that could close the body."""

    @site.app.get("/")
    def index() -> Response:
        return Response(stream_with_context(str(ask(connection, "SELECT 1")) for connection in [g.db]))

    with site.app.test_request_context("/"):
        response = site.app.full_dispatch_request()
        assert response.is_streamed
    del response
    assert site.in_use == 0


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


@pytest.mark.parametrize("handled", [False, True])
def test_a_stream_that_finds_no_connection_is_a_503_while_its_head_is_not_out(
    make_site: MakeSite, handled: bool
) -> None:
    """44: the generator runs when Flask and its error handlers have gone; the page is the user's all the same."""
    site = make_site(size=1, maxsize=1, pre_create_num=1, timeout=0.05, retry_after=3)
    if handled:
        site.app.register_error_handler(503, lambda error: (f"no {request.path} now", 503, {"Retry-After": "9"}))

    @site.app.get("/<when>")
    def index(when: str) -> Response:
        def lines() -> Iterator[str]:
            if when == "later":
                yield "begun"
            yield str(ask(g.db, "SELECT 1"))

        return Response(stream_with_context(lines()))

    with site.pool.get_connection(timeout=20):
        answer = site.client.get("/first")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "9" if handled else "3")
        assert (answer.text == "no /first now") == handled
        assert site.client.head("/first").status_code == 200  # without a body nothing is asked of the pool
        with pytest.raises(PoolTimeout):
            _ = site.client.get("/later").data
    assert (site.client.get("/first").text, site.client.get("/later").text) == ("1", "begun1")


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_whose_session_is_lost_is_a_503_or_breaks_off_where_it_is_out(
    site: Site, admin: Any, begun: bool
) -> None:
    """44, 46"""

    @site.app.get("/")
    def index() -> Response:
        def lines() -> Iterator[str]:
            if begun:
                yield "begun"
            admin.kill(g.db.thread_id())
            while True:
                ask(g.db, "SELECT 1")

        return Response(stream_with_context(lines()))

    if begun:
        with pytest.raises(MySQLError):
            _ = site.client.get("/").data
    else:
        assert site.client.get("/").status_code == 503
    assert site.in_use == 0


def test_another_error_of_a_stream_is_the_servers_to_answer(site: Site) -> None:
    @site.app.get("/")
    def index() -> Response:
        def lines() -> Iterator[str]:
            yield str(ask(g.db, "SELECT nonsense"))

        return Response(stream_with_context(lines()))

    with pytest.raises(MySQLError, match="nonsense"):
        _ = site.client.get("/").data
    assert site.in_use == 0


def test_only_streams_are_wrapped_and_the_wrapping_keeps_to_wsgi(site: Site) -> None:
    """18, 44"""
    closed = []

    def lines() -> Iterator[str]:
        try:
            yield str(ask(g.db, "SELECT 1"))
            yield "2"
        finally:
            closed.append(True)

    site.app.add_url_rule("/stream", "stream", lambda: Response(stream_with_context(lines())))
    site.app.add_url_rule("/file", "file", lambda: send_file(io.BytesIO(b"a file"), mimetype="text/plain"))
    validated = Client(validator(site.app))
    assert validated.get("/stream", buffered=True).data == b"12"
    assert closed == [True]
    environ = {**site.client.get("/nowhere").request.environ, "PATH_INFO": "/file", "wsgi.file_wrapper": FileWrapper}
    body = site.app.wsgi_app(environ, lambda *_: lambda data: None)
    assert isinstance(body, FileWrapper)
    body.close()


def test_an_application_around_which_heads_come_late_or_by_write_works_as_before(site: Site) -> None:
    """18: middleware below may start late, or write by hand."""
    inner = site.app.wsgi_app

    def written(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"by hand, ")
        return [b"by list"]

    def late(environ: Any, start_response: Any) -> Any:
        yield from inner(environ, start_response)

    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    for below, told in ((written, b"by hand, by list"), (late, b"1")):
        wrapped = HeadKeeper(below, _LeavesItAlone())
        answer = Client(validator(wrapped)).get("/")
        with contextlib.closing(answer):
            assert (answer.status_code, answer.data) == (200, told)


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
