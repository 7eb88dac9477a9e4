"""The counts of processes that have ended, added up in one file of the board's folder.

Without the sum, workers that are replaced every thousand requests would leave thousands of files for each page to
read.

No count is lost or counted twice, also when a process is killed at any point: the sum lists the files that it
contains, and is replaced in one step before these are removed. A reader reads the files first and the sum last, and
skips the files in the list. A file is added once its process has ended and `REST` has passed.

Never: waits for another process that does the same; adds up where files cannot be locked (Windows), which only costs
space.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any

from .counts import counts_of, merged
from .counts_file import SUFFIX
from .drains import PREFIX
from .files import content_of, names_in
from .reading import POOLS, has_shape, read_json
from .running import REST

if sys.platform != "win32":
    import fcntl

SUM = "ended"  # no .json: it is no process
_REMEMBERED = 3600.0  # seconds for which the sum names a file that is removed: longer than any reader takes
_LOCK = "lock"


def read_sum(folder: Path) -> dict[str, Any]:
    """Return `names` (each file that is in the sum, and since when) and `pools` (the counts by label)."""
    with suppress(OSError, ValueError):
        found = read_json(folder / SUM)
        if has_shape(found, {"names": {str: float}, "pools": POOLS}):
            return {"names": found["names"], "pools": found["pools"]}
    return {"names": {}, "pools": []}


def add_up(folder: Path, replace: Callable[[str, Any], None]) -> None:
    """Add the files of processes that have ended to the sum, and remove them.

    Args:
        replace: writes a file of the folder in one step.
    """
    with _lock(folder) as is_ours:
        if not is_ours:
            return
        total, now = read_sum(folder), time()
        added, counts, old = dict[str, float](), list[dict[str, Any]](), list[Path]()
        for name in names_in(folder):
            file = f"{name}.json"
            paths = [folder / f"{name}{SUFFIX}", folder / file]  # in the order in which they are removed
            if all(_rests(path, now) for path in paths) and (content := _of_ended(folder, name)) is not None:
                old += paths
                if file not in total["names"]:
                    added[file] = now
                    counts += [counts_of(content["pid"], pool) for pool in content["pools"]]
                    counts += content.get("closed", [])
        if added:
            names = {
                name: since
                for name, since in total["names"].items()
                if now - since < _REMEMBERED or (folder / name).exists()
            }
            replace(SUM, {"names": names | added, "pools": merged([*total["pools"], *counts])})
        old += [path for path in folder.glob(".new-*") if _rests(path, now)]
        old += [path for path in folder.glob(f"{PREFIX}*") if _rests(path, now, _REMEMBERED)]
        for path in old:
            path.unlink(missing_ok=True)


def _of_ended(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what the process `name` has left; None if it runs, or its files cannot be read and must stay."""
    try:
        content = content_of(folder, name)
    except OSError:
        return None
    return content if content is not None and not content["alive"] else None


def _rests(path: Path, now: float, time: float = REST) -> bool:
    """Return whether nothing has changed the file for so long, or there is none."""
    try:
        return now - path.stat().st_mtime > time
    except FileNotFoundError:
        return True
    except OSError:
        return False


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Lock the folder against other processes that add up. False: another one does, or files cannot be locked here."""
    if sys.platform == "win32":
        yield False
        return
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
