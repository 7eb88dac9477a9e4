"""What is committed, when, and what is not (behaviours 23, 24, 25, 26, 27, 28)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Response, abort, g, redirect, request, stream_with_context

from pymysqlpool import PoolTimeout
from pymysqlpool.transaction import TransactionLostError
from pymysqlpool_flask import no_transaction

from .conftest import MakeSite, Site, ask

Committed = Callable[[], list[int]]


def add(number: int) -> None:
    ask(g.db, "INSERT INTO item VALUES (%s)", number)


def test_nothing_is_committed_for_you_and_a_debug_line_says_so(
    site: Site, table: Committed, caplog: pytest.LogCaptureFixture
) -> None:
    """23"""
    site.app.add_url_rule("/", "index", lambda: (add(1), "ok")[1])
    with caplog.at_level(logging.DEBUG, logger="pymysqlpool"):
        assert site.client.get("/").status_code == 200
    assert table() == []
    assert any("Uncommitted changes are rolled back" in record.message for record in caplog.records)


@pytest.fixture
def per_request(make_site: MakeSite) -> Site:
    return make_site(transaction="request")


def _boom() -> Any:
    raise KeyError


@pytest.mark.parametrize(
    ("way", "status", "kept"),
    [
        (lambda: "ok", 200, True),
        (lambda: redirect("/elsewhere", 302), 302, True),
        (lambda: ("bad", 400), 400, False),
        (lambda: abort(404), 404, False),
        (_boom, 500, False),
        (lambda: ("handled", 503), 503, False),
    ],
)
def test_a_request_is_committed_below_400_and_rolled_back_otherwise(
    per_request: Site, table: Committed, way: Callable[[], Any], status: int, kept: bool
) -> None:
    """24"""
    per_request.app.add_url_rule("/", "index", lambda: (add(1), way())[1])
    assert per_request.client.get("/").status_code == status
    assert table() == ([1] if kept else [])
    assert per_request.in_use == 0


def test_an_error_that_a_handler_answers_well_is_committed(per_request: Site, table: Committed) -> None:
    """24: the status decides, since a handled exception cannot be seen."""
    per_request.app.register_error_handler(KeyError, lambda error: "never mind")
    per_request.app.add_url_rule("/", "index", lambda: (add(1), _boom())[1])
    assert per_request.client.get("/").status_code == 200
    assert table() == [1]


def test_a_commit_that_fails_is_a_500_and_not_a_lost_write(per_request: Site, table: Committed, admin: Any) -> None:
    """24: it happens before the head of the response goes out."""

    @per_request.app.get("/")
    def index() -> str:
        add(1)
        admin.kill(g.db.thread_id())
        return "all is well"

    answer = per_request.client.get("/")
    assert (answer.status_code, b"all is well" in answer.data) == (500, False)
    assert table() == []


def test_a_veto_replaces_the_rule_and_sees_the_exception(make_site: MakeSite, table: Committed) -> None:
    """24"""
    seen: list[Any] = []

    def veto(status: int, headers: Any, error: BaseException | None) -> bool:
        seen.append((status, type(error)))
        return dict(headers).get("X-Rollback") == "yes"

    site = make_site(transaction="request", commit_veto=veto)
    site.app.add_url_rule("/no", "no", lambda: (add(1), Response("no", headers={"X-Rollback": "yes"}))[1])
    site.app.add_url_rule("/boom", "boom", lambda: (add(2), _boom())[1])
    site.client.get("/no")
    site.client.get("/boom")
    assert seen == [(200, type(None)), (500, KeyError)]
    assert table() == [2]


def test_a_view_may_opt_out(per_request: Site, table: Committed) -> None:
    """25"""

    @per_request.app.get("/")
    @no_transaction
    def index() -> str:
        add(1)
        g.db.commit()
        add(2)
        return "ok"

    assert per_request.client.get("/").status_code == 200
    assert table() == [1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
def test_requests_that_only_ask_may_be_left_out(make_site: MakeSite, table: Committed, method: str) -> None:
    """25: what such a request writes all the same is not committed for it."""
    site, began = make_site(transaction="request", transaction_on_get=False), []

    @site.app.route("/", methods=[method], provide_automatic_options=False)
    def index() -> str:
        began.append(ask(g.db, "SELECT @@in_transaction"))
        add(1)
        return "ok"

    assert site.client.open("/", method=method).status_code == 200
    assert (began, table()) == (([1], [1]) if method in ("POST", "DELETE") else ([0], []))


def test_a_stream_that_finds_no_connection_after_the_commit_does_not_ask_to_try_again(
    make_site: MakeSite, table: Committed
) -> None:
    """A client that sent the request once more, as a 503 asks for, would write twice."""
    site = make_site(transaction="request", size=1, maxsize=1, pre_create_num=1, timeout=0.05)

    @site.app.route("/", methods=["GET", "POST"])
    def index() -> Response:
        if request.method == "POST":
            add(1)

        def lines() -> Iterator[str]:
            with site.pool.get_connection(), site.pool.get_connection():
                yield "never"

        return Response(lines())

    assert site.client.get("/").status_code == 503
    with pytest.raises(PoolTimeout):
        site.client.post("/")
    assert table() == [1]


def test_what_a_stream_says_after_the_head_is_no_part_of_the_transaction(per_request: Site, table: Committed) -> None:
    """26, 28: its writes are committed by itself or not at all."""

    @per_request.app.get("/")
    def index() -> Response:
        add(1)

        def lines() -> Iterator[str]:
            yield str(table())
            add(2)
            yield "end"

        return Response(stream_with_context(lines()))

    assert per_request.client.get("/").data == b"[1]end"
    assert table() == [1]


def test_a_client_that_leaves_after_the_commit_undoes_nothing(per_request: Site, table: Committed) -> None:
    """28"""

    @per_request.app.get("/")
    def index() -> Response:
        add(1)

        def lines() -> Iterator[str]:
            yield "first"
            ask(g.db, "SELECT 1")
            yield "never asked for"

        return Response(stream_with_context(lines()))

    environ = per_request.client.get("/nowhere").request.environ
    body = per_request.app.wsgi_app({**environ, "PATH_INFO": "/"}, lambda *_: lambda data: None)
    assert next(iter(body)) == b"first"
    body.close()  # type: ignore[attr-defined]
    assert (table(), per_request.in_use) == ([1], 0)


def test_blocks_nest_by_savepoints(site: Site, table: Committed) -> None:
    """27"""

    @site.app.get("/")
    def index() -> str:
        with site.db.transaction():
            add(1)
            with pytest.raises(KeyError), site.db.transaction():
                add(2)
                raise KeyError
            with site.db.transaction():
                add(3)
        with pytest.raises(KeyError), site.db.transaction():
            add(4)
            raise KeyError
        return "ok"

    assert site.client.get("/").status_code == 200
    assert table() == [1, 3]


def test_a_block_in_a_request_transaction_is_a_savepoint(per_request: Site, table: Committed) -> None:
    """27"""

    @per_request.app.get("/")
    def index() -> Any:
        add(1)
        with per_request.db.transaction():
            add(2)
        with pytest.raises(KeyError), per_request.db.transaction():
            add(3)
            raise KeyError
        return abort(400) if table() else "ok"

    assert per_request.client.get("/").status_code == 200
    assert table() == [1, 2]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("more", [False, True], ids=["last", "then more"])
def test_an_implicit_commit_by_ddl_is_noticed(
    make_site: MakeSite, table: Committed, autocommit: bool, more: bool
) -> None:
    """27"""
    site = make_site(autocommit=autocommit)

    @site.app.get("/")
    def index() -> str:
        with pytest.raises(TransactionLostError, match="DDL"), site.db.transaction():
            add(1)
            ask(g.db, "CREATE TABLE IF NOT EXISTS item_too (id INT)")
            if more:
                add(2)
        return "noticed"

    assert site.client.get("/").data == b"noticed"
    assert table() == [1], "what came after the commit is refused"
