"""The table of docs/when-things-break.md, row by row: an event, what the borrower sees within which bound, and what the
pool does. The bounds are wide enough for a busy machine, and far from what they must not be: a hang.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from benchmarks.bench import write_certificate
from pymysqlpool import ConnectionPool, PoolError, PoolTimeout, PoolUnavailable
from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool
from tests.proxy import Proxy
from tests.support import freeze, run_threads, wait_until


@contextmanager
def bound(seconds: float) -> Iterator[None]:
    """What is in the block takes no longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"took {took:.2f} s"


def works(pool: ConnectionPool, timeout: float = 10.0) -> None:
    with pool.get_connection(timeout=timeout) as connection:
        assert connection.execute("select 1") == 1


def is_back(pool: ConnectionPool) -> bool:
    try:
        works(pool)
    except PoolUnavailable:
        return False
    return True


def fill(pool: ConnectionPool, number: int) -> None:
    for connection in [pool.get_connection(timeout=20) for _ in range(number)]:
        connection.close()


def full_again(pool: ConnectionPool, number: int) -> None:
    """All of the capacity is usable within a second; on a busy machine within as long as twenty logins take more."""
    began = time.monotonic()
    leases = [pool.get_connection(timeout=20) for _ in range(number)]
    took = time.monotonic() - began
    if took >= 1.0:
        began = time.monotonic()
        pool._connector.make_wire(began + 10).close(quiet=True)
        login = time.monotonic() - began
        assert took < 1.0 + 20 * login, f"took {took:.2f} s; a login takes {login:.3f} s"
    for lease in leases:
        assert lease.execute("select 1") == 1
        lease.close()
    assert (pool.stats().in_use, pool.stats().total) == (0, number)


def ask_for_a_second(pool: ConnectionPool, threads: int = 8) -> list[BaseException]:
    """The errors of so many threads that ask for connections, one after the other, for a second."""
    until = time.monotonic() + 1.0

    def ask(_: int) -> list[BaseException]:
        errors: list[BaseException] = []
        while time.monotonic() < until:
            try:
                pool.get_connection(timeout=0.5).close()
            except pymysql.err.MySQLError as error:
                errors.append(error)
        return errors

    return [error for errors in run_threads(threads, ask) for error in errors]


# -- frozen, silent ------------------------------------------------------------------------------------------


def test_a_frozen_server_holds_a_statement_for_read_timeout_and_a_borrow_for_its_own_time(make_pool: MakePool) -> None:
    with DevServer() as own:
        pool = make_pool(**own.connect_args, size=4, maxsize=4, read_timeout=0.5, ssl_disabled=True)
        fill(pool, 4)
        assert own.pid is not None
        freeze(own.pid)
        try:
            with bound(3), pytest.raises(pymysql.err.OperationalError) as caught:
                works(pool)
            assert caught.value.args[0] == 2013
            with bound(4), pytest.raises(PoolUnavailable) as refused:
                pool.get_connection(timeout=1.5)
            assert refused.value.args[0] == 2003
            assert pool.stats().idle == 0, "the others were asked before they were lent, and did not answer"
        finally:
            os.kill(own.pid, signal.SIGCONT)
        full_again(pool, 4)


@pytest.mark.parametrize("pre_ping", [False, True])
def test_forgotten_flows_cost_one_statement_and_with_pre_ping_none(
    make_pool: MakePool, proxy: Proxy, pre_ping: bool
) -> None:
    pool = make_pool(port=proxy.port, size=8, maxsize=8, read_timeout=0.5, pre_ping=pre_ping)
    fill(pool, 8)
    proxy.forget()
    failed = 0
    with bound(8):
        for _ in range(20):
            try:
                works(pool)
            except pymysql.err.OperationalError:
                failed += 1
    assert failed == (0 if pre_ping else 1)
    full_again(pool, 8)


def test_one_silent_connection_costs_a_part_of_the_time(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=4, maxsize=4)
    fill(pool, 4)
    proxy.forget()
    with bound(2.5):
        pool.get_connection(pre_ping=True, timeout=4).close()
    proxy.forget()
    began = time.monotonic()
    pool = make_pool(port=proxy.port, size=4, maxsize=4, read_timeout=0.1)
    fill(pool, 4)
    proxy.forget()
    pool.get_connection(pre_ping=True, timeout=20).close()
    assert time.monotonic() - began < 2, "read_timeout bounds a ping too"


def test_a_network_that_swallows_new_flows_too_is_waited_for_within_the_time_and_back_at_once(
    make_pool: MakePool, proxy: Proxy
) -> None:
    """An attempt that hears nothing goes on; the server's return is found out by another beside it."""
    pool = make_pool(port=proxy.port, size=4, maxsize=4)
    fill(pool, 4)
    proxy.deaf = True
    with bound(4), pytest.raises(PoolUnavailable):
        pool.get_connection(pre_ping=True, timeout=1.5)
    with pytest.raises(PoolUnavailable):
        pool.get_connection(timeout=1)
    wait_until(lambda: pool.stats().connecting == 0, "none connects")
    lost: list[BaseException] = []

    def ask() -> None:
        try:
            pool.get_connection(timeout=6).close()
        except PoolUnavailable as error:
            lost.append(error)

    before = proxy.swallowed
    stuck = threading.Thread(target=ask)
    stuck.start()
    wait_until(lambda: pool.stats().connecting, "it connects")
    wait_until(lambda: proxy.swallowed > before, "the greeting is swallowed")
    proxy.forget()
    proxy.deaf = False
    with bound(3):
        works(pool)
    stuck.join(20)
    full_again(pool, 4)


def test_where_all_capacity_waits_for_an_answer_the_server_is_to_blame(make_pool: MakePool, proxy: Proxy) -> None:
    """One caller of the pool's only connection is in an attempt, the others wait for a turn."""
    proxy.stalled = True
    pool = make_pool(port=proxy.port, size=1, maxsize=1)
    for error in run_threads(4, lambda _: pool.get_connection(timeout=0.8)):
        assert isinstance(error, PoolUnavailable), error
        assert error.args[0] == 2003
        assert "raise maxsize" not in str(error)
    proxy.stalled = False
    full_again(pool, 1)


def test_attempts_on_forgotten_flows_hold_no_capacity_once_the_network_is_back(
    make_pool: MakePool, proxy: Proxy
) -> None:
    """Every slot is taken by an attempt that will never be answered, and every caller is in one."""
    pool = make_pool(port=proxy.port, size=6, maxsize=6)
    proxy.deaf = True
    ready = threading.Barrier(7)

    def work(_: int) -> float:
        with pool.get_connection(timeout=30):
            began = time.monotonic()
            ready.wait(30)  # all six have one
            return began

    results: list[Any] = []
    together = threading.Thread(target=lambda: results.extend(run_threads(6, work)))
    together.start()
    wait_until(lambda: proxy.swallowed >= 6 + 2, "all six are stuck, and the youngest was made anew twice")
    proxy.forget()
    back = time.monotonic()
    proxy.deaf = False
    ready.wait(30)
    took = time.monotonic() - back
    together.join(30)
    assert took < 3, f"{took:.2f} s; without that it is connect_timeout, 10 s"
    assert pool.stats().connect_errors <= 6 + 10
    full_again(pool, 6)


def test_an_address_that_does_not_answer_leaves_the_others_their_share(
    make_pool: MakePool, server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host of two addresses, the first of which drops packets: its backlog is full."""
    with closing(socket.socket()) as full, closing(socket.socket()) as first, closing(socket.socket()) as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        port = server.connect_args["port"]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", one) for one in (full.getsockname(), ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        pool = make_pool(host="two.addresses", port=port, unix_socket=None, size=1, maxsize=1)
        with bound(3):
            works(pool, timeout=2)


def test_callers_of_little_patience_say_nothing_of_the_server(make_pool: MakePool, proxy: Proxy) -> None:
    pool = make_pool(port=proxy.port, size=4, maxsize=4, fail_fast=True)
    proxy.stalled = True
    for error in run_threads(8, lambda _: pool.get_connection(timeout=0.05)):
        assert isinstance(error, PoolUnavailable | PoolTimeout)
    proxy.stalled = False
    for _ in range(4):
        works(pool)


def test_callers_of_little_patience_say_nothing_of_idle_connections(make_pool: MakePool, proxy: Proxy) -> None:
    """A server that takes 100 ms for a ping: a call that cannot wait for it closes its own one at most."""
    pool = make_pool(port=proxy.port, size=4, maxsize=4)
    fill(pool, 4)
    proxy.stalled = True
    with suppress(PoolTimeout, PoolUnavailable), bound(2):
        pool.get_connection(pre_ping=True, timeout=0.06)
    proxy.stalled = False
    assert pool.stats().idle >= 2


def test_a_ping_of_a_call_that_does_not_wait_may_succeed(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, pre_create_num=1)
    pool.get_connection(pre_ping=True, timeout=0).close()
    assert not pool.stats().discarded


# -- full ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("cryptography")
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def narrow(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[DevServer]:
    """A server with room for few connections, and with a certificate."""
    authority, key = certificate
    options = ["--max-connections=10", "--max-user-connections=4", f"--ssl-cert={authority}", f"--ssl-key={key}"]
    options.append(f"--ssl-ca={authority}")
    with DevServer(binary=request.config.getoption("--server"), options=options) as server:
        with closing(pymysql.connect(**server.connect_args, ssl_disabled=True)) as admin, admin.cursor() as cursor:
            of_its_own = "with max_user_connections"  # goes before the server's
            for name, limit in (("plain", ""), ("few", f"{of_its_own} 3"), ("crowd", f"{of_its_own} 100")):
                for host in ("127.0.0.1", "localhost"):
                    cursor.execute(f"create user {name}@'{host}' identified by 'secret' {limit}")
                    cursor.execute(f"grant select on *.* to {name}@'{host}'")
        yield server


def arguments(server: DevServer, user: str) -> dict[str, Any]:
    return {**server.connect_args, "user": user, "password": "secret", "ssl_disabled": True}


@contextmanager
def no_room(server: DevServer, number: int) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """A server that answers a login with `number`; the arguments for one, and those that took the room."""
    user = {1040: "plain", 1203: "plain", 1226: "few"}[number]
    taken: list[Any] = []
    try:
        logins = [arguments(server, user)]
        if number == 1040:  # it has room for one more of root
            logins = [arguments(server, "crowd"), {**server.connect_args, "ssl_disabled": True}, *logins]
        # All are refused in a row: one alone may have been so by a session that was about to end.
        refused: list[Any] = []
        while len(refused) < 2 * len(logins):
            try:
                taken.append(pymysql.connect(**logins[len(refused) % len(logins)]))
                refused.clear()
            except pymysql.err.OperationalError as error:
                refused.append(error.args[0])
        assert {*refused} == {number}
        yield arguments(server, user), taken
    finally:
        let_in_again(taken, arguments(server, user))


def let_in_again(taken: list[Any], args: dict[str, Any]) -> None:
    for one in taken:
        with suppress(pymysql.err.Error):
            one.close()
    taken.clear()

    def has_room() -> bool:
        try:
            pymysql.connect(**args).close()
        except pymysql.err.OperationalError:
            return False
        return True

    wait_until(has_room, "the server has noticed")


@pytest.mark.parametrize("number", [1040, 1203, 1226])
def test_a_full_server_is_waited_for_and_refuses_at_once_with_fail_fast(
    make_pool: MakePool, narrow: DevServer, number: int
) -> None:
    with no_room(narrow, number) as (args, taken):
        pool = make_pool(**args, size=2, maxsize=2)
        with bound(3), pytest.raises(PoolUnavailable, match="has no room for one more connection") as refused:
            pool.get_connection(timeout=0.5)
        assert refused.value.__cause__.args[0] == number  # type: ignore[union-attr]
        assert pool.stats().connect_errors <= 12, "logins in half a second"
        hasty = make_pool(**args, size=2, maxsize=2, fail_fast=True)
        with bound(3), pytest.raises(PoolUnavailable):
            hasty.get_connection(timeout=20)
        waited: list[Any] = []
        waiter = threading.Thread(target=lambda: waited.append(works(pool, timeout=20)))
        waiter.start()
        let_in_again(taken, args)
        waiter.join(20)
        assert waited
        full_again(pool, 2)


@pytest.mark.parametrize("fail_fast", [False, True])
@pytest.mark.parametrize("number", [1040, 1203, 1226])
def test_with_connections_of_its_own_a_pool_makes_do_with_those(
    make_pool: MakePool, narrow: DevServer, number: int, fail_fast: bool
) -> None:
    args = arguments(narrow, {1040: "plain", 1203: "plain", 1226: "few"}[number])
    pool = make_pool(**args, size=4, maxsize=4, fail_fast=fail_fast)
    held = pool.get_connection()
    with no_room(narrow, number):
        held.close()

        def work(_: int) -> int:
            for _ in range(10):
                with pool.get_connection(timeout=20) as connection:
                    connection.execute("select sleep(0.002)")
            return 10

        assert run_threads(4, work) == [10] * 4


# -- the login is refused ------------------------------------------------------------------------------------


def lets_in_again(pool: ConnectionPool, number: int) -> None:
    """The server's answer is the answer to each caller until the next attempt is due, a quarter of a second later."""

    def is_let_in() -> bool:
        try:
            works(pool)
        except pymysql.err.OperationalError:
            return False
        return True

    with bound(3):
        wait_until(is_let_in, "the next attempt succeeds")
    full_again(pool, number)


@pytest.fixture
def account(admin: Any) -> Iterator[Callable[[str], None]]:
    """An account `bad_days`, changed by `ALTER USER ... <what>`."""
    users = "bad_days@'127.0.0.1', bad_days@localhost"
    with admin.cursor() as cursor:
        cursor.execute(f"drop user if exists {users}")
        for user in users.split(", "):
            cursor.execute(f"create user {user} identified by 'old'")
            cursor.execute(f"grant all on *.* to {user}")

    def alter(what: str) -> None:
        with admin.cursor() as cursor:
            for user in users.split(", "):
                cursor.execute(f"alter user {user} {what}")

    yield alter
    with admin.cursor() as cursor:
        cursor.execute(f"drop user {users}")


@pytest.mark.parametrize(
    ("what", "undo", "number"),
    [("account lock", "account unlock", 4151), ("identified by 'new'", "identified by 'old'", 1045)],
)
@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_refused_login_is_the_same_error_for_every_caller_at_once(
    make_pool: MakePool,
    account: Callable[[str], None],
    server: DevServer,
    what: str,
    undo: str,
    number: int,
    fail_fast: bool,
) -> None:
    if number == 4151 and server.flavor != "mariadb":
        number = 3118
    args = {"user": "bad_days", "password": "old", "size": 4, "maxsize": 4, "fail_fast": fail_fast}
    alive = make_pool(**args)
    works(alive)
    account(what)
    works(alive)  # open sessions stay open
    pool = make_pool(**args)
    with bound(3):
        errors = run_threads(16, lambda _: pool.get_connection(timeout=20))
    assert {type(error) for error in errors} <= {pymysql.err.OperationalError}, errors
    assert {error.args[0] for error in errors} == {number}
    assert len({id(error) for error in errors}) == 16, "each with a traceback of its own"
    before = pool.stats().connect_errors
    errors = ask_for_a_second(pool)
    assert {error.args[0] for error in errors} == {number}
    assert not any(isinstance(error, PoolError) for error in errors)
    assert pool.stats().connect_errors - before <= 12, "logins in a second, of eight threads"
    account(undo)
    lets_in_again(pool, 4)


def test_a_session_whose_password_has_expired_is_not_lent(
    make_pool: MakePool, account: Callable[[str], None], server: DevServer
) -> None:
    """MariaDB lets such an account in, and refuses all of its statements; MySQL refuses the login (1862)."""
    pool = make_pool(user="bad_days", password="old", size=2, maxsize=2)
    account("password expire")
    errors = ask_for_a_second(pool)
    assert {error.args[0] for error in errors} <= {1820, 1862}
    assert not any(isinstance(error, PoolError) for error in errors)
    assert pool.stats().connect_errors <= 12, "logins in a second, of eight threads"
    account("identified by 'old'")
    lets_in_again(pool, 2)
    with pool.get_connection() as connection:
        connection.execute("set role none")
    pool.drain()
    works(pool)


def test_a_certificate_that_is_not_trusted_is_told_as_that_until_the_file_is_renewed(
    make_pool: MakePool, narrow: DevServer, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger, _ = write_certificate(tmp_path / "other")
    right, _ = certificate
    authority = tmp_path / "ca.pem"
    shutil.copy(right, authority)
    tls = {"ssl_ca": str(authority), "ssl_verify_cert": True, "ssl_verify_identity": True}
    options = {**arguments(narrow, "plain"), **tls}
    pool = make_pool(**{**options, "ssl_disabled": False}, size=2, maxsize=2)
    works(pool)
    shutil.copy(stranger, authority)
    works(pool)  # the connection that is there stays
    pool.drain()
    with bound(3):
        errors = run_threads(8, lambda _: pool.get_connection(timeout=20))
    assert all(type(error) is pymysql.err.OperationalError for error in errors), errors
    assert all("certificate" in str(error) and "could not be reached" not in str(error) for error in errors)
    shutil.copy(right, authority)
    lets_in_again(pool, 2)


def say_no(connection: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"init_command": "set no_such_variable = 1"}, pymysql.err.OperationalError),
        ({"sql_mode": "NO_SUCH_MODE"}, pymysql.err.OperationalError),
        ({"on_connect": say_no}, ZeroDivisionError),
        ({"password": lambda: say_no(None)}, ZeroDivisionError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_set_up_that_fails_is_told_by_its_own_error_and_tried_with_back_off(
    make_pool: MakePool, options: dict[str, Any], told: type[Exception]
) -> None:
    pool = make_pool(**options, size=4, maxsize=4)
    tried = 0
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        with bound(2), pytest.raises(told):
            pool.get_connection(timeout=5)
        tried += 1
    assert tried == pool.stats().connect_errors <= 12, "logins in a second, of one thread"
    others = {type(error) for error in run_threads(8, lambda _: pool.get_connection(timeout=0.5))}
    assert others <= {told, PoolUnavailable}
    assert pool.stats().connect_errors - tried <= 8, "logins in half a second, of eight threads"
    with bound(3), pytest.raises((told, PoolUnavailable)):
        make_pool(**options, fail_fast=True).get_connection(timeout=20)


# -- the wrong server ----------------------------------------------------------------------------------------


@pytest.fixture
def read_only(admin: Any) -> Iterator[Callable[[bool], None]]:
    def switch(on: bool) -> None:
        with admin.cursor() as cursor:
            cursor.execute(f"set global read_only = {on:d}")

    with admin.cursor() as cursor:
        cursor.execute("create table if not exists bad_days (id int auto_increment primary key) engine=innodb")
        cursor.execute("drop user if exists writer@'127.0.0.1', writer@localhost")
        for host in ("127.0.0.1", "localhost"):
            cursor.execute(f"create user writer@'{host}' identified by 'secret'")
            cursor.execute(f"grant select, insert on *.* to writer@'{host}'")
    yield switch
    switch(False)


def write(pool: ConnectionPool) -> None:
    with pool.get_connection(timeout=0.5) as connection:
        connection.execute("insert into bad_days values ()")


def test_writers_of_a_server_that_became_read_only_do_not_log_in_at_each_error(
    make_pool: MakePool, read_only: Callable[[bool], None]
) -> None:
    pool = make_pool(user="writer", password="secret", size=8, maxsize=8, autocommit=True)
    fill(pool, 8)
    read_only(True)
    until = time.monotonic() + 2.0

    def work(_: int) -> set[int]:
        numbers = set()
        while time.monotonic() < until:
            with pytest.raises(pymysql.err.MySQLError) as caught:
                write(pool)
            numbers.add(caught.value.args[0])
            works(pool)  # reads go on
        return numbers

    assert run_threads(8, work) == [{1290}] * 8
    assert pool.stats().created <= 8 * 6, "all eight are renewed after 0, 0.25, 0.75, 1.75 s"
    read_only(False)
    with bound(3):
        write(pool)


def test_a_pool_of_a_primary_waits_for_one(make_pool: MakePool, read_only: Callable[[bool], None]) -> None:
    pool = make_pool(user="writer", password="secret", size=4, maxsize=4, autocommit=True, role="primary")
    fill(pool, 4)
    read_only(True)
    with pytest.raises(pymysql.err.MySQLError) as caught:
        write(pool)
    assert caught.value.args[0] == 1290
    errors = ask_for_a_second(pool)
    assert errors
    assert not [error for error in errors if not isinstance(error, PoolUnavailable) or "is read-only" not in str(error)]
    assert pool.stats().connect_errors <= 14, "logins in a second, of eight threads"
    waited: list[Any] = []
    waiter = threading.Thread(target=lambda: waited.append(works(pool, timeout=20)))
    waiter.start()
    read_only(False)
    waiter.join(20)
    assert waited
    full_again(pool, 4)


def test_a_busy_reader_of_a_demoted_primary_is_told_within_role_check(
    make_pool: MakePool, read_only: Callable[[bool], None]
) -> None:
    """It never lets its connection be idle for long, and it never writes."""
    pool = make_pool(role="primary", role_check=0.2, size=2, maxsize=2)
    works(pool)
    read_only(True)

    def is_told() -> bool:
        try:
            works(pool, timeout=0.1)
        except PoolUnavailable:
            return True
        return False

    with bound(3):
        wait_until(is_told, "it was asked for its role")


def test_an_idle_connection_of_a_demoted_primary_is_not_lent(
    make_pool: MakePool, read_only: Callable[[bool], None]
) -> None:
    pool = make_pool(role="primary", role_check=0, size=2, maxsize=2)
    fill(pool, 2)
    read_only(True)
    with bound(3), pytest.raises(PoolUnavailable, match="is read-only"):
        pool.get_connection(timeout=0.3)
    assert pool.stats().total == 0


def test_a_node_without_quorum_is_not_lent_and_back_when_it_has_one(make_pool: MakePool, proxy: Proxy) -> None:
    """Its answers: wsrep_on=ON, and a state that is not Synced; it answers read_only=OFF."""
    proxy.rewrite = lambda data: data.replace(b"\x08wsrep_on\x03OFF", b"\x08wsrep_on\x03ON ")
    pool = make_pool(port=proxy.port, role="ready", size=2, maxsize=2)
    errors = ask_for_a_second(pool)
    if not errors:
        pytest.skip("this server knows nothing of Galera")
    assert not [error for error in errors if not isinstance(error, PoolUnavailable) or "is not ready" not in str(error)]
    assert pool.stats().connect_errors <= 14, "logins in a second, of eight threads"
    proxy.rewrite = bytes
    full_again(pool, 2)


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("select 1 into outfile '/nowhere/at/all'", 1290),
        ("insert into bad_days values ()", 1792),
    ],
)
def test_a_refusal_of_the_statement_is_no_failover(
    make_pool: MakePool, read_only: Callable[[bool], None], statement: str, number: int
) -> None:
    pool = make_pool(size=4, maxsize=4)
    fill(pool, 4)
    for _ in range(5):
        with pytest.raises(pymysql.err.MySQLError) as caught, pool.get_connection() as connection:
            if number == 1792:
                connection.execute("start transaction read only")
            connection.execute(statement)
        assert caught.value.args[0] == number
    assert (pool.stats().created, dict(pool.stats().discarded)) == (4, {})


def no_connection_is_replaced(pool: ConnectionPool) -> None:
    """Each of five writes is refused by 1792, and the pool of four keeps its connections."""
    fill(pool, 4)
    for _ in range(5):
        with pytest.raises(pymysql.err.MySQLError) as caught:
            write(pool)
        assert caught.value.args[0] == 1792
    assert (pool.stats().created, dict(pool.stats().discarded)) == (4, {})


@pytest.mark.parametrize(
    "options",
    [
        {"init_command": "SET SESSION TRANSACTION READ ONLY"},
        {"on_connect": lambda connection: connection.query("set session transaction read only")},
        {"on_checkout": lambda connection: connection.query("set session transaction read only")},
    ],
    ids=lambda options: next(iter(options)),
)
def test_sessions_that_the_application_makes_read_only_are_no_failover(
    make_pool: MakePool, read_only: Callable[[bool], None], options: dict[str, Any]
) -> None:
    pool = make_pool(**options, size=4, maxsize=4, autocommit=True)
    no_connection_is_replaced(pool)


def test_transactions_that_the_servers_default_makes_read_only_are_no_failover(
    make_pool: MakePool, read_only: Callable[[bool], None], admin: Any
) -> None:
    """tx_read_only of MariaDB, transaction_read_only of MySQL: the session says so in its set-up."""
    by_default = "set global transaction read "
    try:
        with admin.cursor() as cursor:
            cursor.execute(by_default + "only")
        pool = make_pool(size=4, maxsize=4, autocommit=True)
        no_connection_is_replaced(pool)
    finally:
        with admin.cursor() as cursor:
            cursor.execute(by_default + "write")


# -- half an outage, and none at all -------------------------------------------------------------------------


@pytest.mark.parametrize("fail_fast", [False, True])
def test_half_of_all_connects_refused_stops_no_caller(make_pool: MakePool, proxy: Proxy, fail_fast: bool) -> None:
    pool = make_pool(port=proxy.port, size=8, maxsize=8, fail_fast=fail_fast)
    works(pool)
    proxy.refuses_half = True

    def work(_: int) -> int:
        for _ in range(10):
            with pool.get_connection(timeout=20) as connection:
                connection.execute("select sleep(0.01)")
        return 10

    with bound(10):
        assert run_threads(16, work) == [10] * 16
    full_again(pool, 8)


def test_a_name_that_resolves_to_nothing_is_told_and_looked_up_with_back_off(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(host: str, *_: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    pool = make_pool(host="db.invalid")
    with bound(3), pytest.raises(PoolUnavailable, match=r"db\.invalid.*could not be reached.*not known") as refused:
        pool.get_connection(timeout=0.5)
    assert refused.value.args[0] == 2003
    assert len(asked) <= 20, "in half a second"
    hasty = make_pool(host="db.invalid", fail_fast=True)
    with bound(3), pytest.raises(PoolUnavailable):
        hasty.get_connection(timeout=20)


def test_a_proxy_that_accepts_and_closes_is_a_server_that_is_down(make_pool: MakePool, proxy: Proxy) -> None:
    proxy.refusing = True
    pool = make_pool(port=proxy.port, size=4, maxsize=4)
    errors = ask_for_a_second(pool)
    assert all(isinstance(error, PoolUnavailable) and error.args[0] == 2003 for error in errors), errors
    assert proxy.accepted <= 16, "connects in a second, of eight threads"
    hasty = make_pool(port=proxy.port, size=4, maxsize=4, fail_fast=True)
    with bound(3), pytest.raises(PoolUnavailable):
        hasty.get_connection(timeout=20)
    proxy.refusing = False
    full_again(pool, 4)
    wait_until(lambda: is_back(hasty), "the pool that fails fast tries again, a moment after its last failure")


NONSENSE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "a shell": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(100),
    "a greeting of one byte": b"\x01\0\0\0\x0a",
    "a greeting of an unknown protocol": b"\x1a\0\0\0\x093.20" + bytes(21),
    "a version that is no number": b"\x40\0\0\0\x0aproxy\0" + bytes(12) + b"\0\x02\x21\x02\0\x08\0\x15" + bytes(37),
    "an error without a text": b"\x03\0\0\0\xff\x10\x04",
    "nothing of a packet": b"\0\0\0\0",
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_what_does_not_speak_mysql_is_a_server_that_is_down(make_pool: MakePool, proxy: Proxy, said: bytes) -> None:
    proxy.rewrite = lambda _: said
    pool = make_pool(port=proxy.port, size=2, maxsize=2)
    with bound(3), pytest.raises(PoolUnavailable, match="could not be reached") as refused:
        pool.get_connection(timeout=0.3)
    assert refused.value.args[0] == 2003
    cause = refused.value.__cause__
    assert isinstance(cause, pymysql.err.MySQLError)
    assert cause.args[0] in (2003, 2012, 2013)
    assert proxy.accepted <= 8, "connects in 0.3 s"
    proxy.rewrite = bytes
    full_again(pool, 2)


# -- what errors say -----------------------------------------------------------------------------------------


def test_a_call_that_does_not_wait_says_that_there_was_no_time_to_make_one(make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=2)
    with pytest.raises(PoolTimeout, match=r"none was idle, and that was no time to make one") as caught:
        pool.get_connection(timeout=0)
    assert caught.value.args[0] == 1040
    assert "raise maxsize" not in str(caught.value)


def test_sqlalchemy_sees_a_lease_that_was_ended_from_outside_as_a_disconnect(make_pool: MakePool) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pool = make_pool(size=1, maxsize=1)
    engine = sqlalchemy.create_engine(
        "mysql+pymysql://", creator=pool.get_connection, poolclass=sqlalchemy.pool.NullPool
    )
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("select 1")) == 1
        pool.close(timeout=0)
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            connection.execute(sqlalchemy.text("select 1"))
        assert caught.value.connection_invalidated


def test_ssl_errors_are_looked_for_in_the_causes() -> None:
    from pymysqlpool import failures

    error = pymysql.err.OperationalError(2003, "Can't connect")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    again = failures.said_again(error)
    assert again is not error
    assert again.args == error.args
