"""`Watched`: one socket that a loop watches for bytes, and how the watch ends.

It watches a duplicate of the socket's descriptor. A socket that another thread closes therefore leaves no entry in the
loop's selector that a new socket with the same number could meet; the loop removes the watch a moment later.

Never: sends, receives, closes the socket.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from threading import get_ident
from typing import Any


class Watched:
    __slots__ = ("_descriptor", "_is_watched", "_loop", "_pid", "_socket", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: Any) -> None:
        """Raises NotImplementedError if the loop cannot watch descriptors, as Windows' Proactor loop cannot."""
        self._descriptor = -1
        self._loop = loop
        self._thread = get_ident()
        self._pid = os.getpid()
        self._socket = sock
        self._descriptor = os.dup(sock.fileno())
        self._is_watched = False
        self._watch()

    def is_for(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop is loop and self._descriptor >= 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_here(self) -> bool:
        """Whether its loop is the one that runs in this thread."""
        return self.is_for(asyncio.get_running_loop()) if asyncio._get_running_loop() is not None else False

    def _readable(self) -> None:
        """There are bytes, or the stream has ended."""
        raise NotImplementedError

    def _lost(self) -> None:
        """The watch ends: a task may still wait."""
        raise NotImplementedError

    def _watch(self) -> None:
        self._loop.add_reader(self._descriptor, self._readable)
        self._is_watched = True
        self._let_threads_wait()

    def _let_threads_wait(self) -> None:
        """Set the socket to blocking again: uvloop makes a watched descriptor, and so the socket, non-blocking."""
        if not isinstance(self._loop, asyncio.SelectorEventLoop) and self._socket.gettimeout() is None:
            os.set_blocking(self._descriptor, True)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """End the session: the socket is closed, or a session of another loop takes it over. Any thread may call it."""
        # In a forked child the loop's selector is shared with the parent, so it is left alone (Invariant 13).
        if self._pid == os.getpid() and not self._loop.is_closed():
            if get_ident() == self._thread:
                self._leave()
                return
            with suppress(RuntimeError):  # the loop was closed at this moment
                self._loop.call_soon_threadsafe(self._leave)
                return
        self._close_descriptor()

    def _leave(self) -> None:
        self._lost()
        self._unwatch()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self._close_descriptor()  # the loop refers to what it watches, so there is no watch any more
