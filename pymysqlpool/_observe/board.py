"""The numbers of all processes of an application, in a folder that they share.

Each process writes one file once a second, in a daemon thread that `Board.publish` starts (in a forked child again),
and once more at its end. Under uWSGI that thread may not run, or was not started, since no fork hook ran: then returns
of connections write. A reader adds up all files. The counters of a process or pool that has ended are kept in the
sum, its gauges (in use, idle, waiting) are not. `ended.py` merges the files of ended processes into one.

A file is replaced in one step, so that a reader never sees half of it. Numbers are at most `INTERVAL` old. A process
that is killed loses what it counted since the last write. Where a process cannot write (the disk is full, the folder is
another user's), a page that it answers shows its own numbers all the same; the log says so once.

A drain is requested by a file in the folder; each process reads it at its next write.

Never: writes a user or a password; trusts a file that it cannot read; fails the application because of the folder.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import monotonic, time
from typing import Any

from .._pool import observed
from .._util.log import logger
from .drains import Drains, ask
from .ended import REST, add_up, read_sum
from .process import follow, looks_and_ended

INTERVAL = 1.0  # seconds
_LATE = 1.5 * INTERVAL  # since the last line: the thread does not run
FOLDER = "PYMYSQLPOOL_BOARD"  # environment variable: the folder
_PROMETHEUS = "PROMETHEUS_MULTIPROC_DIR"
_FORMAT = 3
_CURVE = 60  # samples that are kept for a curve
_ADD_UP_EVERY = 60  # lines


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
        self._failing: dict[str, tuple[Any, ...]] = {}  # what cannot be done, and the error that was logged
        self._stopped = threading.Event()  # the thread ends
        self._start_counting()
        follow()
        atexit.register(self._write_last)

    def _start_counting(self) -> None:
        """A forked child counts from zero, and its parent's thread may have held the lock."""
        self._lock = threading.Lock()  # one write at a time: an older state must not replace a newer one
        self._written_at = 0.0  # monotonic

    def publish(self) -> None:
        """Start to write this process's numbers. Further calls do nothing; a forked child starts anew."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._curve = {}
        self._start_counting()
        self._drains.ignore_those_there()
        _published.add(self)
        observed.follow_maintenance(_keep_up)
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(self._stopped,), name="pymysqlpool board", daemon=True).start()

    def stop(self) -> None:
        """Stop writing in this process."""
        self._pid = -1
        self._stopped.set()
        _published.discard(self)

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
                    add_up(self.folder, _has_ended, self._replace)
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
        found, ended = looks_and_ended()
        self._add_curves(found, adds_to_curve)
        content |= {
            "format": _FORMAT,
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "at": time(),
            "drained": sorted(self._drains.seen),
            "pools": found,
            "closed": ended,
        }
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have been removed meanwhile
        self._replace(_file_of(content), content)

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
        for path in sorted(self.folder.glob("*.json")):
            try:
                content = json.loads(path.read_text())
                if content["format"] == _FORMAT:
                    content["alive"] = _started(content["pid"]) == content["started"] and not _is_old(content["at"])
                    found[path.name] = content
            except PermissionError as error:
                unreadable = error
            except (OSError, ValueError, KeyError, TypeError):
                pass  # removed at this moment, or not ours
        with self._telling("read all files"):
            if unreadable is not None:
                raise unreadable
        if own:
            found[_file_of(own)] = own | {"alive": True}
        ended = read_sum(self.folder)  # after the files; the header of `ended.py` says why
        for name, content in found.items():
            if name not in ended["names"]:
                yield content
                if closed := content.get("closed"):
                    yield content | {"alive": False, "pools": closed}
        if ended["pools"]:
            yield {"pid": 0, "alive": False, "at": 0.0, "drained": [], "pools": ended["pools"]}

    def ask_for_drain(self, label: str | None) -> str:
        """Ask all processes to renew the connections of the pool `label`, or of all. Returns the name of the request,
        which each process that has seen it lists as `drained`."""
        return ask(self._replace, label)


def _file_of(content: dict[str, Any]) -> str:
    return f"{content['pid']}-{content['started']}.json"


_published: set[Board] = set()  # of this process and of those that it was forked from


def _keep_up() -> None:
    for its in [*_published]:
        its.keep_up()


def _publish_in_child() -> None:
    for its in [*_published]:
        its.publish()


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
    this = {"pid": os.getpid(), "at": time()}
    return [this | {"alive": True, "pools": found}, this | {"alive": False, "pools": ended}]


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
