"""A connection that is lost in the middle of a request: nothing goes on as if nothing had happened, and nothing stays
lost that need not."""

from __future__ import annotations

from typing import Any

import pytest
from flask import g
from pymysql import err
from pymysql.err import OperationalError

from tests.support import wait_until

from .conftest import MakeSite, Site, ask

# What the view does before its session is killed, and what the next use says of it.
NOTHING_LOST = ["SELECT 1", "INSERT INTO item VALUES (1)"]
AT_STAKE = {
    "BEGIN": "open transaction",
    "SET @a = 1": "session state",
    "CREATE TEMPORARY TABLE own (id INT)": "session state",
    "SELECT GET_LOCK('a', 1)": "session state",
}


def kill(admin: Any, number: int) -> None:
    admin.kill(number)
    wait_until(lambda: not ask(admin, "SELECT 1 FROM information_schema.processlist WHERE id = %s", number), "killed")


def use_until_it_fails() -> None:
    with pytest.raises(OperationalError):
        ask(g.db, "SELECT 1")


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("before", NOTHING_LOST)
def test_the_next_use_has_a_new_session_when_nothing_went_with_the_old_one(
    make_site: MakeSite, admin: Any, before: str
) -> None:
    site = make_site(autocommit=True)

    @site.app.get("/")
    def index() -> str:
        ask(g.db, before)
        kill(admin, g.db.thread_id())
        use_until_it_fails()
        return str(ask(g.db, "SELECT 2"))

    assert site.client.get("/").data == b"2"
    assert site.in_use == 0


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("before", AT_STAKE)
def test_what_went_with_the_old_session_is_told_before_there_is_a_new_one(
    make_site: MakeSite, admin: Any, before: str
) -> None:
    site = make_site(autocommit=True)

    @site.app.get("/")
    def index() -> str:
        ask(g.db, before)
        kill(admin, g.db.thread_id())
        use_until_it_fails()
        with pytest.raises(OperationalError, match=AT_STAKE[before]) as told:
            ask(g.db, "SELECT 2")
        assert told.value.args[0] == 2006
        assert "Run the work again from its beginning" in told.value.args[1]
        return str(ask(g.db, "SELECT 2"))

    assert site.client.get("/").data == b"2"


def test_uncommitted_changes_are_named(site: Site, admin: Any, table: Any) -> None:
    @site.app.get("/")
    def index() -> str:
        ask(g.db, "INSERT INTO item VALUES (1)")
        kill(admin, g.db.thread_id())
        use_until_it_fails()
        with pytest.raises(OperationalError, match="uncommitted changes"):
            ask(g.db, "SELECT 2")
        ask(g.db, "INSERT INTO item VALUES (2)")
        g.db.commit()
        return "ok"

    assert site.client.get("/").data == b"ok"
    assert table() == [2]


@pytest.mark.parametrize("statement", ["execute_query", "block"])
def test_changes_before_a_block_that_lost_its_session_are_named(
    site: Site, admin: Any, table: Any, statement: str
) -> None:
    """A decorator that repeats the block would go on without them."""

    def run() -> None:
        if statement == "block":
            with g.db:
                ask(g.db, "SELECT 1")
        else:
            g.db.execute_query("SELECT 1")

    @site.app.get("/<int:before>")
    def index(before: int) -> str:
        if before:
            ask(g.db, "INSERT INTO item VALUES (1)")
        else:
            ask(g.db, "SELECT 1")
        kill(admin, g.db.thread_id())
        with pytest.raises(OperationalError):
            run()
        if before:
            with pytest.raises(OperationalError, match="uncommitted changes") as told:
                run()
            assert told.value.args[0] == 2006
        run()
        return "ok"

    assert (site.client.get("/0").data, site.client.get("/1").data) == (b"ok", b"ok")
    assert (table(), site.in_use) == ([], 0)


def test_a_with_block_that_lost_its_session_gets_no_other_one(site: Site, admin: Any, table: Any) -> None:
    @site.app.get("/")
    def index() -> str:
        with pytest.raises(err.MySQLError), g.db:
            ask(g.db, "INSERT INTO item VALUES (1)")
            kill(admin, g.db.thread_id())
            use_until_it_fails()
            for _ in range(3):
                with pytest.raises(OperationalError):
                    ask(g.db, "INSERT INTO item VALUES (2)")
        ask(g.db, "INSERT INTO item VALUES (3)")
        g.db.commit()
        return "ok"

    assert site.client.get("/").data == b"ok"
    assert (table(), site.in_use) == ([3], 0)


@pytest.mark.parametrize("how", ["request", "block"])
def test_a_transaction_that_lost_its_session_gets_no_other_one(
    make_site: MakeSite, admin: Any, table: Any, how: str
) -> None:
    """Half of it would be committed; and a visitor is told to come back."""
    site = make_site(transaction="request" if how == "request" else None)

    def work() -> None:
        ask(g.db, "INSERT INTO item VALUES (1)")
        kill(admin, g.db.thread_id())
        use_until_it_fails()
        for _ in range(2):
            with pytest.raises(OperationalError, match="leave the block"):
                ask(g.db, "INSERT INTO item VALUES (2)")
        ask(g.db, "INSERT INTO item VALUES (3)")

    @site.app.get("/")
    def index() -> str:
        if how == "request":
            work()
        else:
            with site.db.transaction():
                work()
        return "ok"

    answer = site.client.get("/")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert (table(), site.in_use) == ([], 0)


@pytest.mark.usefixtures("table")
def test_a_lost_connection_is_not_told_as_a_forgotten_commit(
    site: Site, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @site.app.get("/")
    def index() -> tuple[str, int]:
        ask(g.db, "INSERT INTO item VALUES (1)")
        kill(admin, g.db.thread_id())
        with pytest.raises(OperationalError):
            g.db.commit()
        return "come back", 503

    assert site.client.get("/").status_code == 503
    assert "without a commit" not in caplog.text
