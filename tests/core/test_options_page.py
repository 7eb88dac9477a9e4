"""docs/options.md says of every option what `settings.Settings` says: its name and its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from pymysqlpool.settings import Settings

PAGE = (Path(__file__).parent.parent.parent / "docs" / "options.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
OPTIONS = {field.name: field.default for field in dataclasses.fields(Settings)}


def test_every_option_is_there_once_and_no_other() -> None:
    assert sorted(row[0] for row in ROWS) == sorted(f"`{name}`" for name in OPTIONS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_its_default_is_the_codes_and_nothing_is_left_unsaid(row: list[str]) -> None:
    name, default, bounds, *said = row
    assert default.strip("`").strip('"') == str(OPTIONS[name.strip("`")])
    assert bounds
    assert len(said) == 2
    assert all(len(text) > 20 for text in said)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_the_bounds_it_names_are_the_ones_that_are_kept(row: list[str]) -> None:
    """Whatever the page calls the least is accepted, and a little less is not."""
    name, least = row[0].strip("`"), re.search(r"at least ([\d.]+)", row[2])
    if least is None:
        return
    bound = float(least[1]) if "seconds" in row[2] else int(least[1])
    Settings(**{name: bound})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=name):
        Settings(**{name: bound - (1 if isinstance(bound, int) else 0.0001)})  # type: ignore[arg-type]


def test_the_docstring_of_the_settings_names_every_option() -> None:
    for name in OPTIONS:
        assert re.search(rf"^ +(?:\w+, )*{name}[,:]|; {name}:", Settings.__doc__ or "", re.M), name
