"""A statement failed: what the server rolled back is not half committed, and a lost connection does not stay lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.transaction import TransactionManagementError

from pymysqlpool.devserver import DevServer
from tests.support import wait_until

from .conftest import Connect
from .test_identity import ask


@pytest.fixture(params=[{"max_size": 2}, {"max_size": 2, "release": "transaction"}, None], ids=["on", "early", "off"])
def wrapper(request: pytest.FixtureRequest, connect: Connect) -> Iterator[Any]:
    """A wrapper that `transaction.atomic(using=...)` finds, with a pool of either kind and without."""
    made = connect(request.param)
    connections[made.alias] = made
    yield made
    del connections[made.alias]


@pytest.fixture
def accounts(table: str, admin: Any) -> str:
    """Two rows of 100; `name` is the balance."""
    with admin.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DROP INDEX name")
        cursor.execute(f"INSERT INTO {table} (name) VALUES ('100'), ('100')")
    return table


def run(wrapper: Any, statement: str) -> None:
    with wrapper.cursor() as cursor:
        cursor.execute(statement)


class Rival:
    """Another session, which makes the block the victim of a deadlock: it has written more."""

    def __init__(self, server: DevServer, accounts: str) -> None:
        self._connection = pymysql.connect(**server.connect_args)
        self._cursor = self._connection.cursor()
        self._accounts = accounts
        self._session = self._connection.thread_id()
        self._cursor.execute(f"UPDATE {accounts} SET name = name + 0 WHERE id = 2")
        self._cursor.executemany(f"INSERT INTO {accounts} (name) VALUES (%s)", [("0",)] * 200)
        self._thread = threading.Thread(target=self._cross)

    def _cross(self) -> None:
        self._cursor.execute(f"UPDATE {self._accounts} SET name = name + 0 WHERE id = 1")
        self._connection.rollback()

    def cross(self, admin: Any) -> None:
        """Begin to wait for row 1, which the block has."""
        self._thread.start()
        updates = f"SELECT 1 FROM information_schema.processlist WHERE id = {self._session} AND state = 'Updating'"

        def waits() -> bool:  # InnoDB's own tables are not made anew as long as they are asked all the time
            with admin.cursor() as cursor:
                return bool(cursor.execute(updates))

        wait_until(waits, "the rival waits for the block")

    def end(self) -> None:
        self._thread.join()
        self._connection.close()


def balances(admin: Any, accounts: str) -> list[str]:
    with admin.cursor() as cursor:
        cursor.execute(f"SELECT name FROM {accounts} WHERE id < 3 ORDER BY id")
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.parametrize("inner", [False, True], ids=["outermost", "savepoint"])
def test_after_a_deadlock_the_block_refuses_statements_and_commits_nothing(
    wrapper: Any, server: DevServer, accounts: str, admin: Any, inner: bool
) -> None:
    rival = Rival(server, accounts)
    take = f"UPDATE {accounts} SET name = name - 10 WHERE id = 1"
    give = f"UPDATE {accounts} SET name = name + 10 WHERE id = 2"
    with (
        pytest.raises(TransactionManagementError, match="until the end of the 'atomic' block") as refused,
        transaction.atomic(using=wrapper.alias),
    ):
        run(wrapper, take)
        rival.cross(admin)
        try:
            if inner:
                with transaction.atomic(using=wrapper.alias):
                    run(wrapper, give)
            else:
                run(wrapper, give)
        except OperationalError as error:
            deadlock = error
        run(wrapper, give)
    rival.end()
    assert deadlock.args[0] == 1213
    assert balances(admin, accounts) == ["100", "100"]
    if not inner:
        assert isinstance(refused.value.__cause__, pymysql.OperationalError)
    with transaction.atomic(using=wrapper.alias):
        run(wrapper, take)
        run(wrapper, give)
    assert balances(admin, accounts) == ["90", "110"], "the whole of it may be run again"


def test_a_block_that_takes_a_deadlock_cannot_be_made_to_go_on_and_ends_loudly(
    wrapper: Any, server: DevServer, accounts: str, admin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rival = Rival(server, accounts)
    with transaction.atomic(using=wrapper.alias):
        run(wrapper, f"UPDATE {accounts} SET name = name - 10 WHERE id = 1")
        rival.cross(admin)
        with pytest.raises(OperationalError):
            run(wrapper, f"UPDATE {accounts} SET name = name + 10 WHERE id = 2")
        with pytest.raises(TransactionManagementError, match="run it again"):
            transaction.set_rollback(False, using=wrapper.alias)
    rival.end()
    assert balances(admin, accounts) == ["100", "100"]
    (line,) = [record.getMessage() for record in caplog.records if "ended without an exception" in record.message]
    assert "1213" in line
    with transaction.atomic(using=wrapper.alias):
        transaction.set_rollback(True, using=wrapper.alias)
        transaction.set_rollback(False, using=wrapper.alias)


def test_an_error_that_undoes_its_statement_alone_lets_the_block_go_on(
    wrapper: Any, server: DevServer, accounts: str, admin: Any
) -> None:
    with pymysql.connect(**server.connect_args) as other, other.cursor() as cursor:
        cursor.execute(f"UPDATE {accounts} SET name = '1' WHERE id = 2")
        with transaction.atomic(using=wrapper.alias):
            run(wrapper, f"UPDATE {accounts} SET name = '90' WHERE id = 1")
            run(wrapper, "SET innodb_lock_wait_timeout = 1")
            with pytest.raises(OperationalError, match="1205"):
                run(wrapper, f"UPDATE {accounts} SET name = '110' WHERE id = 2")
            with pytest.raises(OperationalError, match="Unknown column"):
                run(wrapper, "SELECT nothing_like_it FROM DUAL")
            run(wrapper, f"INSERT INTO {accounts} (name) VALUES ('7')")
        other.rollback()
    assert balances(admin, accounts) == ["90", "100"]


def test_before_anything_was_done_a_failed_statement_ends_no_block(wrapper: Any, accounts: str) -> None:
    with transaction.atomic(using=wrapper.alias):
        with pytest.raises(OperationalError):
            run(wrapper, "SELECT nothing_like_it FROM DUAL")
        assert ask(wrapper, f"SELECT COUNT(*) FROM {accounts}") == 2


def test_a_connection_lost_in_a_block_ends_the_block_and_the_next_one_works(
    wrapper: Any, accounts: str, admin: Any
) -> None:
    with pytest.raises(TransactionManagementError), transaction.atomic(using=wrapper.alias):
        run(wrapper, f"UPDATE {accounts} SET name = '0' WHERE id = 1")
        kill(wrapper, admin)
        with pytest.raises((OperationalError, InterfaceError)):
            run(wrapper, f"UPDATE {accounts} SET name = '200' WHERE id = 2")
        run(wrapper, f"UPDATE {accounts} SET name = '200' WHERE id = 2")
    assert balances(admin, accounts) == ["100", "100"]
    with transaction.atomic(using=wrapper.alias):
        run(wrapper, f"UPDATE {accounts} SET name = '5' WHERE id = 1")
    assert balances(admin, accounts) == ["5", "100"]


def kill(wrapper: Any, admin: Any) -> None:
    session = wrapper.connection.thread_id()
    with admin.cursor() as cursor:
        cursor.execute(f"KILL {session}")

        def gone() -> bool:
            return not cursor.execute(f"SELECT 1 FROM information_schema.processlist WHERE id = {session}")

        wait_until(gone, "the session is gone")


@pytest.fixture
def pooled(connect: Connect) -> Any:
    return connect({"max_size": 2})


def test_a_lost_connection_does_not_stay_lost_for_the_request(pooled: Any, admin: Any) -> None:
    lost = ask(pooled, "SELECT CONNECTION_ID()")
    kill(pooled, admin)
    with pytest.raises((OperationalError, InterfaceError)):
        ask(pooled, "SELECT 1")
    assert pooled.connection is None
    assert ask(pooled, "SELECT CONNECTION_ID()") != lost
    assert pooled.pool.stats().in_use == 1
    pooled.close()
    assert pooled.pool.stats().in_use == 0


def test_it_does_not_stay_lost_for_a_cursor_that_was_open_then(pooled: Any, admin: Any) -> None:
    with pooled.cursor() as cursor:
        cursor.execute("SELECT 1")
        kill(pooled, admin)
        for _ in range(2):
            with pytest.raises((OperationalError, InterfaceError)):
                cursor.execute("SELECT 1")
        assert ask(pooled, "SELECT 2") == 2


@pytest.mark.parametrize("statement", ["SET @x = 1", "SELECT GET_LOCK('mine', 0)"])
def test_one_that_was_told_something_stays_lost_and_the_error_tells_why(
    pooled: Any, admin: Any, statement: str
) -> None:
    """A retry must not go on as if it still had its lock."""
    run(pooled, statement)
    kill(pooled, admin)
    for _ in range(2):
        with pytest.raises((OperationalError, InterfaceError)) as lost:
            ask(pooled, "SELECT 1")
        assert lost.value.__cause__ is not None
        assert "the session was told something" in "".join(lost.value.__cause__.__notes__)
    pooled.close()
    assert ask(pooled, "SELECT 1") == 1


def test_without_autocommit_it_stays_lost(pooled: Any, admin: Any) -> None:
    pooled.set_autocommit(False)
    ask(pooled, "SELECT 1")
    kill(pooled, admin)
    for _ in range(2):
        with pytest.raises((OperationalError, InterfaceError)):
            ask(pooled, "SELECT 1")


def test_a_connection_found_lost_at_the_start_of_a_block_does_not_stay_lost(connect: Connect, admin: Any) -> None:
    wrapper = connect({"max_size": 2})
    connections[wrapper.alias] = wrapper
    ask(wrapper, "SELECT 1")
    kill(wrapper, admin)
    with pytest.raises((OperationalError, InterfaceError)), transaction.atomic(using=wrapper.alias):
        pytest.fail("the block began")
    with transaction.atomic(using=wrapper.alias):
        assert ask(wrapper, "SELECT 1") == 1
    del connections[wrapper.alias]


def test_a_connection_found_lost_at_the_end_of_autocommit_off_does_not_stay_lost(pooled: Any, admin: Any) -> None:
    pooled.set_autocommit(False)
    ask(pooled, "SELECT 1")
    kill(pooled, admin)
    with pytest.raises((OperationalError, InterfaceError)):
        pooled.set_autocommit(True)
    assert ask(pooled, "SELECT @@autocommit") == 1
    assert pooled.get_autocommit()
