"""The numbers of all processes of an application, in a folder that they share.

Each process writes one file once a second, in a daemon thread that `Board.publish` starts (in a forked child again),
and once more at its end. Under uWSGI that thread may not run, or was not started, since no fork hook ran: then returns
of connections write. A reader adds up all files. The counters of a process or pool that has ended are kept in the
sum, its gauges (in use, idle, waiting) are not. `ended.py` merges the files of ended processes into one.

A file is replaced in one step, so that a reader never sees half of it. Numbers are at most `INTERVAL` old. What a
process that was killed had counted since its last write is in its second file (`counts_file.py`). Where a process
cannot write (the disk is full, the folder is another user's), a page that it answers shows its own numbers all the
same; the log says so once.

A drain is requested by a file in the folder; each process reads it at its next write.

Never: writes a user or a password; trusts a file that it cannot read; fails the application because of the folder.
"""

from __future__ import annotations

import atexit
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import monotonic, time
from typing import Any

from .._pool import observed
from .._pool.registry import Entry, entries
from .._util.log import logger
from .counts_file import SUFFIX, CountsFile
from .drains import Drains, ask
from .ended import add_up, read_sum
from .files import FORMAT, content_of, names_in
from .process import follow, looks_and_ended
from .running import own_name

INTERVAL = 1.0  # seconds
_LATE = 1.5 * INTERVAL  # since the last line: the thread does not run
FOLDER = "PYMYSQLPOOL_BOARD"  # environment variable: the folder
_PROMETHEUS = "PROMETHEUS_MULTIPROC_DIR"
_CURVE = 60  # samples that are kept for a curve
_ADD_UP_EVERY = 60  # lines
_MOMENT = 0.05  # seconds


def default_folder() -> Path | None:
    """Return the environment's folder: PYMYSQLPOOL_BOARD, else `pymysqlpool` in PROMETHEUS_MULTIPROC_DIR."""
    if folder := os.environ.get(FOLDER):
        return Path(folder)
    if shared := os.environ.get(_PROMETHEUS):
        return Path(shared, "pymysqlpool")
    return None


def board(folder: str | os.PathLike[str] | None = None) -> Board | None:
    """Return the board in `folder` (default: the environment's), one object for each folder; None without one."""
    place = Path(folder) if folder is not None else default_folder()
    return _board(place.absolute()) if place is not None else None


@cache
def _board(folder: Path) -> Board:
    return Board(folder)


class Board:
    """The files in one folder. A missing folder is created, readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pid = 0  # of the process whose thread runs
        self._curve: dict[str, list[tuple[int, int]]] = {}  # by label: in use, waiting
        self._drains = Drains(folder)
        self._counts: CountsFile | None = None  # of the process `_pid`; guarded by _counts_lock
        self._failing: dict[str, tuple[Any, ...]] = {}  # what cannot be done, and the error that was logged
        self._stopped = threading.Event()  # the thread ends
        self._start_counting()
        follow()
        atexit.register(self._write_last)

    def _start_counting(self) -> None:
        """A forked child counts from zero, and its parent's thread may have held the lock."""
        self._counts_lock = threading.Lock()  # waited for a moment only: a signal handler may make a pool
        self._lock = threading.Lock()  # one write at a time: an older state must not replace a newer one
        self._written_at = 0.0  # monotonic

    def publish(self) -> None:
        """Start to write this process's numbers. Further calls do nothing; a forked child starts anew."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._curve = {}
        self._start_counting()
        if self._counts is not None:  # of the parent
            self._counts.leave()
            self._counts = None
        self._drains.ignore_those_there()
        _published.add(self)
        observed.follow_maintenance(_keep_up)
        observed.follow_starts(_count_in_file)
        self.count_in_file(entries())
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(self._stopped,), name="pymysqlpool board", daemon=True).start()

    def stop(self) -> None:
        """Stop writing in this process."""
        self._pid = -1
        self._stopped.set()
        _published.discard(self)
        with self._counts_lock:
            if self._counts is not None:
                self._counts.leave()
            self._counts = None

    def count_in_file(self, those: list[Entry]) -> None:
        """Let the pools of `those` count in this process's file; where that cannot be, they go on in lists."""
        if self._pid != os.getpid() or not self._counts_lock.acquire(timeout=_MOMENT):
            return  # their turn comes with the next write
        try:
            if self._counts is not None and not self._counts.is_there:
                self._counts.leave()
                self._counts = None
            if self._counts is None:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._counts = CountsFile(self.folder / f"{own_name()}{SUFFIX}")
                those = entries()
            for entry in those:
                self._counts.add(entry)
        except OSError:
            pass  # it is told when the numbers are written
        finally:
            self._counts_lock.release()

    def keep_up(self) -> None:
        """Do the thread's work if it does not run here. Called at a return, so it waits for no other writer."""
        if self._pid != os.getpid():
            self.publish()
        if monotonic() - self._written_at > _LATE and self._lock.acquire(blocking=False):
            try:
                self._work_locked()
            finally:
                self._lock.release()

    def _run(self, stopped: threading.Event) -> None:
        lines = 0
        while not stopped.is_set():
            with self._lock:
                self._work_locked()
            if lines % _ADD_UP_EVERY == 0:
                with self._telling("add up"):
                    add_up(self.folder, self._replace)
            lines += 1
            stopped.wait(INTERVAL)

    def _work_locked(self) -> None:
        with self._telling("drain"):
            self._drains.carry_out()
        with self._telling("write"):
            self._write_locked(adds_to_curve=True)

    def _write_last(self) -> None:
        if self._pid == os.getpid():
            self.write()

    def write(self) -> dict[str, Any]:
        """Write this process's file now, if the folder allows it; return its content."""
        with self._lock:
            content: dict[str, Any] = {}
            with self._telling("write"):
                self._write_locked(adds_to_curve=False, content=content)
            return content

    def _write_locked(self, adds_to_curve: bool, content: dict[str, Any] | None = None) -> None:
        self._written_at = monotonic()
        content = {} if content is None else content
        self.count_in_file(entries())
        counts = self._counts
        done = counts.ended() if counts is not None else []  # before the look, which has their counts
        found, ended = looks_and_ended()
        self._add_curves(found, adds_to_curve)
        content |= {
            "format": FORMAT,
            "pid": os.getpid(),
            "name": own_name(),
            "at": time(),
            "drained": sorted(self._drains.seen),
            "pools": found,
            "closed": ended,
            "done": done,
        }
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have been removed meanwhile
        self._replace(f"{own_name()}.json", content)
        if done and counts is not None and self._counts_lock.acquire(timeout=_MOMENT):
            try:
                if self._counts is counts:
                    counts.free(done)
            finally:
                self._counts_lock.release()

    def _add_curves(self, found: list[dict[str, Any]], adds_to_curve: bool) -> None:
        """Give the first pool of each label the curve of all."""
        now: dict[str, tuple[int, int]] = {}
        for pool in found:
            in_use, waiting = now.get(pool["label"], (0, 0))
            now[pool["label"]] = in_use + pool["in_use"], waiting + pool["waiting"]
        curves = {label: self._curve.get(label, []) for label in now}
        if adds_to_curve:
            curves = {label: [*curve[1 - _CURVE :], now[label]] for label, curve in curves.items()}
            self._curve = curves
        for pool in found:
            pool["curve"] = curves.get(pool["label"], []) if now.pop(pool["label"], None) else []

    def _replace(self, name: str, content: Any, mode: int = 0o600) -> None:
        handle, new = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        try:
            with open(handle, "w") as file:
                file.write(json.dumps(content))  # `json.dump` is several times slower
            os.chmod(new, mode)
            os.replace(new, self.folder / name)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Log an error of the block, once until the block has succeeded or failed by another one."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - numbers for operators must not fail the application
            self._tell(what, error)
        else:
            self._failing.pop(what, None)

    def _tell(self, what: str, error: Exception) -> None:
        kind = type(error), getattr(error, "errno", None)
        if self._failing.get(what) != kind:
            self._failing[what] = kind
            logger.warning(
                "The numbers of pools in %s: can't %s: %s",
                self.folder,
                what,
                error,
                exc_info=None if isinstance(error, OSError) else error,
                extra={"event": "board failed", "folder": str(self.folder), "error": str(error)},
            )

    def read(self, own: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield what each process wrote last, with `alive`: whether it runs. The counts of closed pools, and those of
        ended processes, come as further entries that are not alive.

        Args:
            own: what this process writes at this moment, whether or not the folder takes it.
        """
        found, unreadable = {}, None
        for name in names_in(self.folder):
            try:
                if (content := content_of(self.folder, name)) is not None:
                    found[name] = content
            except PermissionError as error:
                unreadable = error
            except OSError:
                pass  # a folder, or removed at this moment
        with self._telling("read all files"):
            if unreadable is not None:
                raise unreadable
        if own:
            found[own["name"]] = own | {"alive": True}
        ended = read_sum(self.folder)  # after the files; the header of `ended.py` says why
        for name, content in found.items():
            if f"{name}.json" not in ended["names"]:
                yield content
                if closed := content.get("closed"):
                    yield content | {"alive": False, "pools": closed}
        if ended["pools"]:
            yield {"pid": 0, "name": "", "alive": False, "at": 0.0, "drained": [], "pools": ended["pools"]}

    def ask_for_drain(self, label: str | None) -> str:
        """Ask all processes to renew the connections of the pool `label`, or of all. Returns the name of the request,
        which each process that has seen it lists as `drained`."""
        return ask(self._replace, label)


_published: set[Board] = set()  # of this process and of those that it was forked from


def _keep_up() -> None:
    for its in [*_published]:
        its.keep_up()


def _publish_in_child() -> None:
    for its in [*_published]:
        its.publish()


def _count_in_file(entry: Entry) -> None:
    for its in [*_published]:
        with suppress(Exception):  # numbers for operators must not fail the application
            its.count_in_file([entry])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_publish_in_child)


def all_processes(folder: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """Return what each process of the board in `folder` wrote last, this process now; without a board, this process."""
    its = board(folder)
    if its is not None:
        its.publish()  # some servers fork workers without running the fork hooks
        return list(its.read(own=its.write()))
    follow()
    found, ended = looks_and_ended()
    this = {"pid": os.getpid(), "name": own_name(), "at": time()}
    return [this | {"alive": True, "pools": found}, this | {"alive": False, "pools": ended}]
