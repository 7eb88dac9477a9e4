"""What the connections of a pool share of TLS: the context, and the last session with each host.

Building a context reads the system's certificates: 40 to 120 ms of CPU, once for a pool. A session that is resumed
(RFC 8446, section 2.2; RFC 5077 for TLS 1.2) spares both sides the certificates and their signatures. It was verified
when it was new, for the host name under which it is kept here; `drain()` forgets it.
"""

from __future__ import annotations

import socket
import ssl


class SharedContext:
    """An `ssl.SSLContext`, as far as PyMySQL uses it, whose sockets resume the last session with the same host."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self._sessions: dict[str | None, ssl.SSLSession] = {}
        self._resumes = True

    def wrap_socket(self, sock: socket.socket, server_hostname: str | None = None) -> ssl.SSLSocket:
        session = self._sessions.get(server_hostname) if self._resumes else None
        try:
            return self.context.wrap_socket(sock, server_hostname=server_hostname, session=session)
        except ssl.SSLError:
            if session is not None:
                self._resumes = False  # the next one is made anew; a server that cannot resume should say so politely
            raise

    def remember(self, sock: ssl.SSLSocket) -> None:
        """Keep the session of `sock`, over which something was read since the handshake: in TLS 1.3 only that brings
        the ticket."""
        if self._resumes and sock.session is not None:
            self._sessions[sock.server_hostname] = sock.session
