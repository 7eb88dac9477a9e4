"""No connection to be had, slow waits, long holds, Server-Timing (behaviours 13, 44, 45, 46, 48, 49)."""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any

import pymysql
import pytest
from flask import Flask, g

from pymysqlpool import GetConnectionFromPoolError
from pymysqlpool.devserver import DevServer
from pymysqlpool_flask import PyMySQLPool

from .conftest import MakeSite, ask


def test_an_exhausted_pool_is_a_503_with_retry_after_without_any_code(make_site: MakeSite) -> None:
    """44"""
    site = make_site(size=1, maxsize=1, pre_create_num=1, timeout=0.05, retry_after=7)
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    with site.pool.get_connection(timeout=20):
        answer = site.client.get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert site.client.get("/").status_code == 200


@pytest.mark.parametrize("what", [503, GetConnectionFromPoolError])
@pytest.mark.parametrize("early", [False, True])
def test_a_handler_of_the_users_wins(connect_args: dict[str, Any], what: Any, early: bool) -> None:
    """44: for the status or for the error, registered before or after the extension."""
    app, db = Flask(__name__), PyMySQLPool()
    app.config["PYMYSQLPOOL"] = {**connect_args, "size": 1, "maxsize": 1, "timeout": 0.05}
    app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    if not early:
        db.init_app(app)
    app.register_error_handler(what, lambda error: ("come back later", 529))
    if early:
        db.init_app(app)
    with db.get_pool(app=app) as pool, pool.get_connection(timeout=20):
        answer = app.test_client().get("/")
    assert (answer.status_code, answer.data) == (529, b"come back later")


def test_the_applications_page_for_503_gets_the_header_that_it_lacks(make_site: MakeSite) -> None:
    site = make_site(size=1, maxsize=1, pre_create_num=1, timeout=0.05, retry_after=7)
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    site.app.register_error_handler(503, lambda error: ("a page of ours", 503))
    with site.pool.get_connection(timeout=20):
        answer = site.client.get("/")
    assert (answer.status_code, answer.data, answer.headers["Retry-After"]) == (503, b"a page of ours", "7")


def test_too_many_waiting_is_a_503_at_once(make_site: MakeSite) -> None:
    """45"""
    site = make_site(size=1, maxsize=1, timeout=5, max_waiting=0)
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    with site.pool.get_connection(timeout=20):
        started = time.monotonic()
        assert site.client.get("/").status_code == 503
        assert time.monotonic() - started < 1


def test_refused_requests_make_a_line_a_second_which_counts_the_others_and_the_metric_counts_all(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """45"""
    now = [1000.0]
    monkeypatch.setattr("pymysqlpool.refusals.monotonic", lambda: now[0])
    site = make_site(size=1, maxsize=1, timeout=5, max_waiting=0)
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if "answered 503" in record.getMessage()]

    with site.pool.get_connection(timeout=20):
        for _ in range(20):
            assert site.client.get("/").status_code == 503
        assert len(lines()) == 1
        assert "others" not in lines()[0]
        now[0] += 1.5
        site.client.get("/")
        site.client.get("/")
        assert len(lines()) == 2
        assert lines()[1].startswith("GET / (index) was answered 503, and so were 19 others in the 1.5 s since")
        now[0] += 100
        site.client.get("/")
        assert "and so were 1 others" in lines()[2]
    assert site.pool.stats().rejected == 23


def test_a_database_that_is_down_is_a_503_with_the_cause_in_the_log(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    """46, and no error page is lost when it comes back"""
    with DevServer() as server:
        site = make_site(**server.connect_args, timeout=0.3)
        site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
        assert site.client.get("/").data == b"1"
        server.kill()
        answer = site.client.get("/")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        message = next(record for record in caplog.records if record.levelno == logging.ERROR).getMessage()
        assert "GET / (index)" in message
        assert "refused" in message
        server.start()
        deadline = time.monotonic() + 10
        while site.client.get("/").status_code != 200:
            assert time.monotonic() < deadline
        assert site.in_use == 0


def test_a_wrong_password_is_a_500_since_waiting_does_not_cure_it(make_site: MakeSite) -> None:
    """46"""
    site = make_site(user="nobody_here", password="wrong")
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    assert site.client.get("/").status_code == 500


def test_two_databases_asked_for_in_opposite_order_end_in_an_error_that_names_both(
    make_site: MakeSite, connect_args: dict[str, Any]
) -> None:
    """13"""
    small = {**connect_args, "size": 1, "maxsize": 1, "timeout": 0.3}
    site = make_site({"PYMYSQLPOOL_BINDS": {"other": {**small, "name": "B"}}}, **{**small, "name": "A"})
    both = threading.Barrier(2)
    notes: list[str] = []

    def take(first: str, second: str) -> str:
        getattr(g, first).ping()
        both.wait(5)
        try:
            getattr(g, second).ping()
        except GetConnectionFromPoolError as error:
            notes.append(f"{error}{error.__notes__}")
        return "ok"

    site.app.add_url_rule("/ab", "ab", lambda: take("db", "other"))
    site.app.add_url_rule("/ba", "ba", lambda: take("other", "db"))
    threads = [threading.Thread(target=site.client.get, args=(path,)) for path in ("/ab", "/ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert any("pool(A)" in note and "pool(B)" in note for note in notes)
    with site.app.app_context():
        other = site.db.get_pool("other")
    assert (site.in_use, other.stats().in_use) == (0, 0)
    other.close()


def test_a_requests_deadline_bounds_all_its_waits_together(make_site: MakeSite, connect_args: dict[str, Any]) -> None:
    """47: not the pool's timeout for each of them, and what came to the server with an earlier one goes first."""
    busy = {**connect_args, "size": 1, "maxsize": 1, "timeout": 30}
    site = make_site({"PYMYSQLPOOL_BINDS": {"other": busy}}, **busy, deadline=0.3)

    @site.app.get("/")
    def index() -> str:
        for name in ("db", "other", "db"):
            with pytest.raises(GetConnectionFromPoolError):
                getattr(g, name)
        return "said"

    def seconds(**environ: Any) -> float:
        started = time.monotonic()
        assert site.client.get("/", environ_overrides=environ).data == b"said"
        return time.monotonic() - started

    with site.app.app_context():
        other = site.db.get_pool("other")
    with site.pool.get_connection(timeout=20), other.get_connection(timeout=20):
        assert 0.3 <= seconds() < 5
        assert seconds(**{"pymysqlpool.deadline": time.monotonic() - 1}) < 0.3
    other.close()


def test_a_deadline_that_is_far_leaves_the_pools_timeout(make_site: MakeSite) -> None:
    """47: the smaller one counts; a free connection needs neither."""
    site = make_site(size=1, maxsize=1, timeout=1.5, deadline=30)
    site.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    assert site.client.get("/", environ_overrides={"pymysqlpool.deadline": time.monotonic() - 1}).status_code == 503
    assert site.client.get("/").status_code == 200
    assert site.client.get("/", environ_overrides={"pymysqlpool.deadline": time.monotonic() - 1}).status_code == 200
    with site.pool.get_connection(timeout=20):
        started = time.monotonic()
        assert site.client.get("/").status_code == 503
        assert time.monotonic() - started < 5


def test_a_second_connection_of_the_same_pool_is_had_by_asking_the_pool_and_never_hangs(make_site: MakeSite) -> None:
    """14: a pool of one tells the request that it waits for itself."""
    site = make_site(size=1, maxsize=1, timeout=20)

    @site.app.get("/")
    def index() -> str:
        assert site.db.connection is g.db  # asking again is not asking for another
        with pytest.raises(GetConnectionFromPoolError) as failed:
            site.pool.get_connection(timeout=0.1)
        return str(failed.value)

    told = site.client.get("/").text
    assert "nested" in told or "this thread" in told
    assert "test_overload.py" in told


def test_server_timing_is_added_on_request_and_only_where_something_was_borrowed(make_site: MakeSite) -> None:
    """48"""
    site = make_site(server_timing=True)
    site.app.add_url_rule("/", "index", lambda: (str(ask(g.db, "SELECT 1")), 200, {"Server-Timing": "app;dur=1"}))
    site.app.add_url_rule("/still", "still", lambda: "still")
    own, ours = site.client.get("/").headers.getlist("Server-Timing")
    assert own == "app;dur=1"
    assert ours.startswith("dbwait;dur=")
    assert re.fullmatch(r'dbwait;dur=[\d.]+, db;dur=[\d.]+;desc="1 query"', ours)
    assert "Server-Timing" not in site.client.get("/still").headers
    plain = make_site()
    plain.app.add_url_rule("/", "index", lambda: str(ask(g.db, "SELECT 1")))
    assert "Server-Timing" not in plain.client.get("/").headers


def test_slow_waits_and_long_holds_are_logged_with_endpoint_and_place(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    """49"""
    site = make_site(slow_wait=0.0, long_hold=0.05, read_timeout=30)

    @site.app.get("/slow")
    def slow() -> str:
        return str(ask(g.db, "SELECT SLEEP(0.06)"))

    site.client.get("/slow")
    waited, held = (record.getMessage() for record in caplog.records if record.name == "pymysqlpool")
    assert waited.startswith("GET /slow (slow) waited 0.0")
    assert held.startswith("GET /slow (slow) held")
    assert "test_overload.py" in waited
    assert "in test_slow_waits" in held


@pytest.mark.parametrize("handles_all", [False, True])
def test_a_database_that_goes_away_under_a_request_is_a_503_and_other_errors_are_the_users(
    make_site: MakeSite, handles_all: bool
) -> None:
    """46: the statement in flight fails, and the answer says to come again."""
    site = make_site(size=1, maxsize=1)
    site.app.config["PROPAGATE_EXCEPTIONS"] = False
    seen: list[Exception] = []

    def lost() -> str:
        with pytest.raises(pymysql.err.MySQLError):
            ask(g.db, f"KILL {g.db.thread_id()}")
        return str(ask(g.db, "SELECT 1"))

    def handle(error: Exception) -> tuple[str, int]:
        seen.append(error)
        return "the user's", 418

    site.app.add_url_rule("/lost", "lost", lost)
    site.app.add_url_rule("/wrong", "wrong", lambda: str(ask(g.db, "SELECT nonsense")))
    if handles_all:
        site.app.register_error_handler(Exception, handle)
    answer = site.client.get("/wrong")
    assert answer.status_code == (418 if handles_all else 500)
    assert all(isinstance(error, pymysql.err.OperationalError) for error in seen)
    answer = site.client.get("/lost")
    if not handles_all:
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert site.pool.stats().in_use == 0
