"""A TCP link that is slow, or counted: stands between a client and a server on this machine.

    with Link(("127.0.0.1", 3306), delay=0.001) as link:
        pymysql.connect(host="127.0.0.1", port=link.port)

Everything that a client sends arrives `delay` seconds later, in order; answers come back at once, so `delay` is what
each round trip costs more. `round_trips` counts how often a client sent after the server had (or at the beginning);
`requests` counts the client's packets of MySQL's protocol, which is meaningless under TLS.

As a program (`python -m benchmarks.proxy HOST PORT DELAY`) it prints its port, and ends with its standard input: in a
process of its own it does not take the client's time. Threads and not asyncio: an event loop sleeps whole milliseconds.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

_CHUNK = 1 << 16


class Link:
    """A listening socket on 127.0.0.1, and three threads per connection until `close()`."""

    def __init__(self, target: tuple[str, int], delay: float = 0.0) -> None:
        self._target = target
        self._delay = delay
        self._lock = threading.Lock()
        self._server_spoke_last = True  # guarded by _lock, as are all below
        self.round_trips = 0
        self.requests = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._open = 0  # connections
        self._unused = threading.Condition(self._lock)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def reset(self) -> None:
        """Count from zero."""
        with self._lock:
            self.round_trips = self.requests = 0
            self._server_spoke_last = True

    def wait_until_unused(self, timeout: float = 10.0) -> None:
        """Return when all connections have ended and been delivered to their end: what comes now is new.

        Raises:
            TimeoutError: some are open after `timeout` seconds.
        """
        with self._unused:
            if not self._unused.wait_for(lambda: not self._open, timeout):
                raise TimeoutError(f"{self._open} connections over the link are still open after {timeout} s")

    def close(self) -> None:
        """Cut every connection; returns when all threads have ended."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            _shut(one)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [client, server]
                self._open += 1
            due: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            self._start(self._listen, client, due)
            self._start(self._deliver, due, server)
            self._start(self._answer, server, client)

    def _listen(self, client: socket.socket, due: SimpleQueue[tuple[float, bytes]]) -> None:
        packets = _PacketCounter()
        while True:
            data = _receive(client)
            due.put((time.monotonic() + self._delay, data))
            if not data:
                return
            with self._lock:
                self.requests += packets.feed(data)
                self.round_trips += self._server_spoke_last
                self._server_spoke_last = False

    def _deliver(self, due: SimpleQueue[tuple[float, bytes]], server: socket.socket) -> None:
        while True:
            when, data = due.get()
            left = when - time.monotonic()
            if left > 0:
                time.sleep(left)
            if not data:
                _shut(server)
                return
            with suppress(OSError):
                server.sendall(data)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        while data := _receive(server):
            with self._lock:
                self._server_spoke_last = True
            with suppress(OSError):
                client.sendall(data)
        _shut(client)
        with self._unused:
            self._open -= 1
            self._unused.notify_all()


class _PacketCounter:
    """Counts packets in a stream that comes in pieces. A packet: length (3 bytes), number (1 byte), payload."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> int:
        self._rest += data
        count = at = 0
        while len(self._rest) - at >= 4:
            end = at + 4 + int.from_bytes(self._rest[at : at + 3], "little")
            if end > len(self._rest):
                break
            at = end
            count += 1
        del self._rest[:at]
        return count


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(_CHUNK)
    except OSError:
        return b""


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _main(host: str, port: str, delay: str) -> None:
    with Link((host, int(port)), float(delay)) as link:
        print(link.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
