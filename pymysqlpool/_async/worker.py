"""Worker threads of an event loop: calls in threads, wake-ups of tasks, and clean-up after a cancelled task.

Cancelling a task does not end the thread that works for it. A call in a thread is therefore a `ThreadCall`: the last
of the two, the thread or the waiting task, cleans up after it. A thread wakes a task with a `ThreadsafeEvent`.
`WorkerThreads` are the threads of one pool in one process.

Never: knows about connections, blocks the loop for longer than starting a thread takes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
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
    """Return whether an asyncio event loop runs in the calling thread."""
    return asyncio._get_running_loop() is not None


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the asyncio event loop that runs in this thread.

    Raises:
        RuntimeError: no asyncio loop runs here, for example under trio.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError(
            "AsyncConnectionPool works on asyncio, and no asyncio event loop runs here. Under trio, use the sync "
            "ConnectionPool in threads: `await anyio.to_thread.run_sync(...)`, or sync endpoints"
        )
    return loop


class ThreadsafeEvent:
    """An event that one task awaits and any thread can set."""

    __slots__ = ("_is_set", "_loop", "_sleeper", "_thread")

    def __init__(self) -> None:
        self._loop = running_loop()
        self._thread = get_ident()  # the loop's
        self._is_set = False
        self._sleeper: asyncio.Future[None] | None = None  # touched in the loop's thread only

    def set(self) -> None:
        self._is_set = True
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            if get_ident() == self._thread:
                self._wake()  # the loop is awake: it runs this code
            else:
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self) -> None:
        if not self._is_set:
            self._sleeper = self._loop.create_future()
            try:
                await self._sleeper
            finally:
                self._sleeper = None


async def wait_for_all(events: Iterable[ThreadsafeEvent | None]) -> None:
    """Wait until all `events` are set; None stands for what is done already."""
    for event in events:
        if event is not None:
            await event.wait()


async def in_a_thread_of_its_own(call: Callable[[], T], name: str) -> T:
    """Run `call` in a new thread, without a free worker, and wait for it. After a cancellation the call continues."""
    done = ThreadsafeEvent()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the task
            errors.append(error)
        finally:
            done.set()

    thread = Thread(target=work, name=name)
    thread.start()
    await done.wait()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class _Stage(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REVOKED = "revoked"  # abandoned before it began; it will not run
    ABANDONED = "abandoned"  # abandoned while it ran


class ThreadCall:
    """A call in a worker thread that its waiting task may abandon.

    QUEUED -> RUNNING -> DONE; QUEUED -> REVOKED; or RUNNING -> ABANDONED -> DONE, and then the thread calls
    `if_abandoned`.
    """

    __slots__ = ("_call", "_if_abandoned", "_lock", "_stage")

    def __init__(self, call: Callable[[], Any], if_abandoned: Callable[[], object]) -> None:
        self._call = call
        self._if_abandoned = if_abandoned
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
                abandoned = self._stage is _Stage.ABANDONED
                self._stage = _Stage.DONE
            if abandoned:
                self._if_abandoned()

    def abandon(self, interrupt: Callable[[], object] = lambda: None) -> bool:
        """Abandon the call. Return True if it is running: then `interrupt` was called, and the thread will clean up."""
        with self._lock:
            if self._stage is _Stage.QUEUED:
                self._stage = _Stage.REVOKED
            elif self._stage is _Stage.RUNNING:
                self._stage = _Stage.ABANDONED
                interrupt()  # before the thread can pass the connection to another borrower
            return self._stage is _Stage.ABANDONED


class WorkerThreads:
    """The threads that run one pool's calls; started on demand, and again in a forked child (Invariant 13).

    Args:
        most: returns the maximum number of threads at this moment.
        name: prefix of the threads' names.
    """

    def __init__(self, most: Callable[[], int], name: str) -> None:
        self._most = most
        self._name = name
        self._lock = StepLock()  # guards the three below
        self._pid = 0
        self._number = 0
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, call: ThreadCall, users: bool = False) -> Any:
        """Run the call in a thread and return its result.

        Args:
            users: it runs a function of the user's. With asgiref installed it runs through asgiref, so that
                `async_to_sync` inside it returns to this loop.
        """
        loop = running_loop()
        executor = self._lock.step(self._start_locked)
        if users and (bridge := _sync_to_async()) is not None:
            return await bridge(call.run, thread_sensitive=False, executor=executor)()
        return await loop.run_in_executor(executor, copy_context().run, call.run)

    def submit(self, work: Callable[[], object]) -> None:
        """Run `work` in a thread, without waiting."""
        if not self._lock.put_off(self.submit, work):
            self._lock.step(self._submit_locked, work)

    def _submit_locked(self, work: Callable[[], object]) -> None:
        self._start_locked().submit(work)

    def _start_locked(self) -> ThreadPoolExecutor:
        most = self._most()
        if self._executor is None or self._pid != os.getpid() or self._number < most:
            if self._executor is not None and self._pid == os.getpid():
                self._executor.shutdown(wait=False)  # calls that have begun are completed
            self._pid = os.getpid()
            self._number = most
            self._executor = ThreadPoolExecutor(most, self._name)
        return self._executor

    def end(self, wait: bool) -> None:
        """End the threads once they are idle; the next call starts new ones."""
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
    """Return asgiref's `sync_to_async`, or None if asgiref is not installed."""
    try:
        from asgiref.sync import sync_to_async
    except ImportError:
        return None
    return sync_to_async
