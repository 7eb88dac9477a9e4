"""Databases that come and go at run time: nothing of one that Django forgot stays behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import close_old_connections, connections, transaction
from django.db.utils import ConnectionHandler

from pymysqlpool.devserver import DevServer
from pymysqlpool_django import pools
from tests.support import wait_until

from .conftest import database


@pytest.fixture
def sessions(server: DevServer, alias: str, admin: Any) -> Any:
    """How many sessions of the alias's own user the server has."""
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE USER '{alias}'@'%'")
        cursor.execute(f"GRANT ALL ON test.* TO '{alias}'@'%'")
    connections.settings[alias] = ConnectionHandler(
        {"default": {}, alias: database(server, USER=alias, PASSWORD="")}
    ).settings[alias]

    def count() -> int:
        with admin.cursor() as cursor:
            return int(cursor.execute(f"SELECT 1 FROM information_schema.processlist WHERE user = '{alias}'"))

    yield count
    connections.settings.pop(alias, None)
    if hasattr(connections._connections, alias):
        del connections[alias]
    with admin.cursor() as cursor:
        cursor.execute(f"DROP USER '{alias}'@'%'")


def use(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.parametrize("closed", [True, False], ids=["closed first", "in use"])
def test_a_deleted_alias_leaves_no_session(sessions: Any, alias: str, closed: bool) -> None:
    use(alias)
    assert sessions() == 1
    if closed:
        connections[alias].close()
    del connections[alias]
    del connections.settings[alias]
    wait_until(lambda: sessions() == 0, "the server has none of its sessions")
    assert alias not in pools.stats()


def test_sessions_that_other_threads_use_end_when_they_are_given_back(sessions: Any, alias: str) -> None:
    borrowed, end = threading.Event(), threading.Event()

    def other() -> None:
        use(alias)
        borrowed.set()
        assert end.wait(20)
        use(alias)  # undisturbed
        connections[alias].close()

    thread = threading.Thread(target=other)
    thread.start()
    assert borrowed.wait(20)
    use(alias)
    del connections[alias]
    wait_until(lambda: sessions() == 1, "ours is gone")
    end.set()
    thread.join()
    wait_until(lambda: sessions() == 0, "and theirs")


@pytest.mark.parametrize("end", [close_old_connections, connections.close_all], ids=lambda end: end.__name__)
def test_the_session_of_a_request_under_way_ends_with_the_request(
    sessions: Any, alias: str, end: Callable[[], None]
) -> None:
    """Also if the alias has left the settings by then, as in the documentation's example."""
    borrowed, deleted = threading.Event(), threading.Event()
    left: list[str] = []

    def request() -> None:
        use(alias)
        borrowed.set()
        assert deleted.wait(20)
        use(alias)  # undisturbed
        end()
        left.extend(pools.forgotten())
        end()
        left.extend(pools.forgotten())

    thread = threading.Thread(target=request)
    thread.start()
    assert borrowed.wait(20)
    del connections[alias]
    del connections.databases[alias]
    deleted.set()
    thread.join()
    wait_until(lambda: sessions() == 0, "it is gone")
    assert alias not in left


def test_the_session_of_a_thread_that_has_ended_ends_at_the_next_end_of_a_request(sessions: Any, alias: str) -> None:
    borrowed, deleted = threading.Event(), threading.Event()

    def background() -> None:
        use(alias)
        borrowed.set()
        assert deleted.wait(20)

    thread = threading.Thread(target=background)
    thread.start()
    assert borrowed.wait(20)
    del connections[alias]
    del connections.databases[alias]
    deleted.set()
    thread.join()
    wait_until(lambda: close_old_connections() or sessions() == 0, "it is gone")  # type: ignore[func-returns-value]
    assert pools.forgotten() == []


def test_an_alias_that_stays_in_the_settings_gets_a_new_pool(sessions: Any, alias: str) -> None:
    use(alias)
    before = connections[alias].pool
    del connections[alias]
    use(alias)
    assert connections[alias].pool is not before
    assert sessions() == 1


def test_a_wrapper_in_a_transaction_is_not_touched_and_said_to_be_lost(
    sessions: Any, alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    with transaction.atomic(using=alias):
        use(alias)
        wrapper = connections[alias]
        del connections[alias]
        assert [(each.event, each.pool) for each in caplog.records if each.levelname == "WARNING"] == [  # type: ignore[attr-defined]
            ("alias deleted", alias)
        ]
        assert wrapper.connection is not None
        connections[alias] = wrapper
        use(alias)


def test_an_alias_taken_out_of_the_settings_is_noticed_at_the_next_pool(
    sessions: Any, alias: str, server: DevServer
) -> None:
    use(alias)
    connections[alias].close()
    del connections.settings[alias]
    assert sessions() == 1
    other = ConnectionHandler({"default": {}, f"{alias}_next": database(server)})[f"{alias}_next"]
    other.ensure_connection()
    wait_until(lambda: sessions() == 0, "the server has none of its sessions")
    other.close()
    pools.close(f"{alias}_next")


def test_an_alias_may_be_deleted_in_a_thread_that_has_not_used_it(sessions: Any, alias: str) -> None:
    def other() -> None:
        use(alias)
        connections[alias].close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert sessions() == 1
    del connections[alias]
    wait_until(lambda: sessions() == 0, "the server has none of its sessions")
    del connections.settings[alias]
    with pytest.raises(AttributeError):
        del connections[alias]
