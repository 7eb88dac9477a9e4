"""Reads a file of the folder, which may hold anything: another version's content, another program's, none.

Never: waits for a writer, as of a named pipe; ends in an error other than OSError and ValueError.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from math import isfinite
from pathlib import Path
from typing import Any

from ..metrics import BOUNDS
from .counts import COUNTERS, GAUGES, HISTOGRAMS

_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

# A type; the members of a dict; the only member of a list, or of a dict by any name.
_HISTOGRAM = {"counts": [int], "sum": float}
_EVENT = {"at": float, "kind": str, "said": str}
_BORROWER = {"seconds": float, "who": str, "where": str, "in_transaction": bool}
_POOL = {
    "label": str,
    **dict.fromkeys((*GAUGES, *COUNTERS), int),
    **dict.fromkeys(HISTOGRAMS, _HISTOGRAM),
    "discarded": {str: int},
    "events": [_EVENT],
    "borrowers": [_BORROWER],
}
POOLS: Any = [_POOL]
PROCESS: Any = {"pid": int, "at": float, "drained": [str], "pools": POOLS, "closed": POOLS}


def read_bytes(path: Path) -> bytes:
    """Return what is in the file.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    handle = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        return file.read()


def read_json(path: Path) -> Any:
    """Return what is in the file.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it is no JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("too deep") from error


def has_shape(found: Any, shape: Any) -> bool:
    """Return whether `found` has what `shape` names, each of its type; more members do not matter."""
    if isinstance(shape, list):
        return isinstance(found, list) and all(has_shape(one, shape[0]) for one in found)
    if isinstance(shape, dict):
        if not isinstance(found, dict):
            return False
        if str in shape:
            return all(has_shape(one, shape[str]) for one in found.values())
        if shape is _HISTOGRAM and len(found.get("counts", ())) != len(BOUNDS) + 1:
            return False
        return all(name in found and has_shape(found[name], of) for name, of in shape.items())
    if shape is float:
        return isinstance(found, (int, float)) and isfinite(found)
    return isinstance(found, shape)
