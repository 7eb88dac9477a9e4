"""The wire: what is interrupted, half read, refused or nonsense ends in a clear error and never in a wrong answer."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, FIELD_TYPE

from pymysqlpool import (
    ConnectionInterruptedError,
    ConnectionPool,
    PoolUnavailable,
    ReturnConnectionToPoolError,
)
from tests.conftest import MakePool
from tests.support import wait_until


def answers_are_right(pool: ConnectionPool) -> None:
    for token in range(10):
        with pool.get_connection(timeout=5) as connection:
            connection.execute(f"select {token}")
            assert connection.fetchall() == ((token,),)
    stats = pool.stats()
    assert (stats.in_use, stats.waiting) == (0, 0)


def discarded(pool: ConnectionPool) -> dict[str, int]:
    return dict(pool.stats().discarded)


def test_a_value_that_cannot_be_converted_leaves_the_connection_in_step(make_pool: MakePool) -> None:
    """PyMySQL leaves the remaining rows unread; the next query would then read them."""
    pool = make_pool(size=1, maxsize=1)

    def fail(value: str) -> Any:
        raise ValueError(value)

    with pool.get_connection() as connection:
        connection.decoders.update(dict.fromkeys((FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG), fail))
        with pytest.raises(ValueError, match="1"):
            connection.execute("select cast(1 as signed) union select 2 union select 3")
        connection.decoders = {}
        connection.execute("select 'right'")
        assert connection.fetchall() == (("right",),)
    answers_are_right(pool)
    assert discarded(pool) == {}


def test_without_the_fast_reader_such_a_connection_is_discarded(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, fast_reader=False)

    def fail(value: str) -> Any:
        raise ValueError(value)

    with pool.get_connection() as connection:
        connection.decoders.update(dict.fromkeys((FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG), fail))
        with pytest.raises(ValueError, match="1"):
            connection.execute("select cast(1 as signed) union select 2 union select 3")
        with pytest.raises(ConnectionInterruptedError):
            connection.execute("select 1")
    answers_are_right(pool)
    assert discarded(pool) == {"interrupted": 1}


def test_an_unread_second_result_is_discarded(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, client_flag=CLIENT.MULTI_STATEMENTS)
    connection = pool.get_connection()
    connection.cursor().execute("select 1; select 2")
    connection.close()
    answers_are_right(pool)
    assert discarded(pool) == {"interrupted": 1}


def test_an_unbuffered_result_whose_cursor_was_closed_costs_nothing_until_the_next_command(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    with pool.get_connection() as connection:
        with connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute("select 1 union select 2 union select 3")
            assert cursor.fetchone() == (1,)
        connection.execute("select 4")
        assert connection.fetchall() == ((4,),)
    assert discarded(pool) == {}
    connection = pool.get_connection()
    cursor = connection.cursor(pymysql.cursors.SSCursor)
    cursor.execute("select 1 union select 2")
    assert cursor.fetchall() == [(1,), (2,)]
    del cursor
    gc.collect()
    connection.close()
    assert discarded(pool) == {}


class Interrupted(BaseException):
    """What a signal handler may raise."""


@contextmanager
def interrupted_socket(connection: Any, method: str, after: int) -> Iterator[None]:
    """Let `method` of the connection's socket work `after` times, then raise before it does anything."""
    real = connection._sock

    class Socket:
        calls = 0

        def __getattr__(self, name: str) -> Any:
            attribute = getattr(real, name)
            if name != method:
                return attribute

            def call(*arguments: Any) -> Any:
                Socket.calls += 1
                if Socket.calls > after:
                    raise Interrupted
                return attribute(*arguments)

            return call

    connection._sock = Socket()
    connection._rfile.sock = connection._sock
    try:
        yield
    finally:
        if connection.open:
            connection._sock = real
            connection._rfile.sock = real


@pytest.mark.parametrize("method", ["sendall", "recv"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupt_before_any_send_or_receive_is_never_followed_by_a_wrong_answer(
    make_pool: MakePool, method: str, after: int
) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    struck = suppress(Interrupted, ConnectionInterruptedError, pymysql.err.MySQLError)
    with struck, interrupted_socket(connection, method, after):
        for token in range(4):
            connection.execute(f"select {token}, repeat('x', 100000)")
            assert connection.fetchone()[0] == token
    with suppress(pymysql.err.MySQLError):
        connection.execute("select 99")
        assert connection.fetchall() == ((99,),)
    connection.close()
    answers_are_right(pool)


def test_an_interrupt_in_the_middle_of_sending_15_mb_is_not_kept(make_pool: MakePool, admin: Any) -> None:
    admin.cursor().execute("set global max_allowed_packet = 64 * 1024 * 1024")
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    real = connection._sock

    class Half:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def sendall(self, data: bytes) -> None:
            real.sendall(data[: len(data) // 2])
            raise Interrupted

    connection._sock = Half()  # type: ignore[assignment]
    with pytest.raises(Interrupted):
        connection.execute("select length('" + "x" * 15_000_000 + "')")
    connection._sock = real
    connection.close()
    assert discarded(pool) == {"interrupted": 1}
    answers_are_right(pool)


def test_another_thread_in_mid_query_is_refused_and_its_connection_not_kept(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    told: list[Any] = []

    def slow() -> None:
        try:
            told.append(connection.execute("select sleep(20)"))
        except pymysql.err.MySQLError as error:
            told.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    wait_until(lambda: connection._exchange.locked(), "it is in mid-query")
    with pytest.raises(ConnectionInterruptedError, match=r"another thread.*borrowed at .*test_another_thread"):
        connection.cursor().execute("select 1")
    connection.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(told[0], Exception)
    answers_are_right(pool)


def test_kill_query_keeps_and_kill_connection_discards(make_pool: MakePool, admin: Any) -> None:
    pool = make_pool(size=1, maxsize=1)
    for what, kept in (("kill query", True), ("kill", False)):
        connection = pool.get_connection()
        number = connection.thread_id()
        errors: list[Any] = []

        def slow(connection: Any = connection, errors: list[Any] = errors) -> None:
            try:
                errors.append(connection.execute("select count(*) from information_schema.collations where sleep(20)"))
            except pymysql.err.MySQLError as error:
                errors.append(error)

        thread = threading.Thread(target=slow)
        thread.start()
        wait_until(lambda number=number: asleep(admin, number), "the server is at it")
        admin.cursor().execute(f"{what} {number}")
        thread.join(10)
        connection.close()
        answers_are_right(pool)
        with pool.get_connection() as connection:
            assert (connection.thread_id() == number) is kept


def asleep(admin: Any, number: int) -> bool:
    with admin.cursor() as cursor:
        cursor.execute("select info from information_schema.processlist where id = %s", (number,))
        row = cursor.fetchone()
        return bool(row and row[0] and "sleep" in row[0])


def test_a_statement_on_a_socket_that_another_thread_closed_says_that_it_is_gone(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection.execute("select 1")
    connection._sock.close()
    with pytest.raises(pymysql.err.OperationalError) as caught:
        connection.execute("select 2")
    assert caught.value.args[0] == 2006
    connection.close()
    answers_are_right(pool)


@pytest.mark.parametrize("write_timeout", [None, 0.2, 30])
def test_a_read_timeout_ends_the_connection(make_pool: MakePool, write_timeout: float | None) -> None:
    pool = make_pool(size=1, maxsize=1, read_timeout=0.2, write_timeout=write_timeout)
    with pool.get_connection() as connection, pytest.raises(pymysql.err.OperationalError) as caught:
        connection.execute("select sleep(5)")
    assert caught.value.args[0] == 2013
    assert discarded(pool) == {"closed": 1}
    answers_are_right(pool)


def test_a_packet_larger_than_the_server_takes(make_pool: MakePool, admin: Any) -> None:
    admin.cursor().execute("set global max_allowed_packet = 1024 * 1024")
    try:
        pool = make_pool(size=1, maxsize=1)
        connection = pool.get_connection()
        with pytest.raises(pymysql.err.MySQLError):
            connection.execute("select length('" + "x" * 3_000_000 + "')")
        connection.close()
        answers_are_right(pool)
    finally:
        admin.cursor().execute("set global max_allowed_packet = 64 * 1024 * 1024")


@pytest.mark.parametrize("exists", [True, False])
def test_load_data_local_keeps_the_connection_whether_the_file_is_there_or_not(
    make_pool: MakePool, admin: Any, tmp_path: Path, exists: bool
) -> None:
    admin.cursor().execute("set global local_infile = 1")
    admin.cursor().execute("drop table if exists loaded")
    admin.cursor().execute("create table loaded (a int)")
    pool = make_pool(size=1, maxsize=1, local_infile=True, autocommit=True)
    file = tmp_path / "rows"
    if exists:
        file.write_text("1\n2\n")
    with pool.get_connection() as connection:
        if exists:
            assert connection.execute(f"load data local infile '{file}' into table loaded") == 2
        else:
            with pytest.raises(pymysql.err.OperationalError) as caught:
                connection.execute(f"load data local infile '{file}' into table loaded")
            assert caught.value.args[0] == 1017
        connection.execute("select count(*) from loaded")
        assert connection.fetchall() == ((2 if exists else 0,),)
    answers_are_right(pool)
    assert discarded(pool) == {}


def test_a_connection_may_be_returned_by_another_thread(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection.execute("select 1")
    thread = threading.Thread(target=connection.close)
    thread.start()
    thread.join()
    answers_are_right(pool)
    assert pool.stats().created == 1


def test_of_many_threads_that_return_one_connection_exactly_one_does(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    for _ in range(200):
        connection = pool.get_connection()
        barrier = threading.Barrier(4)
        outcomes: list[str] = []

        def give_back(connection: Any = connection, barrier: Any = barrier, outcomes: list[str] = outcomes) -> None:
            barrier.wait()
            try:
                connection.close()
                outcomes.append("returned")
            except ReturnConnectionToPoolError:
                outcomes.append("refused")

        threads = [threading.Thread(target=give_back) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["refused", "refused", "refused", "returned"]
    assert pool.stats().total == 1
    answers_are_right(pool)


def test_a_connection_is_not_taken_by_another_pool(make_pool: MakePool) -> None:
    one, other = make_pool(name="one"), make_pool(name="other")
    connection = one.get_connection()
    with pytest.raises(ReturnConnectionToPoolError, match=r"of pool\(one\), not of pool\(other\)"):
        other.give_back(connection)
    assert connection.execute("select 1") == 1
    connection.close()
    assert (one.size, other.size) == (1, 0)


def test_ping_with_reconnect_does_not_smuggle_in_another_session(make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1)
    connection = pool.get_connection()
    connection._force_close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyMySQL 1.2 deprecates it
        connection.ping(reconnect=True)
    assert connection.execute("select 1") == 1
    connection.close()
    assert discarded(pool) == {"reconnected": 1}
    answers_are_right(pool)


# -- bytes that a real server does not send on demand ---------------------------------------------------------------


def packet(sequence: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload


GREETING = (
    b"\x0a8.0.0-fake\x00" + struct.pack("<I", 7) + b"saltsalt\x00" + struct.pack("<H", 0xF7FF) + b"\x21"
    + struct.pack("<HH", 2, 0x00FF) + b"\x15" + b"\x00" * 10 + b"saltsaltsalt\x00" + b"mysql_native_password\x00"
)  # fmt: skip
OK = b"\x00\x00\x00\x02\x00\x00\x00"


class FakeServer:
    """Accepts every login, answers the set-up with OK, and to the first query whatever it was told to."""

    def __init__(self, reply: Callable[[socket.socket], None]) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, suppress(OSError):
                peer.settimeout(5)
                peer.sendall(packet(0, GREETING))
                self._receive(peer)
                peer.sendall(packet(2, OK))
                while said := self._receive(peer):
                    if not said.startswith((b"\x03SET ", b"\x03SELECT CURRENT_ROLE")):
                        self._reply(peer)
                        break
                    peer.sendall(packet(1, OK))

    @staticmethod
    def _receive(peer: socket.socket) -> bytes:
        header = peer.recv(4, socket.MSG_WAITALL)
        size = int.from_bytes(header[:3], "little")
        return peer.recv(size, socket.MSG_WAITALL) if size else b""


def row_of_one(value: bytes) -> list[bytes]:
    column = b"\x03def\x00\x00\x00\x01a\x00\x0c\x3f\x00\x01\x00\x00\x00\x08\x81\x00\x00\x00\x00"
    eof = b"\xfe\x00\x00\x02\x00"
    return [b"\x01", column, eof, bytes([len(value)]) + value, eof]


NONSENSE: dict[str, Callable[[socket.socket], None]] = {
    "garbage": lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20),
    "closed in mid-packet": lambda peer: peer.sendall(packet(1, b"\x01") + b"\x20\x00\x00\x02\x03de"),
    "closed at once": lambda peer: None,
    "wrong sequence number": lambda peer: peer.sendall(packet(5, OK)),
    "no end": lambda peer: peer.sendall(b"".join(packet(n + 1, p) for n, p in enumerate(row_of_one(b"7")[:-1]))),
    "row cut short": lambda peer: peer.sendall(
        b"".join(packet(n + 1, p) for n, p in enumerate([*row_of_one(b"7")[:3], b"\x20seven", b"\xfe\0\0\x02\0"]))
    ),
    "wrong sequence number in mid-result": lambda peer: peer.sendall(
        b"".join(packet(n + 1 + (n > 2), p) for n, p in enumerate(row_of_one(b"7")))
    ),
    "error in mid-result": lambda peer: peer.sendall(
        b"".join(packet(n + 1, p) for n, p in enumerate([*row_of_one(b"7")[:4], b"\xff\x25\x04#HY000gone wrong"]))
    ),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_from_the_server_is_an_error_and_never_kept_by_mistake(make_pool: MakePool, kind: str) -> None:
    with FakeServer(NONSENSE[kind]) as fake:
        pool = make_pool(host="127.0.0.1", port=fake.port, size=1, maxsize=1, read_timeout=2, database=None)
        connection = pool.get_connection(timeout=5)
        with pytest.raises((pymysql.err.MySQLError, AssertionError, struct.error, IndexError)):
            connection.execute("select 7")
        connection.close()
        assert pool.stats().total == 0
        assert pool.stats().in_use == 0
        pool.close(timeout=0)


def drip(peer: socket.socket, data: bytes, pause: float = 0.0) -> None:
    """Byte by byte, `pause` seconds apart: to be slow is what this server is there for."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in data:
        peer.sendall(bytes([byte]))
        time.sleep(pause)


def test_a_reply_byte_by_byte_is_the_same_reply(make_pool: MakePool) -> None:
    reply = b"".join(packet(n + 1, p) for n, p in enumerate(row_of_one(b"7")))
    with FakeServer(lambda peer: drip(peer, reply)) as fake:
        pool = make_pool(host="127.0.0.1", port=fake.port, size=1, maxsize=1, database=None)
        connection = pool.get_connection(timeout=5)
        assert connection.execute("select 7") == 1
        assert connection.fetchall() == ((7,),)
        pool.close(timeout=0)
        with suppress(ReturnConnectionToPoolError):
            connection.close()


ROLLED_BACK = packet(1, OK)
ANSWERS_TO_ROLLBACK: dict[str, tuple[Callable[[socket.socket], object], dict[str, int]]] = {
    "at once": (lambda peer: peer.sendall(ROLLED_BACK), {}),
    "byte by byte": (lambda peer: drip(peer, ROLLED_BACK), {}),
    "too slowly": (lambda peer: drip(peer, ROLLED_BACK, 0.1), {"reset failed": 1}),
    "never": (lambda peer: peer.recv(1), {"reset failed": 1}),
    "by closing": (lambda peer: peer.shutdown(socket.SHUT_RDWR), {"reset failed": 1}),
    "by closing in the middle": (lambda peer: peer.sendall(ROLLED_BACK[:6]), {"reset failed": 1}),
    "with an error": (
        lambda peer: peer.sendall(packet(1, b"\xff\x1d\x04#08S01Server shutdown in progress")),
        {"reset failed": 1},
    ),
    "out of step": (lambda peer: peer.sendall(packet(2, OK)), {"reset failed": 1}),
    "twice": (lambda peer: peer.sendall(ROLLED_BACK * 2), {"reset failed": 1}),
    "with an empty packet": (lambda peer: peer.sendall(packet(1, b"")), {"reset failed": 1}),
    "with a result": (lambda peer: peer.sendall(packet(1, b"\1")), {"reset failed": 1}),
}


@pytest.mark.parametrize("how", ANSWERS_TO_ROLLBACK)
def test_a_connection_is_kept_only_if_its_rollback_was_confirmed_in_time(make_pool: MakePool, how: str) -> None:
    answer, discards = ANSWERS_TO_ROLLBACK[how]
    said: list[bytes] = []

    def begin_and_end(peer: socket.socket) -> None:
        peer.sendall(packet(1, b"\0\0\0\3\0\0\0"))  # in a transaction
        said.append(FakeServer._receive(peer))
        answer(peer)
        peer.recv(1)

    with FakeServer(begin_and_end) as fake:
        options = {"host": "127.0.0.1", "port": fake.port, "database": None, "autocommit": True}
        pool = make_pool(**options, size=1, maxsize=1, reset_timeout=0.4)
        connection = pool.get_connection(timeout=5)
        connection.execute("begin")
        began = time.monotonic()
        connection.close()
        assert time.monotonic() - began < 2
        assert said == [b"\3ROLLBACK"]
        assert discarded(pool) == discards
        assert pool.stats().idle == 1 - len(discards)
        pool.close(timeout=0)


def test_an_error_packet_while_idle_means_dead(make_pool: MakePool) -> None:
    """As MySQL 8 sends before it closes an idle session (4031)."""
    told = threading.Event()

    def answer_then_grumble(peer: socket.socket) -> None:
        peer.sendall(packet(1, OK))
        peer.sendall(packet(0, b"\xff\xbf\x0f#HY000disconnected by the server because of inactivity"))
        told.set()
        peer.recv(1)

    with FakeServer(answer_then_grumble) as fake:
        pool = make_pool(host="127.0.0.1", port=fake.port, size=1, maxsize=1, database=None)
        connection = pool.get_connection(timeout=5)
        connection.execute("do 0")
        told.wait(5)
        connection.close()
        wait_until(
            lambda: all(slot.wire.readable(0) for slot in pool._ledger.idle_slots()),
            "the session has ended",
        )
        pool.get_connection(timeout=5).close()
        assert discarded(pool) in ({"dead": 1}, {"interrupted": 1}, {"reset failed": 1})
        pool.close(timeout=0)


def test_a_server_that_never_answers_the_login(make_pool: MakePool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = make_pool(host="127.0.0.1", port=listener.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(PoolUnavailable):
            pool.get_connection(timeout=0.3)
        assert time.monotonic() - began < 2
