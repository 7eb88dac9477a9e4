"""A TCP proxy between a pool and its server that misbehaves on demand."""

from __future__ import annotations

import itertools
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards to `target`. `delay` (seconds), `stalled` (bytes wait), `deaf` (bytes vanish) and `rewrite` (what both
    sides send goes through it) may be set at any time. `refusing`: new connections are accepted and closed;
    `refuses_half`: every second one is. `forget()`: those that are there are silent from now on."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.swallowed = 0  # times that bytes vanished
        self.accept_times: list[float] = []
        self.delay = 0.0
        self.stalled = False
        self.deaf = False
        self.refusing = False
        self.refuses_half = False
        self.rewrite: Callable[[bytes], bytes] = bytes
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._forgotten: list[socket.socket] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    @property
    def open(self) -> int:
        """The number of connections."""
        return len(self._pairs)

    def cut(self) -> None:
        """End every connection, politely (FIN)."""
        for end in itertools.chain(*list(self._pairs)):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End every connection with a RST towards the pool."""
        for client, server in list(self._pairs):
            with suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                server.shutdown(socket.SHUT_RDWR)

    def half_close(self) -> None:
        """The server's side ends; the pool's may go on sending."""
        for client, _ in list(self._pairs):
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)

    def forget(self) -> None:
        """Nothing gets through on the connections that there are; new ones work. As a NAT that has lost its table."""
        self._forgotten = [client for client, _ in list(self._pairs)]

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            self.accepted += 1
            self.accept_times.append(time.monotonic())
            if self.refusing or (self.refuses_half and self.accepted % 2):
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            thread = threading.Thread(target=self._pump, args=(client, server))
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        selector = selectors.DefaultSelector()
        other = {client: server, server: client}
        try:
            for end in other:
                selector.register(end, selectors.EVENT_READ)
            while not self._stop.is_set():
                if self.stalled:
                    self._stop.wait(0.01)
                    continue
                for key, _ in selector.select(0.05):
                    end: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = end.recv(65536)
                    if not data:
                        return
                    if self.deaf or client in self._forgotten:
                        self.swallowed += 1
                        continue
                    if self.delay:
                        self._stop.wait(self.delay)
                    other[end].sendall(self.rewrite(data))
        except (OSError, ValueError, KeyError):
            return
        finally:
            selector.close()
            client.close()
            server.close()
            self._pairs.remove((client, server))
