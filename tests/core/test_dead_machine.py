"""A server's machine that is gone without a word: no FIN, no RST, nothing is acknowledged any more.

A socket filter (tcp(7): SO_ATTACH_FILTER) that drops all segments makes one end of a connection such a machine.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest

from pymysqlpool.devserver import DevServer
from tests.conftest import MakePool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="socket filters and all of the options are Linux's")

SO_ATTACH_FILTER = 26


class Forwarder:
    """Forwards one connection to the server, until its machine `dies`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = socket.create_connection(self._address)
                self._ends += [client, upstream]
                for source, target in ((client, upstream), (upstream, client)):
                    self._start(self._pump, source, target)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def die(self) -> None:
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET: keep 0 bytes
        program = struct.pack("HL", 1, ctypes.addressof(drop_all))
        for end in self._ends[::2]:
            end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def close(self) -> None:
        for sock in (self._listener, *self._ends):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
            sock.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def machine(server: DevServer) -> Iterator[Forwarder]:
    forwarder = Forwarder((server.host, server.port))
    yield forwarder
    forwarder.close()


def options_of(connection: Any) -> dict[str, int]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    sock = connection._sock
    found = {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names}
    return found | {"SO_KEEPALIVE": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}


def test_a_connection_notices_it_within_a_minute_by_default(make_pool: MakePool) -> None:
    with make_pool(size=1).get_connection() as connection:
        found = options_of(connection)
    assert found["SO_KEEPALIVE"]
    assert found["TCP_KEEPIDLE"] + found["TCP_KEEPINTVL"] * found["TCP_KEEPCNT"] == 60
    assert found["TCP_USER_TIMEOUT"] == 60_000


def test_none_leaves_the_times_to_the_system(make_pool: MakePool) -> None:
    with socket.socket() as untouched:
        idle = untouched.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    with make_pool(size=1, tcp_user_timeout=None).get_connection() as connection:
        found = options_of(connection)
    assert (found["TCP_KEEPIDLE"], found["TCP_USER_TIMEOUT"]) == (idle, 0)


@pytest.mark.parametrize("dies", ["before the statement", "while the reply is awaited"])
def test_a_statement_to_a_machine_that_is_gone_ends_without_a_read_timeout(
    make_pool: MakePool, machine: Forwarder, dies: str
) -> None:
    pool = make_pool(port=machine.port, size=1, tcp_user_timeout=1, read_timeout=None)
    connection = pool.get_connection()
    connection.ping()
    if dies == "before the statement":
        machine.die()
    else:
        threading.Timer(0.2, machine.die).start()
    begun = time.monotonic()
    with pytest.raises(pymysql.err.OperationalError) as caught:
        connection.cursor().execute("select sleep(100)")
    assert caught.value.args[0] in (2006, 2013)
    assert time.monotonic() - begun < 8
    connection.close()
    assert pool.stats().total == 0


def test_a_statement_may_take_longer(make_pool: MakePool) -> None:
    with make_pool(size=1, tcp_user_timeout=1, read_timeout=None).get_connection() as connection:
        cursor = connection.cursor()
        cursor.execute("select sleep(2.5)")
        assert cursor.fetchall() == ((0,),)
