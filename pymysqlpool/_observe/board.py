"""The numbers of all processes of an application, in a folder that they share.

Each process writes one file once a second, in a daemon thread that `Board.publish` starts (in a forked child again),
and once more at its end. Under uWSGI that thread may not run, or was not started, since no fork hook ran: then returns
of connections write. A reader adds up all files. The counters of a process or pool that has ended are kept in the
sum, its gauges (in use, idle, waiting) are not. `ended.py` merges the files of ended processes into one.

A file is replaced in one step, so that a reader never sees half of it. Numbers are at most `INTERVAL` old. A process
that is killed, and a pool that is garbage-collected, lose what they counted since the last write.

A drain is requested by a file in the folder; each process reads it at its next write.

Never: writes a user or a password; trusts a file that it cannot read.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from time import monotonic, time
from typing import Any

from .._pool import observed
from .._pool.core import open_pools
from ..metrics import pools, snapshot
from .counts import counts_of, merged
from .ended import REST, add_up, read_sum

INTERVAL = 1.0  # seconds
_LATE = 1.5 * INTERVAL  # since the last line: the thread does not run
FOLDER = "PYMYSQLPOOL_BOARD"  # environment variable: the folder
_PROMETHEUS = "PROMETHEUS_MULTIPROC_DIR"
_FORMAT = 2
_CURVE = 60  # samples that are kept for a curve
_ADD_UP_EVERY = 60  # lines
_DRAIN = "drain"  # the file by which a drain is asked for


def looks() -> list[dict[str, Any]]:
    """Return for each pool of this process its numbers, the holders of its connections, and its last events."""
    return [_look(pool) for pool in pools()]


def _look(pool: Any) -> dict[str, Any]:
    return snapshot(pool) | {
        "borrowers": [asdict(one) for one in pool.borrowers()],
        "events": [asdict(one) for one in pool.events()],
    }


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
        self._drained_at = 0.0  # when the last drain that this process carried out was requested
        self._start_counting()
        atexit.register(self._write_last)

    def _start_counting(self) -> None:
        """A forked child counts from zero, and its parent's thread may have held the lock."""
        self._lock = threading.Lock()  # one write at a time: an older state must not replace a newer one
        self._written_at = 0.0  # monotonic
        self._seen: dict[int, tuple[Any, dict[str, Any]]] = {}  # by id: a weak reference, and the last numbers
        self._dropped: list[dict[str, Any]] = []  # counts of pools that were garbage-collected, by label

    def publish(self) -> None:
        """Start to write this process's numbers. Further calls do nothing; a forked child starts anew."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._curve = {}
        self._start_counting()
        self._drained_at = time()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _published.add(self)
        observed.follow_maintenance(_keep_up)
        threading.Thread(target=self._run, args=(self._pid,), name="pymysqlpool board", daemon=True).start()

    def stop(self) -> None:
        """Stop writing in this process."""
        self._pid = -1
        _published.discard(self)

    def keep_up(self) -> None:
        """Do the thread's work if it does not run here. Called at a return, so it waits for no other writer."""
        if self._pid != os.getpid():
            self.publish()
        if monotonic() - self._written_at > _LATE and self._lock.acquire(blocking=False):
            try:
                self._drain_if_asked()
                self._write_locked(adds_to_curve=True)
            finally:
                self._lock.release()

    def _run(self, pid: int) -> None:
        pause, lines = threading.Event(), 0
        while self._pid == pid == os.getpid():
            with suppress(OSError):
                self._drain_if_asked()
                self._write(adds_to_curve=True)
                if lines % _ADD_UP_EVERY == 0:
                    add_up(self.folder, _has_ended, self._replace)
            lines += 1
            pause.wait(INTERVAL)

    def _write_last(self) -> None:
        if self._pid == os.getpid():
            with suppress(OSError):
                self.write()

    def write(self) -> None:
        """Write this process's file now."""
        self._write(adds_to_curve=False)

    def _write(self, adds_to_curve: bool) -> None:
        with self._lock:
            self._write_locked(adds_to_curve)

    def _write_locked(self, adds_to_curve: bool) -> None:
        self._written_at = monotonic()
        found, closed = self._look_locked()
        for pool in found:
            curve = self._curve.setdefault(pool["label"], [])
            if adds_to_curve:
                curve.append((pool["in_use"], pool["waiting"]))
                del curve[:-_CURVE]
            pool["curve"] = list(curve)
        content = {
            "format": _FORMAT,
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "at": time(),
            "drained_at": self._drained_at,
            "pools": found,
            "closed": closed,
        }
        self._replace(f"{content['pid']}-{content['started']}.json", content)

    def _look_locked(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the numbers of each open pool, and the counts of those that were closed or dropped, by label."""
        pid, there = os.getpid(), list(open_pools)
        for key, (reference, numbers) in list(self._seen.items()):
            if reference() is None:
                del self._seen[key]
                self._dropped = merged([*self._dropped, counts_of(pid, numbers)])
        found, closed = [], []
        for pool in there:
            numbers = _look(pool)
            self._seen[id(pool)] = weakref.ref(pool), numbers
            if pool.is_closed:
                closed.append(counts_of(pid, numbers))
            else:
                found.append(numbers)
        return found, merged([*self._dropped, *closed])

    def _replace(self, name: str, content: Any, mode: int = 0o600) -> None:
        handle, new = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        with open(handle, "w") as file:
            json.dump(content, file)
        os.chmod(new, mode)
        os.replace(new, self.folder / name)

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what each process wrote last, with `alive`: whether it runs. The counts of closed pools, and those of
        ended processes, come as further entries that are not alive."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(path.read_text())
                if content["format"] == _FORMAT:
                    content["alive"] = _started(content["pid"]) == content["started"] and not _is_old(content["at"])
                    found[path.name] = content
        ended = read_sum(self.folder)  # after the files; the header of `ended.py` says why
        for name, content in found.items():
            if name not in ended["names"]:
                yield content
                if closed := content.get("closed"):
                    yield content | {"alive": False, "pools": closed}
        if ended["pools"]:
            yield {"pid": 0, "alive": False, "at": 0.0, "drained_at": 0.0, "pools": ended["pools"]}

    # -- drains --------------------------------------------------------------------------------------------

    def ask_for_drain(self, label: str | None) -> float:
        """Ask all processes to renew the connections of the pool `label`, or of all; returns when, as `drained_at`."""
        at = time()
        self._replace(_DRAIN, {"at": at, "label": label}, mode=0o644)  # root may ask, the processes must read
        return at

    def _drain_if_asked(self) -> None:
        try:
            asked = json.loads((self.folder / _DRAIN).read_text())
            at, label = float(asked["at"]), asked["label"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # there is no drain, or no readable one: the numbers must be written in any case
        if at > self._drained_at:
            for pool in pools():
                if label in (None, pool.label):
                    pool.drain()
            self._drained_at = at


_published: set[Board] = set()  # of this process and of those that it was forked from


def _keep_up() -> None:
    for its in [*_published]:
        with suppress(OSError):
            its.keep_up()


def _publish_in_child() -> None:
    for its in [*_published]:
        with suppress(OSError):
            its.publish()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_publish_in_child)


def all_processes(folder: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """Return what each process of the board in `folder` wrote last, this process now; without a board, this process."""
    its = board(folder)
    if its is None:
        return [{"pid": os.getpid(), "alive": True, "at": time(), "pools": looks()}]
    its.publish()  # some servers fork workers without running the fork hooks
    its.write()
    return list(its.read())


def _started(pid: int) -> str:
    """Return the start time of process `pid`, which a later one of this number does not share; "" if there is none."""
    try:
        # proc(5): the 22nd field is the start time; the second, in parentheses, may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        if os.path.isdir("/proc/self"):
            return ""
    if sys.platform == "win32":
        return "running"  # `os.kill(pid, 0)` would send it a Ctrl-C there; see `_is_old`
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "running"


def _is_old(at: float) -> bool:
    """Whether a line of that time is of an ended process, where nothing else tells."""
    return sys.platform == "win32" and time() - at > REST


def _has_ended(name: str) -> bool:
    """Return whether the process whose file has this name has ended."""
    pid, _, started = name.removesuffix(".json").partition("-")
    return pid.isdecimal() and _started(int(pid)) != started
