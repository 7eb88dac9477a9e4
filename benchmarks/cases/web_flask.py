"""A Flask request end to end, in one process: a page that runs one query, through the WSGI callable.

No network between browser and application, so that what is compared is the application's work. `no database` is the
same page without its query.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from ..bench import Bench
from ..measure import OURS, Segment, Table, compare, interleave, timed
from ..peers import ConnectPerQuery, NotInstalled, Peer, SQLAlchemy, load, query

PER_REQUEST = "connect per request"
NO_DATABASE = "no database"
_ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}

App = Callable[..., Iterable[bytes]]


def request(app: App) -> bytes:
    """One GET of the front page, closed as a server closes it."""
    heads: list[str] = []
    environ = {**_ENVIRON, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
    answer = app(environ, lambda status, headers, exc_info=None: heads.append(status))
    try:
        body = b"".join(answer)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    assert heads == ["200 OK"], heads
    return body


def requests(app: App) -> Callable[[int], None]:
    def body(operations: int) -> None:
        for _ in range(operations):
            request(app)

    return body


def ours(connect: dict[str, Any], stack: ExitStack) -> App:
    from pymysqlpool_flask import PyMySQLPool, g

    app = load("flask", "Flask").Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**connect, "size": 4, "maxsize": 4}
    db = PyMySQLPool(app)
    stack.callback(lambda: db.get_pool(app=app).close())

    @app.get("/")  # type: ignore[untyped-decorator,unused-ignore]
    def page() -> str:
        return str(query(g.db))

    return app.wsgi_app  # type: ignore[no-any-return]


def through(peer: Peer) -> App:
    """The way Flask's documentation shows: a connection on `g`, given back at the teardown."""
    flask = load("flask", "Flask")
    app = flask.Flask(__name__)

    @app.get("/")  # type: ignore[untyped-decorator,unused-ignore]
    def page() -> str:
        flask.g.db = peer.borrow()
        return str(query(flask.g.db))

    @app.teardown_appcontext  # type: ignore[untyped-decorator,unused-ignore]
    def end(error: BaseException | None) -> None:
        connection = flask.g.pop("db", None)
        if connection is not None:
            peer.give_back(connection)

    return app.wsgi_app  # type: ignore[no-any-return]


def without() -> App:
    app = load("flask", "Flask").Flask(__name__)

    @app.get("/")  # type: ignore[untyped-decorator,unused-ignore]
    def page() -> str:
        return "((1,),)"

    return app.wsgi_app  # type: ignore[no-any-return]


def run(bench: Bench) -> list[Table]:
    segments: dict[str, Segment] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        try:
            segments[NO_DATABASE] = timed(requests(without()))
            segments[OURS] = timed(requests(ours(bench.tcp, stack)))
            segments[PER_REQUEST] = timed(requests(through(ConnectPerQuery(bench.tcp, 1))))
        except NotInstalled as error:
            return [Table("web_flask", f"Flask: {error}", [""])]
        try:
            pool = SQLAlchemy(bench.tcp, 4)
            stack.callback(pool.close)
            segments[SQLAlchemy.name] = timed(requests(through(pool)))
        except NotInstalled as error:
            missing[SQLAlchemy.name] = str(error)
        with bench.pinned(bench.server.pid):
            taken = interleave(segments, bench.pick(150, 20), seconds=0.01)
    return [compare("web_flask", "A Flask request with one query", taken, missing, bare=NO_DATABASE)]
