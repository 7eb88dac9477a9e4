"""The short profile of `tests.session_fuzz`; the long one is run by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool.devserver import DevServer
from tests.session_fuzz import Fuzz, TaskFuzz


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fuzz") / "rows.txt"
    file.write_text("\\N\t5\n\\N\t6\n")
    return file


@pytest.fixture(scope="module")
def fuzzed(request: pytest.FixtureRequest) -> Iterator[DevServer]:
    """A server of its own: some of the statements lock all of it."""
    with DevServer(binary=request.config.getoption("--server")) as server:
        yield server


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "mode", "charset", "seed"),
    [
        (Fuzz, "auto", "utf8mb4", 5),
        (Fuzz, "auto", "gbk", 6),
        (Fuzz, "always", "latin1", 7),
        (TaskFuzz, "auto", "utf8mb4", 8),
    ],
)
def test_no_statement_leaves_anything_that_a_new_session_would_not_show(
    fuzzed: Any, rows: Path, kind: type[Fuzz], mode: str, charset: str, seed: int
) -> None:
    fuzz = kind(fuzzed, mode, seed, str(rows), charset=charset)
    try:
        fuzz.run(600)
    finally:
        fuzz.close()
    assert not fuzz.found, fuzz.share()
    assert fuzz.leases > 100
