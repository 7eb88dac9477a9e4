"""`"release": "transaction"`: a connection goes back as soon as nothing holds it, and no sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.signals import connection_created

from .conftest import Connect
from .test_identity import ask

EARLY = {"max_size": 2, "timeout": 5, "release": "transaction"}


@pytest.fixture
def wrapper(connect: Connect) -> Iterator[Any]:
    made = connect(EARLY)
    connections[made.alias] = made
    yield made
    made.close()
    del connections[made.alias]


@pytest.fixture
def out(wrapper: Any) -> Callable[[], int]:
    return lambda: wrapper.pool.stats().in_use


def test_it_goes_back_after_each_query(wrapper: Any, out: Callable[[], int]) -> None:
    for number in range(3):
        assert ask(wrapper, "SELECT %s", number) == number
        assert out() == 0
    assert wrapper.pool.stats().created == 1


def test_not_while_a_cursor_is_open(wrapper: Any, out: Callable[[], int]) -> None:
    with wrapper.cursor() as outer:
        outer.execute("SELECT CONNECTION_ID()")
        session = outer.fetchone()[0]
        assert ask(wrapper, "SELECT CONNECTION_ID()") == session
        assert out() == 1
    assert out() == 0


def test_a_cursor_that_was_dropped_unclosed_holds_nothing(wrapper: Any, out: Callable[[], int]) -> None:
    wrapper.cursor().execute("SELECT 1")
    ask(wrapper, "SELECT 2")
    assert out() == 0


def test_not_inside_a_transaction(wrapper: Any, out: Callable[[], int], table: str) -> None:
    with transaction.atomic(using=wrapper.alias):
        with wrapper.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} (name) VALUES ('a')")
        with transaction.atomic(using=wrapper.alias):
            ask(wrapper, "SELECT 1")
        assert out() == 1
        assert ask(wrapper, f"SELECT COUNT(*) FROM {table}") == 1
    assert out() == 0
    assert ask(wrapper, f"SELECT COUNT(*) FROM {table}") == 1


def test_on_commit_may_query(wrapper: Any, out: Callable[[], int]) -> None:
    seen: list[int] = []
    with transaction.atomic(using=wrapper.alias):
        transaction.on_commit(lambda: seen.append(ask(wrapper, "SELECT 5")), using=wrapper.alias)
        ask(wrapper, "SELECT 1")
    assert (seen, out()) == ([5], 0)


def test_not_with_autocommit_off(wrapper: Any, out: Callable[[], int], table: str) -> None:
    wrapper.set_autocommit(False)
    with wrapper.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (name) VALUES ('a')")
    assert out() == 1
    wrapper.commit()
    assert ask(wrapper, f"SELECT COUNT(*) FROM {table}") == 1
    wrapper.commit()
    wrapper.set_autocommit(True)
    assert out() == 0


def test_not_in_a_transaction_begun_by_hand(wrapper: Any, out: Callable[[], int], table: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute("BEGIN")
    assert out() == 1
    with wrapper.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} (name) VALUES ('a')")
        cursor.execute("COMMIT")
    assert out() == 0
    assert ask(wrapper, f"SELECT COUNT(*) FROM {table}") == 1


def test_not_while_constraint_checks_are_disabled(wrapper: Any, out: Callable[[], int]) -> None:
    with wrapper.constraint_checks_disabled():
        assert ask(wrapper, "SELECT @@foreign_key_checks") == 0
        assert ask(wrapper, "SELECT @@foreign_key_checks") == 0
        assert out() == 1
    assert out() == 0
    assert ask(wrapper, "SELECT @@foreign_key_checks") == 1


def test_checks_left_disabled_hold_one_connection_and_not_the_next(wrapper: Any, out: Callable[[], int]) -> None:
    wrapper.disable_constraint_checking()
    assert out() == 1
    wrapper.close()
    assert ask(wrapper, "SELECT @@foreign_key_checks") == 1
    assert out() == 0


def test_not_inside_a_schema_editor(wrapper: Any, out: Callable[[], int], table: str) -> None:
    with wrapper.schema_editor() as editor:
        editor.execute(f"ALTER TABLE {table} ADD COLUMN more INT", params=None)
        assert out() == 1
        assert editor.quote_value("it's") == "'it\\'s'"
    assert out() == 0


def test_not_while_held_on_purpose(wrapper: Any, out: Callable[[], int]) -> None:
    wrapper.hold()
    with wrapper.cursor() as cursor:
        cursor.execute("SET @x = 7")
    assert ask(wrapper, "SELECT @x") == 7
    wrapper.let_go()
    assert out() == 0


def test_receivers_of_connection_created_may_query(wrapper: Any, out: Callable[[], int]) -> None:
    def receiver(sender: Any, connection: Any, **kwargs: Any) -> None:
        assert ask(connection, "SELECT 1") == 1

    connection_created.connect(receiver)
    try:
        assert ask(wrapper, "SELECT 2") == 2
    finally:
        connection_created.disconnect(receiver)
    assert out() == 0


def test_it_goes_back_after_a_query_that_failed(wrapper: Any, out: Callable[[], int]) -> None:
    with pytest.raises(Exception, match="nowhere"):
        ask(wrapper, "SELECT * FROM nowhere")
    assert out() == 0
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=wrapper.alias):
        ask(wrapper, "SELECT 1")
        raise ZeroDivisionError
    assert out() == 0


def test_a_shared_wrapper_is_left_alone(wrapper: Any, out: Callable[[], int]) -> None:
    """Another thread may be between two queries."""
    wrapper.inc_thread_sharing()
    ask(wrapper, "SELECT 1")
    assert out() == 1
    wrapper.dec_thread_sharing()


def test_without_it_a_connection_stays_until_the_end_of_the_request(connect: Connect) -> None:
    wrapper = connect()
    session = ask(wrapper, "SELECT CONNECTION_ID()")
    assert wrapper.pool.stats().in_use == 1
    assert ask(wrapper, "SELECT CONNECTION_ID()") == session
