"""An exception before, inside and after every single send and receive of everything that goes over the wire."""

from __future__ import annotations

import gc
import itertools
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from pymysqlpool import ConnectionPool
from pymysqlpool._driver import dial
from tests.conftest import MakePool
from tests.support import Bolt


class Fault:
    """Strikes at the n-th send or receive of any socket made while it is in force."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.mode = "before"

    def at(self, number: int, mode: str) -> None:
        self.left, self.mode = number, mode

    def off(self) -> bool:
        """Nothing strikes any more; True when it had struck."""
        struck, self.left = self.left is not None and self.left < 0, None
        return struck

    def strikes(self) -> bool:
        if self.left is None or self.left < 0:
            return False
        self.left -= 1
        return self.left < 0


class FaultySocket:
    """A socket whose sends and receives may be struck."""

    def __init__(self, real: socket.socket, fault: Fault) -> None:
        self._real = real
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def makefile(self, *mode: str) -> Any:
        return dial._source_of(self)

    def sendall(self, data: bytes) -> None:
        self._struck(lambda: self._real.sendall(data), lambda: self._real.sendall(data[: len(data) // 2]))

    def send(self, data: bytes) -> int:
        return int(self._real.send(data))

    def recv(self, size: int, flags: int = 0) -> bytes:
        return bytes(self._struck(lambda: self._real.recv(size, flags), lambda: self._real.recv(1, flags)))

    def recv_into(self, buffer: Any) -> int:
        return int(self._struck(lambda: self._real.recv_into(buffer), lambda: self._real.recv(1)))

    def _struck(self, whole: Callable[[], Any], half: Callable[[], Any]) -> Any:
        if not self._fault.strikes():
            return whole()
        if self._fault.mode == "inside":
            half()
        elif self._fault.mode == "after":
            whole()
        raise Bolt


def connect(pool: ConnectionPool, file: Path) -> None:
    pool.drain()
    pool.get_connection(timeout=5).close()


def query(pool: ConnectionPool, file: Path) -> None:
    with pool.get_connection(timeout=5) as connection:
        connection.execute("select 5, repeat('x', 70000)")
        assert connection.fetchone()[0] == 5


def several_results(pool: ConnectionPool, file: Path) -> None:
    with pool.get_connection(timeout=5) as connection, connection.cursor() as cursor:
        cursor.execute("select 1; do 1; select repeat('y', 40000)")
        while cursor.nextset():
            pass


def unbuffered(pool: ConnectionPool, file: Path) -> None:
    with pool.get_connection(timeout=5) as connection:
        cursor = connection.cursor(pymysql.cursors.SSCursor)
        cursor.execute("select repeat('z', 30000) union all select repeat('w', 30000)")
        assert len(cursor.fetchall()) == 2


def load_local(pool: ConnectionPool, file: Path) -> None:
    with pool.get_connection(timeout=5) as connection:
        connection.execute(f"load data local infile '{file}' into table loaded")
        connection.rollback()


def ping(pool: ConnectionPool, file: Path) -> None:
    pool.get_connection(pre_ping=True, timeout=5).close()


def reset(pool: ConnectionPool, file: Path) -> None:
    connection = pool.get_connection(timeout=5)
    connection.execute("set @x = 1")
    connection.close()


def rollback(pool: ConnectionPool, file: Path) -> None:
    connection = pool.get_connection(timeout=5)
    connection.execute("insert into loaded values (1)")
    connection.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["before", "inside", "after"])
@pytest.mark.parametrize("story", [connect, query, several_results, unbuffered, load_local, ping, reset, rollback])
def test_the_pool_keeps_what_answers_right_and_discards_the_rest(
    make_pool: MakePool,
    admin: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[ConnectionPool, Path], None],
    mode: str,
) -> None:
    """Invariants 5 and 6."""
    with admin.cursor() as cursor:
        cursor.execute("set global local_infile = 1")
        cursor.execute("drop table if exists loaded")
        cursor.execute("create table loaded (a int) engine=innodb")
    file = tmp_path / "rows"
    file.write_text("".join(f"{number}\n" for number in range(9000)))
    fault = Fault()
    plain = dial.open_socket
    monkeypatch.setattr(dial, "open_socket", lambda *arguments: FaultySocket(plain(*arguments), fault))
    pool = make_pool(size=2, maxsize=2, autocommit=False, local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS)
    query(pool, file)
    for number in itertools.count():
        fault.at(number, mode)
        with suppress(Bolt, pymysql.err.MySQLError):  # PyMySQL may go on to an error of its own
            story(pool, file)
        if not fault.off():
            break
        gc.collect()
        leases = [pool.get_connection(timeout=3) for _ in range(2)]
        for token, lease in enumerate(leases * 5):
            lease.execute(f"select {token}, @x, (select count(*) from loaded)")
            assert lease.fetchall() == ((token, None, 0),), f"after a bolt {mode} exchange {number}"
        for lease in leases:
            lease.close()
        stats = pool.stats()
        assert (stats.in_use, stats.connecting, stats.waiting) == (0, 0, 0)
        assert stats.idle == stats.total <= 2
    assert number >= 1
