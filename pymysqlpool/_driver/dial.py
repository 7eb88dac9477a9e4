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
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
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
    addresses = _numeric(connection.host, connection.port) or socket.getaddrinfo(
        connection.host, connection.port, 0, socket.SOCK_STREAM
    )
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


@lru_cache(maxsize=64)
def _numeric(host: str, port: int) -> Sequence[Any]:
    """What the resolver would say of a host that is given by its number, which needs none; empty for a name."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError, AttributeError):
        return ()
    return ((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)),)


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


def _await_greeting(sock: Any, deadline: float, give_up: GiveUp) -> None:
    """Wait for the first bytes, which the server sends, and leave them to be read."""
    while True:
        left = remaining(deadline)
        sock.settimeout(left if give_up is None else min(_LOOK, left))
        try:
            if hasattr(sock, "greeting"):
                sock.greeting = sock.recv(SEGMENT)
            else:
                sock.recv(1, socket.MSG_PEEK)
            return
        except TimeoutError:
            if give_up is not None and give_up():
                raise TimeoutError(_GIVEN_UP) from None


def notice_a_dead_peer(sock: socket.socket, seconds: float) -> None:
    """End a TCP connection whose peer has acknowledged nothing for so long, whether it was sent something or not.

    Keep-alive probes (RFC 1122, 4.2.3.6; tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT) ask a peer that owes a reply
    or is idle; they rest while something sent is not acknowledged, which TCP_USER_TIMEOUT (RFC 5482) bounds. A living
    machine answers both, however long its server takes for a statement. What a system does not have is left out.
    """
    try:
        for name, value in _options_against_a_dead_peer(seconds):
            sock.setsockopt(socket.IPPROTO_TCP, name, value)
    except OSError:
        pass  # no such option, or not this value of it


@lru_cache(maxsize=16)
def _options_against_a_dead_peer(seconds: float) -> Sequence[tuple[int, int]]:
    idle = max(1, int(seconds / 2))
    interval = max(1, int(seconds / 6))
    count = max(1, round((seconds - idle) / interval))
    options = {
        "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE": idle,  # the latter is macOS's
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": count,
        "TCP_USER_TIMEOUT": int(seconds * 1000),
    }
    return tuple((getattr(socket, name), value) for name, value in options.items() if hasattr(socket, name))


def _is_of_nonsense(connection: WireConnection, error: Exception) -> bool:
    """Return whether PyMySQL's login failed because it could not read what was sent: its own errors carry no number
    then, and a packet that is too short raises anything."""
    if isinstance(error, err.MySQLError):
        return not (error.args and isinstance(error.args[0], int))
    if isinstance(error, ValueError) and not isinstance(error, UnicodeDecodeError):
        version = getattr(connection, "server_version", "")
        return bool(version) and not version.split(".")[0].isdecimal()
    return isinstance(error, struct.error | IndexError | AssertionError | UnboundLocalError | UnicodeDecodeError)


def reach(connection: Any, deadline: float, tcp_user_timeout: float | None = None, give_up: GiveUp = None) -> Any:
    """Open a socket for `connection`, and wait for the server's first bytes, all before `deadline`.

    `give_up` is asked from time to time while the server has not answered; True ends the attempt.

    Raises:
        pymysql.err.OperationalError: the server cannot be reached, or does not answer in time.
    """
    try:
        sock = open_socket(connection, deadline, tcp_user_timeout, give_up)
        try:
            _await_greeting(sock, deadline, give_up)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise _unreachable(connection, error) from error
    return sock


def _unreachable(connection: Any, error: OSError) -> err.OperationalError:
    return err.OperationalError(
        CR.CR_CONN_HOST_ERROR, f"Can't connect to MySQL server on {connection.host!r} ({error})"
    )


def establish(connection: WireConnection, sock: Any, deadline: float) -> list[bytes]:
    """Log in on `sock`, which `reach` has opened, before `deadline`, without the set-up statements (`recipe` has them).

    Returns:
        What PyMySQL has sent.

    Raises:
        pymysql.err.OperationalError: the server refuses, or does not answer in time.
    """
    setup = connection.sql_mode, connection.init_command, connection.autocommit_mode
    connection._establishing = True
    connection.sql_mode = connection.init_command = connection.autocommit_mode = None
    said: list[bytes] = []
    send = connection._write_bytes

    def record(data: bytes) -> None:
        said.append(data)
        send(data)

    try:
        connection._write_bytes = record  # type: ignore[method-assign]
        left = remaining(deadline)
        sock.settimeout(left)
        connection._read_timeout = connection._write_timeout = left
        connection.connect(sock)
        shared = connection.__dict__.get("ctx")
        if isinstance(shared, SharedContext):
            if isinstance(connection._sock, ssl.SSLSocket):
                shared.remember(connection._sock)
            connection.__dict__["ctx"] = shared.context  # the value that PyMySQL leaves there
    except OSError as error:
        raise _unreachable(connection, error) from error
    except Exception as error:
        if not _is_of_nonsense(connection, error):
            raise
        raise err.OperationalError(
            CR.CR_SERVER_HANDSHAKE_ERR,
            f"what listens on {connection.host!r} does not log in as a MySQL server does ({type(error).__name__}: "
            f"{error})",
        ) from error
    finally:
        connection._write_bytes = send  # type: ignore[method-assign]
        if not connection.open:
            sock.close()
        connection.sql_mode, connection.init_command, connection.autocommit_mode = setup
        connection._establishing = False
    return said
