"""Small helpers for tests: waiting for a visible state, and counting what reaches the server."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def wait_until(state: Callable[[], Any], what: str, timeout: float = 10.0) -> Any:
    """Spin until `state()` is true; fail with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = state()
        if value:
            return value
        assert time.monotonic() < deadline, f"never happened: {what}"
        threading.Event().wait(0.002)


class Bolt(BaseException):
    """What strikes a thread, mostly from outside; no `except Exception` catches it."""


def strike(thread: threading.Thread) -> None:
    """Raise a `Bolt` in `thread`, at one of its next bytecodes."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Bolt))


class Questions:
    """Round trips of one session, counted by the server itself."""

    def __init__(self, admin: Any) -> None:
        self._admin = admin

    def total(self) -> int:
        """Statements of every session so far: Com_* of all kinds and Questions, without this look's own."""
        with self._admin.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Queries'")
            return int(cursor.fetchone()[1])

    @contextmanager
    def during(self) -> Iterator[list[int]]:
        """Yield a list that holds, after the block, how many statements the server received in it."""
        counted: list[int] = []
        self.total()
        before = self.total()
        yield counted
        # the look at the end counts itself
        counted.append(self.total() - before - 1)


def run_threads(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(index)` in `number` threads at once; returns what each returned or raised."""
    results: list[Any] = [None] * number
    barrier = threading.Barrier(number)

    def body(index: int) -> None:
        barrier.wait()
        try:
            results[index] = work(index)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            results[index] = error

    threads = [threading.Thread(target=body, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


def in_child(work: Callable[[], Any]) -> str:
    """Run `work` in a forked child; what it returned or raised, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = f"returned {work()}"
        except BaseException as error:  # noqa: BLE001 - told to the parent
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def freeze(pid: int) -> None:
    """Stop the process, and return when all its threads have stopped: a signal takes its time to reach them."""
    os.kill(pid, signal.SIGSTOP)

    def states() -> set[str]:
        # proc(5): the state follows the name, which stands in parentheses and may hold blanks.
        return {path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}

    wait_until(lambda: states() <= {"T"}, f"process {pid} is frozen")
