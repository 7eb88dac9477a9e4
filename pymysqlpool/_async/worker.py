"""Between an event loop and its worker threads: who wakes whom, and who cleans up when a task leaves early.

A cancelled task does not end the thread that works for it. So a call in a thread is an `Errand`, and whoever is last,
the thread or the task that waits for it, cleans up after it. `Bell` is how a thread wakes a task; `Workers` are the
threads of one pool in one process.

Never: knows of connections, blocks the loop for longer than starting a thread takes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from enum import Enum
from functools import cache
from threading import Thread, get_ident
from typing import Any, TypeVar

from .._util.lock import StepLock, new_lock
from ..errors import ConnectionInterruptedError

T = TypeVar("T")


def runs_asyncio() -> bool:
    """Whether the calling thread is one in which an asyncio event loop runs at this moment."""
    return asyncio._get_running_loop() is not None


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that this code runs on.

    Raises:
        RuntimeError: it runs on none, or on another kind's, as trio's.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError(
            "AsyncConnectionPool works on asyncio, and no asyncio event loop runs here. Under trio, use the sync "
            "ConnectionPool in threads: `await anyio.to_thread.run_sync(...)`, or sync endpoints"
        )
    return loop


class Bell:
    """Any thread rings it, one task waits for it."""

    __slots__ = ("_loop", "_rung", "_sleeper", "_thread")

    def __init__(self) -> None:
        self._loop = running_loop()
        self._thread = get_ident()  # the loop's
        self._rung = False
        self._sleeper: asyncio.Future[None] | None = None  # touched in the loop's thread only

    def ring(self) -> None:
        self._rung = True
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            if get_ident() == self._thread:
                self._wake()  # the loop is awake: it runs us
            else:
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        """Until it rings, or for `timeout` seconds; now and then it ends early. True when it rang."""
        if not self._rung:
            self._sleeper = self._loop.create_future()
            alarm = self._loop.call_later(timeout, self._wake) if timeout is not None else None
            try:
                await self._sleeper
            finally:
                self._sleeper = None
                if alarm is not None:
                    alarm.cancel()
        rung, self._rung = self._rung, False
        return rung


async def in_a_thread_of_its_own(call: Callable[[], T], name: str) -> T:
    """Wait for `call`, which needs no worker to be free. When cancelled, it goes on without us."""
    bell = Bell()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the task
            errors.append(error)
        finally:
            bell.ring()

    thread = Thread(target=work, name=name)
    thread.start()
    while not await bell.wait():
        pass
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class _Stage(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REVOKED = "revoked"  # left before it began: it never will
    LEFT = "left"  # left while it ran


class Errand:
    """A call in a worker thread. Whoever is last, the thread or the task that waits for it, cleans up.

    QUEUED -> RUNNING -> DONE, or QUEUED -> REVOKED, or RUNNING -> LEFT -> DONE: then the thread calls `if_left`.
    """

    __slots__ = ("_call", "_if_left", "_lock", "_stage")

    def __init__(self, call: Callable[[], Any], if_left: Callable[[], object]) -> None:
        self._call = call
        self._if_left = if_left
        self._lock = new_lock()
        self._stage = _Stage.QUEUED  # guarded by _lock

    def run(self) -> Any:
        with self._lock:
            if self._stage is not _Stage.QUEUED:
                raise ConnectionInterruptedError("the connection was given back before this statement was sent")
            self._stage = _Stage.RUNNING
        try:
            return self._call()
        finally:
            with self._lock:
                left = self._stage is _Stage.LEFT
                self._stage = _Stage.DONE
            if left:
                self._if_left()

    def leave(self, hurry: Callable[[], object] = lambda: None) -> bool:
        """Nobody wants the result any more. True when the thread is at it and will clean up; it is told to `hurry`."""
        with self._lock:
            if self._stage is _Stage.QUEUED:
                self._stage = _Stage.REVOKED
            elif self._stage is _Stage.RUNNING:
                self._stage = _Stage.LEFT
                hurry()  # before the thread can give the connection to somebody else
            return self._stage is _Stage.LEFT


class Workers:
    """The threads that run one pool's errands. Started when needed, anew in a forked child.

    Args:
        most: how many there may be at this moment.
        name: what the threads are called.
    """

    def __init__(self, most: Callable[[], int], name: str) -> None:
        self._most = most
        self._name = name
        self._lock = StepLock()  # guards the three below
        self._pid = 0
        self._number = 0
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, errand: Errand, users: bool = False) -> Any:
        """The errand's result, from a thread.

        Args:
            users: it calls a function of the user's, for which asgiref is the bridge: inside it `async_to_sync` comes
                back to this loop.
        """
        loop = running_loop()
        executor = self._lock.step(self._start_locked)
        if users and (bridge := _sync_to_async()) is not None:
            return await bridge(errand.run, thread_sensitive=False, executor=executor)()
        return await loop.run_in_executor(executor, copy_context().run, errand.run)

    def submit(self, work: Callable[[], object]) -> None:
        """Do `work` in a thread, and wait for nothing."""
        if not self._lock.put_off(self.submit, work):
            self._lock.step(self._submit_locked, work)

    def _submit_locked(self, work: Callable[[], object]) -> None:
        self._start_locked().submit(work)

    def _start_locked(self) -> ThreadPoolExecutor:
        most = self._most()
        if self._executor is None or self._pid != os.getpid() or self._number < most:
            if self._executor is not None and self._pid == os.getpid():
                self._executor.shutdown(wait=False)  # what it has begun it does to the end
            self._pid = os.getpid()
            self._number = most
            self._executor = ThreadPoolExecutor(most, self._name)
        return self._executor

    def end(self, wait: bool) -> None:
        """End the threads, once they are done; the next errand would start new ones."""
        if self._lock.put_off(self.end, wait):
            return
        executor = self._lock.step(self._take_locked)
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait)

    def _take_locked(self) -> ThreadPoolExecutor | None:
        executor, self._executor = self._executor, None
        return executor


@cache
def _sync_to_async() -> Any:
    """asgiref's, where it is installed."""
    try:
        from asgiref.sync import sync_to_async
    except ImportError:
        return None
    return sync_to_async
