"""One lease per request, borrowed at first use, given back exactly once, whatever happens (behaviours 1 to 12, 15)."""

from __future__ import annotations

import contextvars
import gc
import logging
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import flask
import pytest
from flask import abort, copy_current_request_context, g
from flask.testing import FlaskClient
from pymysql.err import OperationalError

from pymysqlpool import ReturnConnectionToPoolError
from pymysqlpool.wsgi import PoolMiddleware
from pymysqlpool_flask import NoRequestScopeError, PyMySQLPool
from tests.support import wait_until

from .conftest import MakeSite, Site, ask

FLASK = tuple(int(number) for number in version("flask").split(".")[:2])


def test_a_request_that_never_asks_borrows_nothing_also_with_the_database_down(make_site: MakeSite) -> None:
    """1"""
    site = make_site(host="127.0.0.1", port=1)
    site.app.add_url_rule("/", "still", lambda: "still there")
    assert site.client.get("/").data == b"still there"
    assert site.client.get("/nowhere").status_code == 404
    assert site.pool.stats().connect_errors == 0


def test_a_request_has_one_connection_however_often_it_asks(site: Site) -> None:
    """2"""

    @site.app.get("/")
    def index() -> Any:
        seen = {id(g.db) for _ in range(100)} | {id(site.db.connection), id(g.db)}
        template = "{{ g.db.thread_id() }} " * 3
        shown = flask.render_template_string(template).split()
        return {"objects": len(seen), "sessions": len(set(shown)), "in_use": site.in_use}

    assert site.client.get("/").json == {"objects": 1, "sessions": 1, "in_use": 1}
    assert site.pool.stats().borrowed == 1


class Boom(Exception):
    pass


def _ways() -> dict[str, tuple[Callable[[Site], Any], int]]:
    """What may happen in a request after it has borrowed, and the status it leads to; 0: the exception gets out."""

    def ok(site: Site) -> Any:
        return "ok"

    def aborted(site: Site) -> Any:
        abort(404)

    def unhandled(site: Site) -> Any:
        raise Boom

    def handled(site: Site) -> Any:
        raise KeyError

    def handler_fails(site: Site) -> Any:
        raise LookupError

    def after_request_fails(site: Site) -> Any:
        g.fail_after = True
        return "ok"

    def system_exit(site: Site) -> Any:
        raise SystemExit(1)

    def closed_by_the_view(site: Site) -> Any:
        g.db.close()
        return "ok"

    def in_a_transaction(site: Site) -> Any:
        ask(g.db, "SELECT 1 FROM item")
        raise Boom

    def half_read(site: Site) -> Any:
        g.db.query("SELECT seq FROM seq_1_to_100000", unbuffered=True)
        return "ok"

    return {
        "ok": (ok, 200),
        "abort": (aborted, 404),
        "unhandled": (unhandled, 500),
        "handled": (handled, 418),
        "error in the error handler": (handler_fails, 500),
        "error in after_request": (after_request_fails, 500),
        "SystemExit": (system_exit, 0),
        "closed by the view": (closed_by_the_view, 200),
        "in a transaction": (in_a_transaction, 500),
        "half-read": (half_read, 200),
    }


@pytest.mark.parametrize("way", list(_ways()))
@pytest.mark.usefixtures("table")
def test_after_every_end_of_a_request_nothing_is_lent_and_it_was_returned_once(site: Site, way: str) -> None:
    """3"""
    view, status = _ways()[way]

    @site.app.route("/", methods=["GET", "OPTIONS"], provide_automatic_options=False)
    def index() -> Any:
        assert ask(g.db, "SELECT 7") == 7
        return view(site)

    @site.app.after_request
    def after(response: Any) -> Any:
        if g.get("fail_after"):
            g.fail_after = False
            raise Boom
        return response

    site.app.register_error_handler(KeyError, lambda error: ("handled", 418))
    site.app.register_error_handler(LookupError, _fail)
    for method in ("GET", "HEAD", "OPTIONS"):
        before = site.pool.stats()
        if status:
            assert site.client.open("/", method=method).status_code == status
        else:
            with pytest.raises(SystemExit):
                site.client.open("/", method=method)
        now = site.pool.stats()
        assert (now.in_use, now.borrowed - before.borrowed, now.returned - before.returned) == (0, 1, 1)


def _fail(error: Exception) -> Any:
    if type(error) is LookupError:
        raise Boom
    raise error


def test_the_test_client_kept_open_gives_back_twice_and_nothing_breaks(site: Site) -> None:
    """4: `with client:` tears the context down at the end of the request and again at the end of the block."""
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    with site.client as client:
        assert client.get("/").data == b"1"
        assert site.in_use == 0
        assert ask(g.db, "SELECT 2") == 2  # the context is still there: a new lease
        assert site.in_use == 1
        assert client.get("/").data == b"1"
    assert site.in_use == 0


def test_teardown_never_raises_when_the_server_ends_the_session_first(
    connect_args: dict[str, Any], admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """5: the failed rollback is logged, the connection discarded, and functions registered before ours still run."""
    app, torn_down = flask.Flask(__name__), list[Any]()
    app.config["PYMYSQLPOOL"] = connect_args
    app.teardown_request(torn_down.append)
    app.teardown_appcontext(torn_down.append)
    db = PyMySQLPool(app)

    @app.get("/")
    def index() -> str:
        g.db.begin()
        admin.kill(g.db.thread_id())
        return "ok"

    with db.get_pool(app=app) as pool, caplog.at_level(logging.DEBUG, logger="pymysqlpool"):
        assert app.test_client().get("/").status_code == 200
        assert torn_down == [None, None]
        stats = pool.stats()
        assert (stats.in_use, stats.idle, sum(stats.discarded.values())) == (0, 0, 1)
        assert any(reason in caplog.text for reason in stats.discarded)


def test_teardown_never_raises_when_the_pool_was_closed_meanwhile(site: Site) -> None:
    """5"""

    @site.app.get("/")
    def index() -> str:
        ask(g.db, "SELECT 1")
        site.pool.close(timeout=0)
        return "ok"

    assert site.client.get("/").status_code == 200
    assert site.in_use == 0


def test_another_teardown_that_raises_keeps_nothing_lent_and_is_named(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """6: in Flask up to 3.1 it stops all that come after it, ours too; `teardown_appcontext` still runs."""
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))

    @site.app.teardown_request
    def fail(error: Any) -> None:
        raise Boom

    with pytest.raises(Exception):  # noqa: B017, PT011 - Boom, or an ExceptionGroup of it in Flask 3.2
        site.client.get("/")
    assert site.in_use == 0
    ours_was_skipped = FLASK < (3, 2)
    warnings = [record.getMessage() for record in caplog.records if "kept others from running" in record.message]
    assert len(warnings) == ours_was_skipped
    if ours_was_skipped:
        assert ".fail (" in warnings[0]
        assert "test_lifecycle.py" in warnings[0]


def test_an_application_teardown_that_raises_leaves_the_lease_to_the_collector(site: Site) -> None:
    """6: up to Flask 3.1 nothing of ours runs after it; what a command has borrowed comes home with its `g`."""

    @site.app.teardown_appcontext
    def fail(error: Any) -> None:
        raise Boom

    with pytest.raises(Exception), site.app.app_context():  # noqa: B017, PT011 - see above
        ask(g.db, "SELECT 1")
    gc.collect()
    with site.pool.get_connection(), site.pool.get_connection():  # both of two can be had
        pass
    assert site.in_use == 0


def test_what_a_teardown_function_borrows_after_ours_is_given_back_too(make_site: MakeSite, connect_args: Any) -> None:
    """7: functions registered before ours run after it."""
    app = flask.Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**connect_args, "maxsize": 1, "size": 1, "timeout": 1}
    seen = []
    app.teardown_request(lambda error: seen.append(ask(g.db, "SELECT 1")))
    app.teardown_appcontext(lambda error: seen.append(ask(g.db, "SELECT 2")))
    db = make_site().db.__class__(app)
    app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 0")))
    assert app.test_client().get("/").status_code == 200
    assert seen == [1, 2]
    pool = db.get_pool(app=app)
    assert pool.stats().in_use == 0
    pool.close(timeout=0)


def test_a_request_inside_a_pushed_context_gives_back_its_own_lease_only(site: Site) -> None:
    """8: a fixture that has pushed an application context around `client.get` (one `g` for both up to Flask 3.1)."""

    @site.app.get("/")
    def index() -> Any:
        return {"session": g.db.thread_id(), "in_use": site.in_use}

    with site.app.app_context():
        outer = g.db
        answer = site.client.get("/").json
        assert answer is not None
        assert answer["session"] != outer.thread_id()
        assert answer["in_use"] == 2
        assert site.in_use == 1
        assert g.db is outer
        assert ask(outer, "SELECT 3") == 3
    assert site.in_use == 0


def test_an_abandoned_stream_does_not_poison_the_thread(site: Site) -> None:
    """9: up to Flask 3.1 its application context stays pushed, and all later requests of the thread share its `g`."""

    def lines() -> Any:
        yield str(g.db.thread_id())
        yield "never asked for"

    site.app.add_url_rule("/stream", "stream", lambda: flask.Response(flask.stream_with_context(lines())))
    site.app.add_url_rule("/", "index", lambda: str(g.db.thread_id()))
    environ = site.client.get("/").request.environ
    abandoned = iter(site.app.wsgi_app({**environ, "PATH_INFO": "/stream"}, lambda *_: lambda data: None))
    held = next(abandoned)
    for _ in range(10):
        before = site.pool.stats()
        assert site.client.get("/").data != held
        now = site.pool.stats()
        assert (now.borrowed - before.borrowed, now.in_use) == (1, before.in_use)
    del abandoned
    wait_until(lambda: site.in_use == 0, "the stream's connection comes home")


def test_a_nested_context_has_a_lease_of_its_own(site: Site) -> None:
    """10"""

    @site.app.get("/")
    def index() -> Any:
        outer = g.db
        with site.app.app_context():
            assert g.db is not outer
            assert site.in_use == 2
        assert site.in_use == 1
        with site.app.test_request_context("/inner"):
            assert site.db.connection is not outer
            assert site.in_use == 2
        assert g.db is outer
        return {"in_use": site.in_use, "answer": ask(g.db, "SELECT 5")}

    assert site.client.get("/").json == {"in_use": 1, "answer": 5}


@pytest.mark.parametrize("first", ["outer", "inner"])
@pytest.mark.parametrize("kind", ["app_context", "test_request_context"])
def test_a_nested_context_may_share_the_requests_lease_and_never_gives_it_back(
    make_site: MakeSite, kind: str, first: str
) -> None:
    """10: with the option, at the first use."""
    site = make_site(share_nested_contexts=True, size=1, maxsize=1)

    @site.app.get("/")
    def index() -> Any:
        outer = g.db if first == "outer" else None
        with getattr(site.app, kind)():
            inner = g.db
            ask(inner, "SELECT @mark := 7")
            with site.app.app_context():
                assert g.db is inner
        assert outer in (None, inner)
        assert g.db is inner
        assert site.pool.stats().returned == 0
        return str(ask(g.db, "SELECT @mark"))

    assert site.client.get("/").data == b"7"
    now = site.pool.stats()
    assert (now.borrowed, now.returned, now.in_use) == (1, 1, 0)
    with site.app.app_context():  # no request is served any more
        assert ask(g.db, "SELECT @mark") is None
    assert site.in_use == 0


@pytest.mark.parametrize("kind", ["app_context", "test_request_context"])
@pytest.mark.parametrize("caught", [True, False])
def test_an_exception_in_a_shared_nested_context_is_the_requests_only_if_it_gets_there(
    make_site: MakeSite, table: Callable[[], list[int]], kind: str, caught: bool
) -> None:
    """10: what the request wrote is committed if its view has caught the exception, else undone."""
    site = make_site({"PROPAGATE_EXCEPTIONS": False}, share_nested_contexts=True, transaction="request")

    @site.app.post("/")
    def index() -> Any:
        ask(g.db, "INSERT INTO item VALUES (1)")
        try:
            with getattr(site.app, kind)():
                ask(g.db, "INSERT INTO item VALUES (2)")
                raise Boom
        except Boom:
            if not caught:
                raise
        assert site.in_use == 1
        ask(g.db, "INSERT INTO item VALUES (3)")
        return "ok"

    assert site.client.post("/").status_code == (200 if caught else 500)
    assert table() == ([1, 2, 3] if caught else [])
    now = site.pool.stats()
    assert (now.borrowed, now.returned, now.in_use) == (1, 1, 0)


def test_sharing_is_for_contexts_in_the_requests_own_thread(make_site: MakeSite) -> None:
    """10: work beside the request, and requests served inside it, have leases of their own."""
    site = make_site(share_nested_contexts=True, maxsize=3)
    sessions: list[int] = []

    def beside() -> None:
        with site.app.app_context():
            sessions.append(g.db.thread_id())

    @site.app.get("/inner")
    def inner() -> str:
        with site.app.app_context():
            nested = g.db.thread_id()
        assert nested == g.db.thread_id()
        return str(nested)

    @site.app.get("/")
    def index() -> str:
        sessions.append(g.db.thread_id())
        thread = threading.Thread(target=contextvars.copy_context().run, args=(beside,))
        thread.start()
        thread.join(10)
        sessions.append(int(site.client.get("/inner").text))
        with site.app.app_context():
            assert g.db.thread_id() == sessions[0]
        return "ok"

    assert site.client.get("/").data == b"ok"
    assert len(sessions) == 3
    assert sessions[0] not in sessions[1:]
    assert site.in_use == 0


@pytest.mark.parametrize("with_context", [True, False])
def test_contexts_inside_a_stream_share_what_it_has_and_leave_nothing(make_site: MakeSite, with_context: bool) -> None:
    """10, 9: a stream without its request's context lends nothing, and an abandoned one lends nothing either."""
    site = make_site(share_nested_contexts=True, maxsize=3)

    def lines() -> Any:
        own = g.db.thread_id() if with_context else 0
        for _ in range(2):
            with site.app.app_context():
                assert (g.db.thread_id() == own) == with_context
            assert site.in_use == with_context
            yield "x"

    def index() -> Any:
        return flask.Response(flask.stream_with_context(lines()) if with_context else lines())

    site.app.add_url_rule("/", "index", index)
    answer = site.client.get("/")
    assert (answer.data, site.in_use) == (b"xx", 0)
    abandoned = iter(site.app.wsgi_app(answer.request.environ, lambda *_: lambda data: None))
    assert next(abandoned) == b"x"
    with site.app.app_context():
        assert site.db.connection.thread_id()
        assert site.in_use == 1 + with_context
    del abandoned
    wait_until(lambda: site.in_use == 0, "the stream's connection comes home")


@pytest.mark.parametrize(
    ("left", "seen"),
    [
        ("SET @x = 1", "SELECT @x IS NULL"),
        ("SET SESSION sql_mode = ''", "SELECT @@sql_mode = @@GLOBAL.sql_mode"),
        ("SET autocommit = 1", "SELECT NOT @@autocommit"),
        ("SET time_zone = '+05:00'", "SELECT @@time_zone = @@GLOBAL.time_zone"),
        ("USE mysql", "SELECT DATABASE() <> 'mysql'"),
        ("CREATE TEMPORARY TABLE item (left_behind INT)", "SELECT COUNT(id) = 0 FROM item"),
        ("LOCK TABLES item READ", "SELECT COUNT(*) >= 0 FROM information_schema.tables t JOIN item ON 1"),
        ("SELECT GET_LOCK('flask', 0)", "SELECT IS_FREE_LOCK('flask')"),
        ("START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT NOT @@in_transaction"),
    ],
)
@pytest.mark.usefixtures("table")
def test_the_next_request_finds_the_session_as_a_new_one(make_site: MakeSite, left: str, seen: str) -> None:
    """29: the same database session, and nothing of what the last request did to it."""
    site = make_site(size=1, maxsize=1)
    site.app.add_url_rule("/leave", "leave", lambda: str(g.db.query(left)))
    site.app.add_url_rule("/look", "look", lambda: str(ask(g.db, seen)))
    site.app.add_url_rule("/session", "session", lambda: str(g.db.thread_id()))
    first = site.client.get("/session").data
    assert site.client.get("/leave").status_code == 200
    assert site.client.get("/look").data == b"1"
    assert site.client.get("/session").data == first


def test_extension_and_middleware_together_share_one_lease(site: Site) -> None:
    """12"""

    @site.app.get("/")
    def index() -> Any:
        scope = flask.request.environ["pymysqlpool.scope"]
        return {"same": scope.connection() is g.db, "in_use": site.in_use}

    site.app.wsgi_app = PoolMiddleware(site.app.wsgi_app, site.pool)  # type: ignore[method-assign]
    assert site.client.get("/").json == {"same": True, "in_use": 1}
    assert (site.in_use, site.pool.stats().borrowed) == (0, 1)


def test_a_connection_kept_from_a_request_is_dead_and_says_where_it_was_returned(site: Site) -> None:
    """15"""
    kept: list[Any] = []

    @site.app.get("/")
    def index() -> str:
        kept.extend((g.db, g.db.cursor()))
        return "ok"

    site.client.get("/")
    with pytest.raises(ReturnConnectionToPoolError, match="already returned"):
        kept[0].query("SELECT 1")
    with pytest.raises(ReturnConnectionToPoolError, match="already returned"):
        kept[1].execute("SELECT 1")


def test_a_value_that_the_user_stores_as_g_db_wins(site: Site) -> None:
    """The tutorial's `g.db = ...`, `g.pop("db", None)` and `"db" in g` work as if we were not there."""

    @site.app.get("/")
    def index() -> Any:
        absent = "db" not in g and g.get("db") is None and g.pop("db", None) is None
        g.db = "mine"
        mine = g.db, "db" in g, g.pop("db")
        del_fails = False
        try:
            del g.db
        except AttributeError:
            del_fails = True
        return {"absent": absent, "mine": mine, "del_fails": del_fails, "in_use": site.in_use}

    answer = {"absent": True, "mine": ["mine", True, "mine"], "del_fails": True, "in_use": 0}
    assert site.client.get("/").json == answer


def test_outside_of_a_request_the_error_names_the_way_out(site: Site) -> None:
    """37"""
    with pytest.raises(NoRequestScopeError, match=r"pool\.scope"):
        _ = site.db.connection
    with pytest.raises(RuntimeError, match="application context"):
        _ = g.db


def test_a_thread_that_outlives_its_request_gets_an_error_and_no_connection(site: Site) -> None:
    """37: a thread that copied the context shares the request's connection while it lasts, and no longer."""
    go, answers = threading.Event(), []

    def late() -> None:
        answers.append(site.db.connection)
        started.set()
        go.wait(10)
        try:
            answers.append(site.db.connection)
        except NoRequestScopeError as error:
            answers.append(error)

    started, threads = threading.Event(), []

    @site.app.get("/")
    def index() -> str:
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(late,)))
        threads[0].start()
        started.wait(10)
        assert answers == [g.db]
        return "ok"

    site.client.get("/")
    go.set()
    threads[0].join(10)
    assert isinstance(answers[1], NoRequestScopeError)
    assert site.in_use == 0


def test_copy_current_request_context_has_a_lease_of_its_own_and_returns_it(site: Site) -> None:
    """37"""

    @site.app.get("/")
    def index() -> Any:
        sessions = [g.db.thread_id()]

        @copy_current_request_context
        def work() -> None:
            sessions.append(g.db.thread_id())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        return {"different": len(set(sessions)), "in_use": site.in_use}

    assert site.client.get("/").json == {"different": 2, "in_use": 1}
    assert site.in_use == 0


def test_an_async_view_shares_the_requests_connection(site: Site) -> None:
    """3, 33: view, before_request and teardown run in different threads and see one `g`."""
    seen = []
    site.app.before_request(lambda: seen.append(g.db))

    @site.app.get("/")
    async def index() -> str:
        seen.append(g.db)
        return "ok"

    assert site.client.get("/").status_code == 200
    assert seen[0] is seen[1]
    assert site.in_use == 0


def test_threads_of_one_request_that_race_for_the_first_borrow_get_one_lease(site: Site) -> None:
    """2"""

    @site.app.get("/")
    def index() -> Any:
        found: list[Any] = []
        barrier = threading.Barrier(8)

        def borrow() -> None:
            barrier.wait()
            found.append(site.db.connection)

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(borrow,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        return {"objects": len(set(map(id, found))), "borrowed": site.pool.stats().borrowed}

    assert site.client.get("/").json == {"objects": 1, "borrowed": 1}


def test_a_connection_that_died_between_requests_is_replaced_unseen(site: Site, admin: Any) -> None:
    site.app.add_url_rule("/", "index", lambda: str(g.db.thread_id()))
    client: FlaskClient = site.client
    session = int(client.get("/").data)
    admin.kill(session)
    wait_until(lambda: not ask(admin, "SELECT 1 FROM information_schema.processlist WHERE id = %s", session), "killed")
    assert int(client.get("/").data) != session


def test_a_swallowed_database_error_leaves_no_broken_connection_behind(site: Site, admin: Any) -> None:
    """The adapter never sees it: the connection's own record decides."""

    @site.app.get("/")
    def index() -> str:
        admin.kill(g.db.thread_id())
        try:
            while True:
                ask(g.db, "SELECT 1")
        except OperationalError:
            return "swallowed"

    assert site.client.get("/").data == b"swallowed"
    now = site.pool.stats()
    assert (now.in_use, now.idle, sum(now.discarded.values())) == (0, 0, 1)
