"""The commit point is the last writer: what is written until the head goes out belongs to the request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, copy_current_request_context, g, stream_with_context
from flask.sessions import SecureCookieSession, SessionInterface

from pymysqlpool.wsgi import PoolMiddleware
from pymysqlpool_flask import PyMySQLPool

from .conftest import MakeSite, Site, ask

Committed = Callable[[], list[int]]


def add(number: int) -> None:
    ask(g.db, "INSERT INTO item VALUES (%s)", number)


class _InTheDatabase(SessionInterface):
    """A session interface that writes when the response is complete."""

    def open_session(self, app: Any, request: Any) -> SecureCookieSession:
        return SecureCookieSession()

    def save_session(self, app: Any, session: Any, response: Any) -> None:
        add(2)


@pytest.fixture
def app(connect_args: dict[str, Any]) -> Flask:
    """Its after_request function was registered before the extension, so Flask calls it after the extension's."""
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**connect_args, "transaction": "request", "maxsize": 1, "server_timing": True}
    app.session_interface = _InTheDatabase()

    @app.after_request
    def registered_before(response: Response) -> Response:
        add(3)
        return response

    PyMySQLPool(app)
    return app


@pytest.mark.parametrize(("status", "kept"), [(200, [1, 2, 3]), (400, [])])
def test_what_the_session_and_earlier_functions_write_is_of_the_request(
    app: Flask, table: Committed, status: int, kept: list[int]
) -> None:
    app.add_url_rule("/", "index", lambda: (add(1), ("ok", status))[1])
    answer = app.test_client().get("/")
    assert answer.status_code == status
    assert "3 queries" in answer.headers["Server-Timing"]
    assert table() == kept


def test_an_error_in_the_session_interface_undoes_the_request(app: Flask, table: Committed) -> None:
    @app.get("/")
    def index() -> str:
        add(2)  # which the session interface writes too
        return "ok"

    assert app.test_client().get("/").status_code == 500
    assert table() == []


def test_what_is_written_after_the_head_is_said_loudly(
    make_site: MakeSite, table: Committed, caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site(transaction="request")

    @site.app.get("/")
    def index() -> Response:
        add(1)
        response = Response("ok")
        response.call_on_close(lambda: None)
        return response

    @site.app.teardown_request
    def afterwards(error: BaseException | None) -> None:
        add(2)

    with caplog.at_level(logging.WARNING, logger="pymysqlpool"):
        assert site.client.get("/").status_code == 200
    assert table() == [1]
    assert any("after its commit point" in record.message for record in caplog.records)


def test_a_commit_that_fails_at_the_head_is_the_applications_500(
    make_site: MakeSite, table: Committed, admin: Any
) -> None:
    site = make_site(transaction="request")
    site.app.register_error_handler(500, lambda error: (f"page of {type(error.original_exception).__name__}", 500))

    @site.app.get("/")
    def index() -> str:
        add(1)
        admin.kill(g.db.thread_id())
        return "all is well"

    answer = site.client.get("/")
    assert (answer.status_code, answer.data) == (500, b"page of OperationalError")
    assert table() == []


def test_where_errors_propagate_a_commit_that_fails_does(make_site: MakeSite, table: Committed, admin: Any) -> None:
    site: Site = make_site({"TESTING": True}, transaction="request")

    @site.app.get("/")
    def index() -> str:
        add(1)
        admin.kill(g.db.thread_id())
        return "all is well"

    with pytest.raises(Exception, match=r"gone away|Lost connection|is closed"):
        site.client.get("/")
    assert (table(), site.in_use) == ([], 0)


@pytest.mark.parametrize("borrows_before", [True, False])
@pytest.mark.parametrize("where", ["stream", "teardown", "copied context", "context of a test"])
def test_where_no_commit_point_is_ahead_a_block_commits_itself(
    connect_args: dict[str, Any], table: Committed, where: str, borrows_before: bool
) -> None:
    """Else it would be a savepoint of a transaction that nothing commits."""
    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**connect_args, "transaction": "request", "maxsize": 3}
    db = PyMySQLPool()

    def add_in_a_block() -> None:
        with db.transaction():
            add(2)

    @app.teardown_request
    def registered_before(error: BaseException | None) -> None:  # so Flask calls it after the extension's
        if where == "teardown":
            add_in_a_block()

    db.init_app(app)

    @app.get("/")
    def index() -> Response:
        if borrows_before:
            add(1)
        if where == "copied context":
            in_thread = threading.Thread(target=copy_current_request_context(add_in_a_block))
            in_thread.start()
            in_thread.join()
        if where == "context of a test":
            with app.test_request_context("/"):
                add_in_a_block()

        def lines() -> Iterator[str]:
            yield "ok"
            if where == "stream":
                add_in_a_block()

        return Response(stream_with_context(lines()) if where == "stream" else "ok")

    assert app.test_client().get("/").data == b"ok"
    assert table() == [1, 2][not borrows_before :]
    pool = db.get_pool(app=app)
    assert pool.stats().in_use == 0
    pool.close()


def test_an_error_of_one_request_undoes_no_other_one_in_the_same_application_context(
    make_site: MakeSite, table: Committed
) -> None:
    """As in tests that push an application context around their requests: up to Flask 3.1 these share its `g`."""
    site = make_site(transaction="request")
    site.app.add_url_rule("/fail", "fail", lambda: 1 / 0)
    site.app.add_url_rule("/<int:number>", "index", lambda number: (add(number), "ok")[1])
    with site.app.app_context():
        statuses = [site.client.get(path).status_code for path in ("/1", "/fail", "/2")]
    assert (statuses, table()) == ([200, 500, 200], [1, 2])


@pytest.mark.parametrize("of_the_middleware", [None, "request"])
def test_inside_the_wsgi_middleware_the_transaction_is_the_requests_too(
    make_site: MakeSite, table: Committed, of_the_middleware: Any
) -> None:
    site = make_site(transaction="request")

    @site.app.get("/<int:number>/<int:status>")
    def index(number: int, status: int) -> tuple[str, int]:
        add(number)
        return str(status), status

    served = PoolMiddleware(site.app.wsgi_app, site.pool, transaction=of_the_middleware)
    site.app.wsgi_app = served  # type: ignore[method-assign]
    assert [site.client.get(path).get_data(as_text=True) for path in ("/1/200", "/2/409")] == ["200", "409"]
    assert table() == [1]
