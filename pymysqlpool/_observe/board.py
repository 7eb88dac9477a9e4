"""The numbers of all processes of an application, in a folder that they share.

Each process writes its own file once a second, in a daemon thread that `Board.publish` starts, and anew in a forked
child. Whoever reads adds up all files. A process that has ended leaves its file, so that what it counted still counts;
its gauges (in use, idle, waiting) are nothing any more.

A file is replaced in one step, so that a reader never sees half of it. Numbers are at most `INTERVAL` old; what a
process that is killed has counted since its last line is lost.

Never: writes a user, a password or a path; trusts a file that it cannot read.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

INTERVAL = 1.0  # seconds
_FORMAT = 1
_CURVE = 60  # samples that are kept for a curve
Snapshots = Callable[[], list[dict[str, Any]]]


class Board:
    """One folder.

    Args:
        folder: is made where it is missing; readable by its owner only.
        snapshots: the numbers of the pools of this process.
    """

    def __init__(self, folder: Path, snapshots: Snapshots) -> None:
        self.folder = folder
        self._snapshots = snapshots
        self._pid = 0  # of the process whose thread runs
        self._curve: dict[str, list[tuple[int, int]]] = {}  # by label: in use, waiting

    def publish(self) -> None:
        """Write this process's numbers from now on. May be called again, and in a forked child."""
        if self._pid == os.getpid():
            return
        if not self._pid and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.publish)
        self._pid = os.getpid()
        self._curve = {}
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        threading.Thread(target=self._run, args=(self._pid,), name="pymysqlpool board", daemon=True).start()

    def _run(self, pid: int) -> None:
        pause = threading.Event()
        while self._pid == pid == os.getpid():
            with suppress(OSError):
                self.write()
            pause.wait(INTERVAL)

    def write(self) -> None:
        """Write this process's file now."""
        pools = self._snapshots()
        for pool in pools:
            curve = self._curve.setdefault(pool["label"], [])
            curve.append((pool["in_use"], pool["waiting"]))
            del curve[:-_CURVE]
            pool["curve"] = list(curve)
        content = {
            "format": _FORMAT,
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "at": time(),
            "pools": pools,
        }
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        with open(handle, "w") as file:
            json.dump(content, file)
        os.replace(name, self.folder / f"{content['pid']}-{content['started']}.json")

    def read(self) -> Iterator[dict[str, Any]]:
        """What each process wrote last, with `alive`: whether it still runs."""
        for path in sorted(self.folder.glob("*.json")):
            with suppress(OSError, ValueError, KeyError):
                content = json.loads(path.read_text())
                if content["format"] == _FORMAT:
                    content["alive"] = _started(content["pid"]) == content["started"]
                    yield content


def _started(pid: int) -> str:
    """What tells a process from another one that gets its number later; empty when there is none."""
    try:
        # proc(5): the 22nd field is the start time; the second, in parentheses, may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        if os.path.isdir("/proc/self"):
            return ""
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "running"
