"""A password is not sent in the clear over an unencrypted connection because a server asks for it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from pymysqlpool import ConnectionPool

PASSWORD = "kelp-4711"
CAPABILITIES = 0xFFFFFFFF & ~(1 << 11) & ~(1 << 24)  # without TLS, with EOF packets
OK = b"\0\0\0\2\0\0\0"


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


class Asking:
    """A server that asks for the password by a plugin, and accepts every login."""

    def __init__(self, listener: socket.socket, plugin: bytes) -> None:
        self.received: list[bytes] = []
        self._listener = listener
        self._request = b"\xfe" + plugin + b"\0" + (b"\x05Password: " if plugin == b"dialog" else b"")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(10)
            with client, suppress(OSError):
                self._talk(client, client.makefile("rb"))

    def _talk(self, client: socket.socket, stream: Any) -> None:
        def read() -> bytes:
            head = stream.read(4)
            if len(head) < 4:
                raise ConnectionError
            received: bytes = stream.read(head[0] | head[1] << 8 | head[2] << 16)
            self.received.append(received)
            return received

        greeting = b"\x0a10.11.0-MariaDB\0" + struct.pack("<I", 7) + b"A" * 8 + b"\0"
        greeting += struct.pack("<H", CAPABILITIES & 0xFFFF) + b"\x2d" + struct.pack("<HH", 2, CAPABILITIES >> 16)
        greeting += b"\x15" + b"\0" * 10 + b"B" * 12 + b"\0mysql_native_password\0"
        client.sendall(packet(0, greeting))
        read()
        client.sendall(packet(2, self._request))
        read()
        client.sendall(packet(4, OK))
        while read()[:1] != b"\x01":
            client.sendall(packet(1, OK))

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture(params=[b"mysql_clear_password", b"dialog"], ids=bytes.decode)
def asking(request: pytest.FixtureRequest) -> Iterator[Asking]:
    server = Asking(socket.create_server(("127.0.0.1", 0)), request.param)
    yield server
    server.close()


def arguments(server: Asking) -> dict[str, Any]:
    port = server._listener.getsockname()[1]
    return {"host": "127.0.0.1", "port": port, "user": "ann", "password": PASSWORD, "autocommit": True}


def test_the_password_is_not_sent_where_others_could_read_it(asking: Asking) -> None:
    with (
        ConnectionPool(size=1, timeout=10, **arguments(asking)) as pool,
        pytest.raises(pymysql.err.OperationalError, match="allow_cleartext_password=True") as raised,
    ):
        pool.get_connection()
    assert PASSWORD not in str(raised.value)
    assert asking.received
    assert not any(PASSWORD.encode() in received for received in asking.received)


def test_it_is_sent_where_the_user_says_so(asking: Asking) -> None:
    with (
        ConnectionPool(size=1, allow_cleartext_password=True, ssl_disabled=True, **arguments(asking)) as pool,
        pool.get_connection(timeout=5) as connection,
    ):
        assert connection.open
    assert PASSWORD.encode() + b"\0" in asking.received


def test_it_is_sent_over_a_unix_socket(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    server = Asking(listener, b"mysql_clear_password")
    options = {"unix_socket": str(tmp_path / "s"), "user": "ann", "password": PASSWORD, "autocommit": True}
    with ConnectionPool(size=1, **options) as pool, pool.get_connection(timeout=5) as connection:
        assert connection.open
    server.close()
    assert PASSWORD.encode() + b"\0" in server.received


def test_a_plugin_of_the_users_own_decides_itself(asking: Asking) -> None:
    class Plugin:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def authenticate(self, request: Any) -> Any:
            self.connection.write_packet(b"a token\0")
            reply = self.connection._read_packet()
            reply.check_error()
            return reply

    options = {**arguments(asking), "auth_plugin_map": {"mysql_clear_password": Plugin, "dialog": Plugin}}
    with ConnectionPool(size=1, **options) as pool, pool.get_connection(timeout=5) as connection:
        assert connection.open
    assert b"a token\0" in asking.received
