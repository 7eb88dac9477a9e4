"""Which processes run: of those that share a folder, which may be in containers that do not see each other.

A process is named by its number, its start time, which a later process of this number does not share, and the number of
the namespace that these are of.

Never: sends a signal, waits.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from time import time

from .counts_file import SUFFIX, is_held

REST = (
    60.0  # seconds without a line, so that a process which only cannot be seen from here is not taken for an ended one
)


def own_name() -> str:
    """The name of this process, for its files."""
    return "-".join(filter(None, (str(os.getpid()), started(os.getpid()), _namespace())))


def runs(folder: Path, name: str, at: float) -> bool:
    """Return whether the process of this name runs.

    Args:
        at: when it wrote last, in seconds since 1970.
    """
    held = is_held(folder / f"{name}{SUFFIX}")
    if held is not None:
        return held
    pid, _, rest = name.partition("-")
    start, _, namespace = rest.partition("-")
    if namespace not in ("", _namespace()) or sys.platform == "win32":
        return time() - at < REST  # its number says nothing here
    return not pid.isdecimal() or started(int(pid)) == start


@cache
def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def started(pid: int) -> str:
    """Return the start time of process `pid`; "" if there is none."""
    try:
        # proc(5): the 22nd field is the start time; the second, in parentheses, may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        if os.path.isdir("/proc/self"):
            return ""
    if sys.platform == "win32":
        return "running"  # `os.kill(pid, 0)` would send it a Ctrl-C there; see `runs`
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "running"
