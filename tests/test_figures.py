"""The figures on README, start page and Django's page are those of the committed run, benchmarks/results.json."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.documentation import ROOT

CASES = json.loads((ROOT / "benchmarks/results.json").read_text())["cases"]
BORROW = [
    "pymysqlpool",
    "pymysql-pool 0.3.7",
    "pymysql-pool 0.5.0",
    "DBUtils",
    "DBUtils, no checks",
    "SQLAlchemy",
    "SQLAlchemy, no rollback",
]
DJANGO = ["pymysqlpool", "Django, CONN_MAX_AGE", "django-db-connection-pool", "Django, connect per request"]


def measured(case: str, key: str, columns: tuple[str, ...]) -> dict[str, list[float]]:
    (table,) = [table for table in CASES[case]["tables"] if table["key"] == key]
    places = [table["columns"].index(column) for column in columns]
    return {row[0]: [row[place] for place in places] for row in table["rows"]}


def shown(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose head begins with `heading`, without head and names."""
    text = (ROOT / page).read_text()
    (table,) = re.findall(rf"^\| \| {re.escape(heading)}.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in table.splitlines()]


def is_rounded(cell: str, value: Any) -> bool:
    digits = len(cell.partition(".")[2])
    return abs(float(cell) - value) <= 0.500001 * 10**-digits


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_table_against_the_peers_is_that_of_the_run(page: str) -> None:
    times = measured("borrow_return", "borrow_return", ("time, ours = 1",))
    cells = shown(page, "borrow and return, time")
    assert len(cells) == len(BORROW)
    assert [name for name, row in zip(BORROW, cells, strict=True) if not is_rounded(row[0], times[name][0])] == []


def test_select_1_is_that_of_the_run() -> None:
    speed = measured("select1", "select1_tcp", ("speed, bare PyMySQL = 1",))["pymysqlpool"][0]
    (said,) = re.findall(r"give back takes ([\d.]+) of the time", (ROOT / "docs/index.md").read_text())
    assert is_rounded(said, 1 / speed)


def test_the_table_about_django_is_that_of_the_run() -> None:
    columns = ("time, ours = 1", "statements", "connects")
    alone, threads = (measured("web_django", key, columns) for key in ("web_django", "web_django_threads"))
    for name, row in zip(DJANGO, shown("docs/django.md", "time | statements"), strict=True):
        assert all(map(is_rounded, row, alone[name] + threads[name])), (name, row)
    (said,) = re.findall(r"faster \(([\d.]+) of the time", (ROOT / "docs/migrating/from-conn-max-age.md").read_text())
    assert is_rounded(said, alone["Django, CONN_MAX_AGE"][0])
