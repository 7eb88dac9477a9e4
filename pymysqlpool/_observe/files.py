"""What a process has left in the folder: what it wrote last, and if it has ended, what its pools had counted since.

Never: writes, trusts a file that it cannot read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .counts import completed
from .counts_file import SUFFIX, read
from .reading import PROCESS, has_shape, read_json
from .running import runs

FORMAT = 3


def names_in(folder: Path) -> list[str]:
    """Return the names of the processes that have a file."""
    return sorted({path.stem for path in folder.glob("*.json")} | {path.stem for path in folder.glob(f"*{SUFFIX}")})


def content_of(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what the process `name` wrote last, with `alive`: whether it runs; None if there is nothing to be read.

    Raises:
        OSError: its file cannot be read; PermissionError: not by this user.
    """
    content: dict[str, Any] = {"pools": [], "closed": [], "at": 0.0}
    path = folder / f"{name}.json"
    ran = runs(folder, name, _written_at(path))  # before its last words are read
    try:
        content = read_json(path)
        if not has_shape(content, PROCESS) or content.get("format") != FORMAT:
            return None  # not ours
        content |= {"name": name, "alive": ran}
        if ran:
            return content
    except FileNotFoundError:
        if ran:
            return None
        pid = name.partition("-")[0]  # it was killed before it wrote, or all of it was removed at this moment
        content |= {"name": name, "alive": False, "pid": int(pid) if pid.isdecimal() else 0, "drained": []}
    except ValueError:
        return None
    return completed(content, read(folder / f"{name}{SUFFIX}"))


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
