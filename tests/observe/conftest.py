from __future__ import annotations

from typing import Any

import pytest

from pymysqlpool._observe import process
from pymysqlpool._pool import observed, registry


@pytest.fixture(autouse=True)
def no_counts_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pools of this test are seen. Counts of pools that have ended stay for the life of the process, and a pool
    of another test may be collected in this one."""
    mine: set[int] = set()

    class Registry(dict[int, Any]):
        def __setitem__(self, key: int, entry: Any) -> None:
            mine.add(key)
            super().__setitem__(key, entry)

    def note_end(pool: Any) -> None:
        if id(pool) in mine:
            really(pool)

    really = process._note_end
    monkeypatch.setattr(registry, "_entries", Registry())
    monkeypatch.setattr(process, "_known", process._Collected())
    monkeypatch.setattr(process, "_note_end", note_end)
    if observed.at_end is not None:
        monkeypatch.setattr(observed, "at_end", note_end)
