"""Requests to renew connections, as files in the board's folder: one for each, so that none replaces another.

Each process carries out the requests that it has not seen, and publishes which it has seen. A request is older than a
process if its file was there when the process began to publish; names are compared, no clocks. Files are removed an
hour after the request (`ended.add_up`).

Never: removes a file, waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..metrics import pools
from .reading import read_json

PREFIX = "drain-"


def ask(replace: Callable[..., None], label: str | None) -> str:
    """Write a request to renew the connections of the pool `label`, or of all; return its name.

    Args:
        replace: writes a file of the folder in one step.
    """
    name = f"{PREFIX}{uuid.uuid4().hex}"
    replace(name, {"label": label}, mode=0o644)  # root may ask, the processes must read
    return name


class Drains:
    """The requests in a folder that this process has seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: set[str] = set()

    def ignore_those_there(self) -> None:
        """Take the requests that are there for seen, since they are older than this process."""
        self.seen = self._there()

    def carry_out(self) -> None:
        """Renew the connections that new requests name."""
        there = self._there()
        for name in sorted(there - self.seen):
            asked = self._read(name)
            for pool in pools() if asked is not None else ():
                if asked["label"] in (None, pool.label):
                    pool.drain()
        self.seen = there

    def _there(self) -> set[str]:
        return {path.name for path in self._folder.glob(f"{PREFIX}*")}

    def _read(self, name: str) -> Any:
        try:
            asked = read_json(self._folder / name)
            return asked if isinstance(asked, dict) and "label" in asked else None
        except (OSError, ValueError):
            return None  # the numbers must be written in any case
