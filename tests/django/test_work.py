"""Work in executors: what it borrowed goes back at its end, in threads that do not hear of the end of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.core.signals import request_finished, request_started

from pymysqlpool_django import pools, work

from .conftest import Connect
from .test_identity import ask

Submit = Callable[..., Any]


@pytest.fixture
def submit() -> Iterator[Submit]:
    """Run a function in an executor with one thread, so that all of them share a wrapper; returns its result."""
    with ThreadPoolExecutor(1) as executor:

        def run(function: Callable[..., Any], *arguments: Any) -> Any:
            done = executor.submit(function, *arguments)
            done.exception(20)
            executor.submit(int).result(20)  # the thread is at the end of the first one
            return done.result()

        yield run


@pytest.fixture
def wrapper(connect: Connect, submit: Submit) -> Iterator[Any]:
    """Made in the executor's thread."""
    made = submit(connect)
    yield made
    submit(made.close)


@pytest.fixture
def out(alias: str) -> Callable[[], int]:
    return lambda: sum(one.in_use for one in pools.stats().get(alias, []))


def test_it_goes_back_at_the_end_of_the_work(submit: Submit, wrapper: Any, out: Callable[[], int]) -> None:
    def twice() -> list[int]:
        ask(wrapper, "SELECT 1")
        within = out()
        ask(wrapper, "SELECT 1")
        return [within, out()]

    assert submit(twice) == [1, 1], "one lease for all that one piece of work does"
    assert out() == 0


def test_it_goes_back_when_the_work_fails(submit: Submit, wrapper: Any, out: Callable[[], int]) -> None:
    with pytest.raises(Exception, match="nowhere"):
        submit(ask, wrapper, "SELECT * FROM nowhere")
    assert out() == 0


def test_a_transaction_may_go_on_in_the_next_piece_of_work(
    submit: Submit, wrapper: Any, out: Callable[[], int], table: str
) -> None:
    submit(wrapper.set_autocommit, False)
    submit(ask, wrapper, "SELECT CONNECTION_ID()")
    assert out() == 1
    assert submit(ask, wrapper, f"SELECT COUNT(*) FROM {table}") == 0
    submit(wrapper.commit)
    submit(wrapper.set_autocommit, True)
    assert out() == 0


def test_a_cursor_may_be_read_in_the_next_piece_of_work(submit: Submit, wrapper: Any, out: Callable[[], int]) -> None:
    def begin() -> Any:
        cursor = wrapper.cursor()
        cursor.execute("SELECT 7")
        return cursor

    cursor = submit(begin)
    assert out() == 1
    assert submit(cursor.fetchone) == (7,)
    submit(cursor.close)
    assert out() == 0


def test_hold_keeps_a_session_from_one_piece_of_work_to_the_next(
    submit: Submit, wrapper: Any, out: Callable[[], int]
) -> None:
    submit(wrapper.hold)
    submit(ask, wrapper, "SELECT GET_LOCK('held on', 0)")
    assert submit(ask, wrapper, "SELECT IS_USED_LOCK('held on') = CONNECTION_ID()") == 1
    submit(wrapper.let_go)
    assert out() == 0


def test_work_that_never_ends_asks_to_be_told_once(submit: Submit, wrapper: Any) -> None:
    """A worker's loop borrows and closes a thousand times in one piece of work."""

    def loop() -> int:
        for _ in range(20):
            ask(wrapper, "SELECT 1")
            wrapper.close()
        item = work.item()
        assert item is not None
        return len(item._done_callbacks)  # type: ignore[attr-defined]  # how it grows cannot be seen otherwise

    assert submit(loop) == 1


def test_under_wsgi_the_end_of_the_request_is_what_counts(submit: Submit, wrapper: Any, out: Callable[[], int]) -> None:
    """gunicorn's gthread workers are an executor too."""
    submit(lambda: request_started.send(None, environ={}))
    session = submit(ask, wrapper, "SELECT CONNECTION_ID()")
    assert out() == 1
    assert submit(ask, wrapper, "SELECT CONNECTION_ID()") == session
    submit(lambda: (request_finished.send(None), wrapper.close()))
    assert out() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SET @x = 1",
        "SELECT @x := 1",
        "set session sql_mode = ''",
        "SELECT get_lock('a lock', 0)",
        "CREATE TEMPORARY TABLE of_mine (id INT)",
        "USE test",
    ],
)
def test_in_the_thread_of_an_asgi_request_a_session_that_remembers_is_kept(
    submit: Submit, wrapper: Any, out: Callable[[], int], statement: str
) -> None:
    def execute() -> None:
        with wrapper.cursor() as cursor:
            cursor.execute(statement)

    submit(lambda: request_started.send(None, scope={}))
    submit(ask, wrapper, "SELECT 1")
    assert out() == 0, "and one that does not is not"
    submit(execute)
    assert out() == 1
    submit(lambda: (request_finished.send(None), wrapper.close()))
    submit(execute)
    assert out() == 0, "after the request nothing would tell when to give it back"


def test_a_thread_of_its_own_is_no_executors(connect: Connect) -> None:
    assert work.item() is None
    wrapper = connect()
    ask(wrapper, "SELECT 1")
    assert wrapper.pool.stats().in_use == 1


def test_this_pythons_executors_can_be_asked(submit: Submit) -> None:
    assert isinstance(submit(work.item), Future)
