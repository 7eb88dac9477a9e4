"""The later sessions of a pool, which are logged in and set up in fewer steps than its first, are no others."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.constants import FIELD_TYPE

from pymysqlpool import ConnectionPool
from tests.conftest import MakePool
from tests.core import replies
from tests.core.dirt import sql

PASSWORD = "kelp-4711"
# The last one is that of the server, if it was asked for it.
OF_ONE_SESSION = {"_sock", "_rfile", "_exchange", "_fetch", "salt", "server_thread_id", "server_public_key"}


def facts(connection: Any) -> dict[str, Any]:
    """What PyMySQL, and those who read its attributes, find on a connection that was lent."""
    connection.ping(reconnect=False)
    connection.decoders, connection.encoders  # noqa: B018 - those of a pool are copied at the first access
    return {name: value for name, value in vars(connection).items() if name not in OF_ONE_SESSION}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"autocommit": True, "sql_mode": "ANSI", "charset": "latin1"},
        {"database": None, "program_name": "later", "read_timeout": 5},
        {"init_command": "SET @x = 1"},
        {"ssl_disabled": False},
    ],
    ids=str,
)
def test_a_later_session_has_the_attributes_of_the_first(make_pool: MakePool, options: dict[str, Any]) -> None:
    pool = make_pool(size=4, maxsize=4, **options)
    lent = [pool.get_connection() for _ in range(4)]
    first, *later = [facts(connection) for connection in lent]
    for seen in later:
        different = {name for name in first if seen.get(name) != first[name]} | seen.keys() - first.keys()
        assert {name for name in different if not name.startswith(("_kept", "_slot", "_pool", "_lease"))} == set()
    assert len({connection.thread_id() for connection in lent}) == len({connection.salt for connection in lent}) == 4
    for connection in lent:
        connection.close()


def test_all_sessions_of_a_pool_have_their_attributes_in_one_order(make_pool: MakePool) -> None:
    """So that Python finds them where it found those of the session before."""
    pool = make_pool(size=4, maxsize=4)
    lent: list[Any] = [pool.get_connection() for _ in range(4)]
    assert len({tuple(connection._slot.wire.attributes()) for connection in lent}) == 1
    for connection in lent:
        connection.close()


@pytest.fixture
def account(admin: Any) -> Iterator[Callable[[str], None]]:
    statements = ["drop user if exists later@'%'", "drop role if exists later_role", "create role later_role"]
    sql(*statements, f"create user later@'%' identified by '{PASSWORD}'", "grant all on test.* to later@'%'")(admin)
    sql("grant later_role to later@'%'")(admin)
    yield lambda change: sql(change)(admin)
    sql("set global max_allowed_packet = default", "drop user later@'%'", "drop role later_role")(admin)


def used(pool: ConnectionPool) -> str:
    """The role of the next two borrowers, each of which leaves a session to be reset."""
    seen = []
    for _ in range(2):
        with pool.get_connection() as connection:
            seen.append(str(execute(connection, "select current_role()")))
            connection.execute("set role none")
    assert seen[0] == seen[1]
    return seen[0]


def test_what_a_later_login_gives_differently_is_kept_as_that_login_gave_it(
    make_pool: MakePool, server: Any, account: Callable[[str], None]
) -> None:
    pool = make_pool(user="later", password=PASSWORD, size=1, maxsize=1)
    to = "for" if server.flavor == "mariadb" else "to"
    default = f"set default role later_role {to} later@'%'"
    for change in (default, f"set default role none {to} later@'%'", default):
        account(change)
        pool.drain()
        assert ("later_role" in used(pool)) == (change is default)


@pytest.mark.parametrize("change", ["role", "packet", "limit"])
def test_a_difference_is_noticed_at_the_next_login_of_a_pool_that_goes_on(
    make_pool: MakePool, server: Any, account: Callable[[str], None], change: str
) -> None:
    """No drain() here: nothing tells the pool but the login itself."""
    is_mariadb = server.flavor == "mariadb"
    if change == "limit" and not is_mariadb:
        pytest.skip("MySQL has no such limit of an account")
    pool = make_pool(user="later", password=PASSWORD, size=4, maxsize=4)
    lent = [pool.get_connection() for _ in range(2)]  # the second one in fewer steps
    ((before,),) = execute(lent[0], "select @@max_allowed_packet")
    account(
        {
            "role": f"set default role later_role {'for' if is_mariadb else 'to'} later@'%'",
            "packet": f"set global max_allowed_packet = {before // 2}",
            "limit": "alter user later@'%' with max_statement_time 7.5",
        }[change]
    )
    lent += [pool.get_connection() for _ in range(2)]
    limits = [connection._limit for connection in lent]
    assert limits == ([before, before, before // 2, before // 2] if change == "packet" else [before] * 4)
    look = "select current_role()" + (", @@max_statement_time" if is_mariadb else "")
    new = [execute(connection, look) for connection in lent]
    assert new[0] == new[1]
    assert new[2] == new[3]
    assert (new[1] == new[2]) == (change == "packet")
    for connection in lent:
        execute(connection, "set role none")
        if is_mariadb:
            execute(connection, "set max_statement_time = 0")
        connection.close()
    again = [pool.get_connection() for _ in range(4)]
    assert sorted(str(execute(connection, look)) for connection in again) == sorted(map(str, new))
    assert pool.stats().reset == 4
    for connection in again:
        connection.close()


def execute(connection: Any, statement: str) -> Any:
    connection.execute(statement)
    return connection.fetchall() if connection.description else None


def test_a_password_that_was_changed_is_refused_and_one_that_is_right_again_is_not(
    make_pool: MakePool, account: Callable[[str], None]
) -> None:
    pool = make_pool(user="later", password=PASSWORD, size=9, maxsize=9)
    lent = [pool.get_connection() for _ in range(2)]
    account("alter user later@'%' identified by 'another'")
    with pytest.raises(pymysql.err.OperationalError, match=r"Access denied for user 'later'@") as refused:
        pool.get_connection(timeout=0.2)
    assert refused.value.args[0] == 1045
    account(f"alter user later@'%' identified by '{PASSWORD}'")
    lent += [pool.get_connection() for _ in range(2)]
    assert {execute(connection, "select 1") for connection in lent} == {((1,),)}
    for connection in lent:
        connection.close()


# -- a server that is not what it was ----------------------------------------------------------------------------------


class Changing:
    """A MariaDB, as far as a pool needs one, whose greeting, logins and replies may change from session to session."""

    def __init__(self) -> None:
        self.version = b"10.11.0-MariaDB"
        self.logins: list[bytes] = []
        self.statements: list[bytes] = []
        self.refusal: bytes | None = None  # in reply to a login
        self.confirms = True
        self.pieces = 1 << 20  # bytes sent at once
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        number = 7
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=self._talk, args=(client, number), daemon=True).start()

    def _talk(self, client: socket.socket, number: int) -> None:
        client.settimeout(10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, client.makefile("rb") as stream, suppress(OSError):
            capabilities = 0xFFFFFFFF & ~(1 << 11) & ~(1 << 24)  # without TLS, with EOF packets
            greeting = b"\x0a" + self.version + b"\0" + struct.pack("<I", number) + b"A" * 8 + b"\0"
            greeting += struct.pack("<HBHHB", capabilities & 0xFFFF, 45, 2, capabilities >> 16, 21)
            self._send(client, 0, greeting + b"\0" * 10 + b"B" * 12 + b"\0mysql_native_password\0")
            self.logins.append(self._read(stream))
            if self.refusal is not None:
                self._send(client, 2, self.refusal)
                self.logins.append(self._read(stream))
                return
            self._send(client, 2, replies.ok())
            while (said := self._read(stream))[:1] == b"\x03":
                self.statements.append(said[1:])
                for packet, payload in enumerate(self._reply(said[1:]), 1):
                    self._send(client, packet, payload)

    def _reply(self, statement: bytes) -> list[bytes]:
        if statement.startswith(b"SELECT CURRENT_ROLE()"):
            columns = [replies.column(FIELD_TYPE.VAR_STRING, 45)] * (5 if b"init_connect" in statement else 3)
            values = [None, None, b"16777216", b"", b"0"][: len(columns)]
            return replies.result_set(columns, [b"".join(map(replies.string, values))], replies.end())
        is_on = b"session_track_state_change = 1" in statement or (self.confirms and b"state_change" in statement)
        return [replies.ok(status=0x4002, message=b"\0\x03\x02\x011") if is_on else replies.ok()]

    def _send(self, client: socket.socket, number: int, payload: bytes) -> None:
        data = struct.pack("<I", len(payload))[:3] + bytes([number]) + payload
        for start in range(0, len(data), self.pieces):
            client.sendall(data[start : start + self.pieces])

    @staticmethod
    def _read(stream: Any) -> bytes:
        head = stream.read(4)
        if len(head) < 4:
            raise OSError
        return bytes(stream.read(int.from_bytes(head[:3], "little")))

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def changing() -> Iterator[Changing]:
    server = Changing()
    yield server
    server.close()


@pytest.fixture
def pool(changing: Changing) -> Iterator[ConnectionPool]:
    arguments = {"host": "127.0.0.1", "port": changing.port, "user": "ann", "password": PASSWORD}
    with ConnectionPool(size=9, maxsize=9, timeout=5, **arguments) as pool:
        yield pool


def borrow(pool: ConnectionPool, number: int) -> list[Any]:
    return [pool.get_connection() for _ in range(number)]


def give_back(lent: list[Any]) -> None:
    for connection in lent:
        connection.close()


def test_a_later_login_says_what_pymysql_said(changing: Changing, pool: ConnectionPool) -> None:
    lent = borrow(pool, 3)
    assert len(changing.logins) == 3
    assert len(set(changing.logins)) == 1  # the salt is always the same
    assert [connection.thread_id() for connection in lent] == [8, 9, 10]
    assert [b"SELECT" in statement[:6] for statement in changing.statements] == [True, False, False, False]
    give_back(lent)


def test_another_greeting_is_left_to_pymysql_on_the_same_socket(changing: Changing, pool: ConnectionPool) -> None:
    lent = borrow(pool, 2)
    changing.version = b"11.4.2-MariaDB-log"
    lent += borrow(pool, 2)
    assert [connection.server_version for connection in lent] == ["10.11.0-MariaDB"] * 2 + ["11.4.2-MariaDB-log"] * 2
    assert len(changing.logins) == 4
    give_back(lent)


def test_a_greeting_and_replies_in_pieces_are_read(changing: Changing, pool: ConnectionPool) -> None:
    lent = borrow(pool, 2)
    changing.pieces = 7
    lent += borrow(pool, 2)
    assert len(changing.logins) == 4
    give_back(lent)


def test_a_server_that_asks_a_later_login_for_the_password_in_the_clear_does_not_get_it(
    changing: Changing, pool: ConnectionPool
) -> None:
    lent = borrow(pool, 2)
    changing.refusal = b"\xfemysql_clear_password\0"
    with pytest.raises(pymysql.err.OperationalError, match="allow_cleartext_password=True"):
        pool.get_connection(timeout=0.3)
    assert not any(PASSWORD.encode() in said for said in changing.logins)
    changing.refusal = None
    lent += borrow(pool, 1)
    give_back(lent)


def test_a_server_that_compares_nothing_is_asked_again_and_then_always(
    changing: Changing, pool: ConnectionPool
) -> None:
    changing.confirms = False
    lent = borrow(pool, 4)
    asked = [statement for statement in changing.statements if statement.startswith(b"SELECT")]
    assert len(asked) == 4
    assert len(changing.logins) == 5  # one session was closed, of which nothing was known
    give_back(lent)


@pytest.mark.parametrize("refusal", [replies.error(1045, b"Access denied"), replies.error(1040, b"Too many")])
def test_the_refusal_of_a_later_login_is_told_as_pymysql_tells_it(
    changing: Changing, pool: ConnectionPool, refusal: bytes
) -> None:
    lent = borrow(pool, 2)
    changing.refusal = refusal
    with pytest.raises(pymysql.err.MySQLError) as stock:
        pymysql.connect(host="127.0.0.1", port=changing.port, user="ann", password=PASSWORD, ssl_disabled=True)
    connector = pool._connector
    with pytest.raises(pymysql.err.MySQLError) as ours:
        connector.make_wire(deadline=float("inf"))
    assert (type(ours.value), ours.value.args) == (type(stock.value), stock.value.args)
    give_back(lent)
