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

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any

from .counts import counts_of, merged
from .drains import PREFIX

if sys.platform != "win32":
    import fcntl

SUM = "ended"  # no .json: it is no process
REST = (
    60.0  # seconds without a line, so that a process which only cannot be seen from here is not taken for an ended one
)
_REMEMBERED = 3600.0  # seconds for which the sum names a file that is removed: longer than any reader takes
_LOCK = "lock"


def read_sum(folder: Path) -> dict[str, Any]:
    """Return `names` (each file that is in the sum, and since when) and `pools` (the counts by label)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((folder / SUM).read_text())
        return {"names": dict(found["names"]), "pools": list(found["pools"])}
    return {"names": {}, "pools": []}


def add_up(folder: Path, has_ended: Callable[[str], bool], replace: Callable[[str, Any], None]) -> None:
    """Add the files of processes that have ended to the sum, and remove them.

    Args:
        has_ended: whether the process whose file has this name has ended.
        replace: writes a file of the folder in one step.
    """
    with _lock(folder) as is_ours:
        if not is_ours:
            return
        total, now = read_sum(folder), time()
        paths = [path for path in folder.glob("*.json") if has_ended(path.name) and _rests(path, now)]
        new = [path for path in paths if path.name not in total["names"]]
        if new:
            contents = {path: _counts_in(path) for path in new}
            new = [path for path in new if contents[path] is not None]
            counts = [counts for path in new for counts in contents[path] or ()]
            names = {
                name: since
                for name, since in total["names"].items()
                if now - since < _REMEMBERED or (folder / name).exists()
            }
            names |= dict.fromkeys((path.name for path in new), now)
            replace(SUM, {"names": names, "pools": merged([*total["pools"], *counts])})
            paths = [path for path in paths if path.name in names]
        others = [path for path in folder.glob(".new-*") if _rests(path, now)]
        others += [path for path in folder.glob(f"{PREFIX}*") if _rests(path, now, _REMEMBERED)]
        for path in [*paths, *others]:
            path.unlink(missing_ok=True)


def _counts_in(path: Path) -> list[dict[str, Any]] | None:
    """Return the counts in a file; None if it cannot be read, and must stay until it can."""
    try:
        content = json.loads(path.read_text())
        return [counts_of(content["pid"], pool) for pool in content["pools"]] + list(content.get("closed", []))
    except OSError:
        return None
    except (ValueError, KeyError, TypeError):
        return []


def _rests(path: Path, now: float, time: float = REST) -> bool:
    try:
        return now - path.stat().st_mtime > time
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
