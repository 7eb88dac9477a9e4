from __future__ import annotations

from weakref import WeakValueDictionary

import pytest

from pymysqlpool._observe import process
from pymysqlpool._pool import registry


@pytest.fixture(autouse=True)
def no_counts_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of pools that have ended stay for the life of the process."""
    monkeypatch.setattr(registry, "_referred_to", WeakValueDictionary())
    monkeypatch.setattr(process, "_known", process._Collected())
