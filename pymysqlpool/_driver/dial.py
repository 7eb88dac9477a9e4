"""The socket and the login: from an address to a session that answers.

Owns: which of a host's addresses answers first, and PyMySQL's login over that socket, both before one deadline.
Never: sets a session up (`recipe`), tries again, or decides when an attempt without an answer is given up (`give_up`).
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import Any

from pymysql import err
from pymysql.constants import CR

from .deadline import remaining
from .exchange import WireConnection
from .receive import SEGMENT, SocketSource
from .tls import SharedContext

_LOOK = 0.1  # seconds; how often `give_up` is asked
_GIVEN_UP = "no answer for a while; given up for another attempt"
GiveUp = Callable[[], bool] | None


@cache
def _source_socket(base: type[socket.socket]) -> type[socket.socket]:
    """A `base` that is read through a `SocketSource` from its first byte; asked for late: gevent may have its own."""
    names: dict[str, Any] = {"makefile": _source_of, "greeting": b""}
    if base.__module__ == "socket":  # gevent's would ask its hub
        # As PyMySQL's connections, which close their sockets when they are collected, without a warning: a pool that is
        # dropped in a circle with its application is collected in no certain order with its sockets.
        names["__del__"] = base.close
    return type(base.__name__, (base,), names)


def _source_of(sock: Any, *mode: Any, **options: Any) -> SocketSource:
    source = SocketSource(sock)
    source.buffer, sock.greeting = sock.greeting, b""
    return source


def open_socket(
    connection: Any, deadline: float, tcp_user_timeout: float | None = None, give_up: GiveUp = None
) -> socket.socket:
    """Connect a socket for `connection`, to the first of the host's addresses that answers before `deadline`. An
    address that does not answer leaves the others their share of the time.

    A server's machine that is gone is noticed after `tcp_user_timeout` seconds; None: when the system does.

    Looking up the host's name is the one step that no deadline can bound: the system's resolver has its own.
    """
    new_socket = _source_socket(socket.socket) if connection._reads_fast else socket.socket
    if connection.unix_socket:
        sock = new_socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(remaining(deadline))
            sock.connect(connection.unix_socket)
        except BaseException:
            sock.close()
            raise
        connection.host_info = "Localhost via UNIX socket"
        connection._secure = True
        return sock
    source = (connection.bind_address, 0) if connection.bind_address is not None else None
    failure: OSError | None = None
    addresses = socket.getaddrinfo(connection.host, connection.port, 0, socket.SOCK_STREAM)
    for untried, (family, kind, number, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        limit = min(remaining(deadline) / untried, connection.connect_timeout or float("inf"))
        try:
            sock = new_socket(family, kind, number)
            try:
                if source is not None:
                    sock.bind(source)
                _connect(sock, address, limit, give_up)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if tcp_user_timeout is not None:
                    notice_a_dead_peer(sock, tcp_user_timeout)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            failure = error
            continue
        connection.host_info = f"socket {connection.host}:{connection.port}"
        return sock
    raise failure or OSError(f"no address for host {connection.host!r}")


def _connect(sock: socket.socket, address: Any, limit: float, give_up: GiveUp) -> None:
    """Connect `sock` within `limit` seconds, unless `give_up` says to stop meanwhile.

    Raises:
        OSError: it cannot be connected.
    """
    deadline = monotonic() + limit
    sock.settimeout(limit if give_up is None else min(limit, _LOOK))
    try:
        sock.connect(address)
        return
    except TimeoutError:
        if give_up is None:
            raise
    while not _writable(sock, min(_LOOK, remaining(deadline))):  # the system goes on connecting
        if give_up():
            raise TimeoutError(_GIVEN_UP)
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def _writable(sock: socket.socket, seconds: float) -> Any:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return poll.poll(seconds * 1000)
    return select.select([], [sock], [], seconds)[1]


def _await_greeting(sock: Any, left: float, deadline: float, give_up: Callable[[], bool]) -> None:
    """Wait for the first bytes, which the server sends, and leave them to be read. `left`: seconds until `deadline`."""
    while True:
        sock.settimeout(min(_LOOK, left))
        try:
            if hasattr(sock, "greeting"):
                sock.greeting = sock.recv(SEGMENT)
            else:
                sock.recv(1, socket.MSG_PEEK)
            return
        except TimeoutError:
            if give_up():
                raise TimeoutError(_GIVEN_UP) from None
        left = remaining(deadline)


def notice_a_dead_peer(sock: socket.socket, seconds: float) -> None:
    """End a TCP connection whose peer has acknowledged nothing for so long, whether it was sent something or not.

    Keep-alive probes (RFC 1122, 4.2.3.6; tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT) ask a peer that owes a reply
    or is idle; they rest while something sent is not acknowledged, which TCP_USER_TIMEOUT (RFC 5482) bounds. A living
    machine answers both, however long its server takes for a statement. What a system does not have is left out.
    """
    idle = max(1, int(seconds / 2))
    interval = max(1, int(seconds / 6))
    count = max(1, round((seconds - idle) / interval))
    options = {
        "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE": idle,  # the latter is macOS's
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": count,
        "TCP_USER_TIMEOUT": int(seconds * 1000),
    }
    try:
        for name, value in options.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:
        pass  # no such option, or not this value of it


def _is_of_nonsense(connection: WireConnection, error: Exception) -> bool:
    """Return whether PyMySQL's login failed because it could not read what was sent: its own errors carry no number
    then, and a packet that is too short raises anything."""
    if isinstance(error, err.MySQLError):
        return not (error.args and isinstance(error.args[0], int))
    if isinstance(error, ValueError) and not isinstance(error, UnicodeDecodeError):
        version = getattr(connection, "server_version", "")
        return bool(version) and not version.split(".")[0].isdecimal()
    return isinstance(error, struct.error | IndexError | AssertionError | UnboundLocalError | UnicodeDecodeError)


def establish(
    connection: WireConnection, deadline: float, tcp_user_timeout: float | None = None, give_up: GiveUp = None
) -> None:
    """Connect and log in, `within` the same `deadline`, without the set-up statements (`recipe` has them).

    `give_up` is asked from time to time while the server has not answered; True ends the attempt.

    Raises:
        pymysql.err.OperationalError: the server cannot be reached, refuses, or does not answer in time.
    """
    setup = connection.sql_mode, connection.init_command, connection.autocommit_mode
    connection._establishing = True
    connection.sql_mode = connection.init_command = connection.autocommit_mode = None
    sock: socket.socket | None = None
    try:
        sock = open_socket(connection, deadline, tcp_user_timeout, give_up)
        left = remaining(deadline)
        if give_up is not None:
            _await_greeting(sock, left, deadline, give_up)
        sock.settimeout(left)
        connection._read_timeout = connection._write_timeout = left
        connection.connect(sock)
        shared = connection.__dict__.get("ctx")
        if isinstance(shared, SharedContext):
            if isinstance(connection._sock, ssl.SSLSocket):
                shared.remember(connection._sock)
            connection.__dict__["ctx"] = shared.context  # the value that PyMySQL leaves there
    except OSError as error:
        raise err.OperationalError(
            CR.CR_CONN_HOST_ERROR, f"Can't connect to MySQL server on {connection.host!r} ({error})"
        ) from error
    except Exception as error:
        if not _is_of_nonsense(connection, error):
            raise
        raise err.OperationalError(
            CR.CR_SERVER_HANDSHAKE_ERR,
            f"what listens on {connection.host!r} does not log in as a MySQL server does ({type(error).__name__}: "
            f"{error})",
        ) from error
    finally:
        if sock is not None and not connection.open:
            sock.close()
        connection.sql_mode, connection.init_command, connection.autocommit_mode = setup
        connection._establishing = False
