"""docs/design/invariants.md is the list that code and tests cite by number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LISTED = [
    int(number) for number in re.findall(r"^(\d+)\. \*\*", (ROOT / "docs/design/invariants.md").read_text(), re.M)
]
SOURCES = [
    file
    for folder in ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django", "tests", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
]


def cited(file: Path) -> set[int]:
    """The numbers after "Invariant" or "Invariants" in a file: "3", "5 and 6", "3, 5, 6", "5 to 7" as both ends."""
    found = re.findall(r"[Ii]nvariants?[ _]\d+(?:(?:,? and |, | to )\d+)*", file.read_text())
    return {int(number) for citation in found for number in re.findall(r"\d+", citation)}


def test_the_list_is_numbered_without_gaps() -> None:
    assert list(range(1, len(LISTED) + 1)) == LISTED


@pytest.mark.parametrize(
    "file", [file for file in SOURCES if cited(file)], ids=lambda file: str(file.relative_to(ROOT))
)
def test_every_invariant_that_is_cited_exists(file: Path) -> None:
    assert cited(file) <= set(LISTED)


@pytest.mark.parametrize("number", LISTED)
def test_every_invariant_is_cited_by_a_test(number: int) -> None:
    assert any(number in cited(file) for file in SOURCES if file.is_relative_to(ROOT / "tests"))
