"""The blocking driver of the protocol core: what it asks for is received from a socket.

`SocketSource` also stands in the place of the socket's file object, for what PyMySQL reads by itself: the handshake.
No byte is lost between the two. Owns: the received bytes of a blocking connection. Never: decides what an error means
for the connection.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from pymysql import err
from pymysql.constants import CR

from .deadline import remaining
from .protocol.packets import LOST
from .protocol.source import Source, Steps

SEGMENT = 16 * 1024  # bytes asked of the socket; twice as many each time they all come, while a reply is read
_LARGEST_SEGMENT = 256 * 1024


class SocketSource(Source):
    """A `Source` that knows the socket its bytes come from."""

    __slots__ = ("segment", "sock", "watch")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock: socket.socket | None = sock
        self.segment = SEGMENT
        self.watch: Any = None  # closed together with the socket: an event loop's view of it

    def run(self, steps: Steps, deadline: float | None = None, serve: Callable[[Any], Any] | None = None) -> Any:
        """Run `steps` of the core (see `protocol.reply`) to their end, and return what they return.

        Args:
            deadline: a monotonic instant, which each receive is to be before; None: the socket's own timeout holds.
            serve: does and answers what is asked beyond bytes.

        Raises:
            OSError, pymysql.err.OperationalError: of the socket; the stream has ended.
        """
        try:
            asked = steps.send(None)
            while True:
                try:
                    answer = self.receive(asked, deadline) if serve is None or type(asked) is int else serve(asked)
                except BaseException as error:  # noqa: BLE001 - thrown into the steps, which let it out
                    asked = steps.throw(error)
                else:
                    asked = steps.send(answer)
        except StopIteration as end:
            return end.value

    def refill(self, deadline: float | None = None) -> None:
        """Receive once, when all bytes have been read: usually a whole reply."""
        sock: Any = self.sock
        if sock is None:
            raise err.OperationalError(CR.CR_SERVER_LOST, LOST)  # closed under its user's hands
        if deadline is not None:
            sock.settimeout(remaining(deadline))
        self.segment = SEGMENT
        self.buffer = sock.recv(SEGMENT)
        self.position = 0
        if not self.buffer:
            raise err.OperationalError(CR.CR_SERVER_LOST, LOST)

    def receive(self, wanted: int, deadline: float | None = None) -> Any:
        """Receive until `wanted` bytes are unread, without copying all of them at each receive."""
        sock: Any = self.sock
        if sock is None:
            raise err.OperationalError(CR.CR_SERVER_LOST, LOST)  # closed under its user's hands
        rest = self.buffer[self.position :]
        parts = [rest] if rest else []
        gathered = len(rest)
        try:
            while gathered < wanted:
                if deadline is not None:
                    sock.settimeout(remaining(deadline))
                data = sock.recv(self.segment)
                if not data:
                    raise err.OperationalError(CR.CR_SERVER_LOST, LOST)
                if len(data) == self.segment < _LARGEST_SEGMENT:
                    self.segment *= 2
                parts.append(data)
                gathered += len(data)
        finally:
            self.buffer = b"".join(parts)
            self.position = 0

    # -- as a file, for PyMySQL ----------------------------------------------------------------------------

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer only at the end of the stream."""
        data = self.read1(size)
        while len(data) < size and (more := self.read1(size - len(data))):
            data += more
        return data

    def read1(self, size: int) -> bytes:
        """At most `size` bytes after at most one receive."""
        if self.position == len(self.buffer) and self.sock is not None:
            self.buffer = self.sock.recv(self.segment)
            self.position = 0
        start = self.position
        data = self.buffer[start : start + size]
        self.position = start + len(data)
        return data

    @property
    def closed(self) -> bool:
        return self.sock is None

    def close(self) -> None:
        self.sock = None
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.close()
