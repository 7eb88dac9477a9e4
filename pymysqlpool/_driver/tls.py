"""What the connections of a pool share of TLS: the contexts, and the last session with each host.

Building a context reads the system's certificates: 40 to 120 ms of CPU, once for a pool, and again when one of the
files that it was made of has changed on the disk. A session that is resumed (RFC 8446, section 2.2; RFC 5077 for TLS
1.2) spares both sides the certificates and their signatures. It was verified when it was new: for one host name, and
as the context demanded then. So it is resumed for that name only, and while the context demands the same.

What a context does not show cannot be compared: a client certificate that is loaded into a context of the user's own
after the first connection is used for new TLS sessions only; `drain()` forgets the old ones.

Owns: the contexts and the sessions of one pool. Never: decides what is verified; the context does.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from ..secrets import Secret, reveal


class SharedContext:
    """An `ssl.SSLContext`, as far as PyMySQL uses it, whose sockets resume the last session with the same host."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._demands = demands_of(context)  # those under which `_sessions` were made
        self._sessions: dict[str | None, ssl.SSLSession] = {}
        self._demands_of: WeakKeyDictionary[ssl.SSLSocket, Hashable] = WeakKeyDictionary()
        self._resumes = True

    def wrap_socket(self, sock: socket.socket, server_hostname: str | None = None) -> ssl.SSLSocket:
        demands = demands_of(self.context)
        if demands != self._demands:
            self._demands, self._sessions = demands, {}
        session = self._sessions.get(server_hostname) if self._resumes else None
        try:
            wrapped = self.context.wrap_socket(sock, server_hostname=server_hostname, session=session)
        except ssl.SSLError:
            if session is not None:
                # the next connection makes a full handshake; a server that cannot resume falls back by itself
                self._resumes = False
            raise
        self._demands_of[wrapped] = demands
        return wrapped

    def remember(self, sock: ssl.SSLSocket) -> None:
        """Keep the session of `sock`, over which something was read since the handshake: in TLS 1.3 only that brings
        the ticket."""
        if self._resumes and sock.session is not None and self._demands_of.get(sock) == self._demands:
            self._sessions[sock.server_hostname] = sock.session


class SharedContexts:
    """The contexts of one pool, by the `ssl` arguments they were made from."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Hashable, SharedContext]] = {}

    def forget(self) -> None:
        """Read all files anew for the next connection, and resume no session."""
        self._found.clear()

    def of(self, wanted: ssl.SSLContext | Mapping[str, Any], create: Callable[[Any], ssl.SSLContext]) -> SharedContext:
        """The context for `wanted`, which is made by `create` unless there is one of the same files as they are now.

        Raises:
            OSError: a file cannot be read, or has wrong content (`ssl.SSLError`).
        """
        if isinstance(wanted, ssl.SSLContext):
            key: Hashable = id(wanted)  # which is kept, so no other gets the number
            files: Hashable = None
        else:
            key = frozenset((name, _comparable(value)) for name, value in wanted.items())
            create = partial(_create_from, create)
            files = _state_of_files(wanted)  # before they are read: a change while they are read shows the next time
        found = self._found.get(key)
        if found is None or found[0] != files:
            found = self._found[key] = (
                files,
                SharedContext(create(wanted)),
            )
        return found[1]


def _create_from(create: Callable[[Any], ssl.SSLContext], wanted: Mapping[str, Any]) -> ssl.SSLContext:
    return create(reveal(wanted))


def demands_of(context: ssl.SSLContext) -> Hashable:
    """Return everything that `context` reveals about its demands on the peer."""
    return (
        context.verify_mode,
        context.check_hostname,
        context.hostname_checks_common_name,
        context.verify_flags,
        context.options,
        context.minimum_version,
        context.maximum_version,
        context.security_level,
        context.post_handshake_auth,
        tuple(context.cert_store_stats().items()),  # certificates of authorities, and lists of revoked ones
    )


def _comparable(value: Any) -> Hashable:
    return value if isinstance(value, Secret) else repr(value)


def _state_of_files(wanted: Mapping[str, Any]) -> Hashable:
    """When the files that a context is made of were changed: each with its folder's other files, where it is one."""
    paths = [wanted.get(name) for name in ("ca", "capath", "cert", "key")]
    if paths[0] is None and paths[1] is None:
        defaults = ssl.get_default_verify_paths()
        paths += [defaults.cafile, defaults.capath]
    folder = wanted.get("capath")
    if folder is not None and os.path.isdir(folder):
        paths += [entry.path for entry in os.scandir(folder)]
    return tuple(_state_of_file(path) for path in paths if path is not None)


def _state_of_file(path: str | os.PathLike[str]) -> Hashable:
    try:
        state = os.stat(path)
    except OSError:
        return os.fspath(path)
    return os.fspath(path), state.st_mtime_ns, state.st_ino, state.st_size
