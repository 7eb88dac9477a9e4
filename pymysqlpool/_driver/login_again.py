"""The later logins of a pool: its first one again, with the answer to another salt.

PyMySQL reads the greeting, chooses a plugin and builds a packet of some twenty attributes, and for all connections of a
pool the result is the same, but for the salt. So what it has sent is kept and sent again. That is done only where the
answer computed here was PyMySQL's, to the byte; where a greeting differs in nothing but the session's number and the
salt; without TLS; and for the two plugins that answer with digests of the password. What else a server asks for is left
to PyMySQL, on another socket.

Owns: what is kept of a login, and how it is repeated. Never: opens a socket, sets a session up.

Protocol: MySQL Internals, "Protocol::HandshakeV10", "Protocol::HandshakeResponse41", "Secure Password Authentication",
"Caching_sha2_password information" (01 03: the server knows the password's digest, an OK follows).
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pymysql import err
from pymysql.constants import CR

from .deadline import remaining
from .exchange import WireConnection
from .protocol.packets import ERR, is_ok
from .protocol.source import packet
from .receive import SocketSource

_SHA2 = "caching_sha2_password"
_PLUGINS = frozenset({"", "mysql_native_password", _SHA2})
_KNOWN_PASSWORD = b"\1\3"
_OK = b"\2\0"  # the number of the packet, and what it is
_USER_AT = 4 + 32  # header, flags, largest packet, character set and filler come before
_OF_ONE_SESSION = frozenset({"_sock", "_rfile", "_exchange", "_fetch", "_proxy_of", "salt", "server_thread_id"})
_read_number = struct.Struct("<I").unpack_from


class LoginAgain:
    """How the first session of a pool was logged in."""

    __slots__ = ("_after", "_at", "_attributes", "_before", "_is_sha2", "_middle", "_rest", "_start")

    def __init__(self, attributes: dict[str, Any], greeting: bytes) -> None:
        self._attributes = attributes
        self._is_sha2 = attributes["_auth_plugin_name"] == _SHA2
        at = self._at = greeting.index(b"\0", 5) + 1  # of the session's number; 8 bytes of salt follow, and 12 later
        self._before, self._middle, self._after = greeting[:at], greeting[at + 12 : at + 31], greeting[at + 43 :]
        self._start = self._rest = b""  # what is sent before the answer to the salt, and after it

    def learn(self, greeting: bytes, said: bytes) -> bool:
        """Learn from what PyMySQL has `said` to `greeting`. False: it would not be said here."""
        connection = self.connection()
        connection.salt = self.salt_in(greeting)
        answer = _answer(connection, self._is_sha2)
        start = _USER_AT + len(self._attributes["user"]) + 2
        end = start + len(answer)
        self._start, self._rest = said[:start], said[end:]
        return said[start - 1 : end] == bytes([len(answer)]) + answer

    def connection(self) -> WireConnection:
        """A connection that is not connected yet, with the attributes that PyMySQL gave the first one."""
        connection = WireConnection.__new__(WireConnection)
        connection.__dict__ = self._attributes.copy()
        return connection

    def fits(self, greeting: bytes) -> bool:
        """Whether it differs from the first one in nothing but the session's number and the salt."""
        at = self._at
        return (
            greeting[at + 12 : at + 31] == self._middle
            and greeting[at + 43 :] == self._after
            and greeting[:at] == self._before
        )

    def salt_in(self, greeting: bytes) -> bytes:
        at = self._at
        return greeting[at + 4 : at + 12] + greeting[at + 31 : at + 43]

    def log_in(self, connection: WireConnection, sock: Any, greeting: bytes, deadline: float) -> bool:
        """Answer a `greeting` that fits on `sock`, which is `connection`'s from now on.

        Returns:
            False: the server asks for something else. Nothing was sent but the answer to the salt.

        Raises:
            pymysql.err.MySQLError: the server refuses, or does not answer before `deadline`.
        """
        connection._sock = sock
        source = connection._rfile = SocketSource(sock)
        connection.salt = self.salt_in(greeting)
        connection.server_thread_id = _read_number(greeting, self._at)
        connection._exchange = threading.Lock()
        connection._fetch = threading.Lock()
        said = self._start + _answer(connection, self._is_sha2) + self._rest
        try:
            sock.settimeout(remaining(deadline))  # for both: the first bytes on a socket never wait
            sock.sendall(said)
        except OSError as error:
            raise err.OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error!r})") from error
        try:
            source.refill()
            data = source.buffer
            if data[3:5] == _OK and data[0] + 4 == len(data):  # the usual reply, and nothing else
                source.position = len(data)
                return True
            source.sequence = 2
            payload = source.run(packet(source), deadline)
            if payload == _KNOWN_PASSWORD and self._is_sha2:
                payload = source.run(packet(source), deadline)
        except OSError as error:
            raise err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server ({error})") from error
        if payload[:1] == b"\xff":
            raise ERR.read(payload).exception
        return is_ok(payload) and source.position == len(source.buffer)


def _answer(connection: WireConnection, is_sha2: bool) -> bytes:
    """The answer to the salt. No variable holds the password (Invariant 16)."""
    if not connection.password:
        return b""
    digest = hashlib.sha256 if is_sha2 else hashlib.sha1
    once = digest(connection.password).digest()
    twice = digest(once).digest()
    mixed = digest(twice + connection.salt if is_sha2 else connection.salt + twice).digest()
    number = int.from_bytes(once, "little") ^ int.from_bytes(mixed, "little")
    return number.to_bytes(len(once), "little")


def learn(attributes: Mapping[str, Any], greeting: bytes, said: Sequence[bytes]) -> LoginAgain | None:
    """Learn from a login by PyMySQL; None: it is of no kind that can be done again here.

    Args:
        attributes: of the session, when it has been set up.
        greeting: the server's first packet.
        said: the packets that PyMySQL has sent.
    """
    is_usual = (
        len(said) == 1
        and attributes.get("_auth_plugin_name", "") in _PLUGINS
        and not attributes["_pristine__auth_plugin_map"]
        and type(attributes["user"]) is bytes
        and greeting[4:5] == b"\x0a"  # empty where PyMySQL has read it
        and greeting[:4] == (len(greeting) - 4).to_bytes(4, "little")
    )
    if not is_usual:
        return None
    own = {name: attributes[name] for name in attributes if name not in _OF_ONE_SESSION}
    again = LoginAgain({"_auth_plugin_name": "", **own}, greeting)
    return again if again.salt_in(greeting) == attributes["salt"] and again.learn(greeting, said[0]) else None
