"""Reading a statement takes linear time (Invariant 20), shown in three ways.

* By form: no pattern that reads statements has a repetition that gives back what it took, so from one place a text is
  tried in a number of ways that the pattern alone bounds.
* By count: `tests.counted` runs the same patterns inside the same code and counts steps. A fuzzer looks for the texts
  with the most steps for a byte; the worst of them is then read at a length of a megabyte. No clock is asked.
* By the clock, coarsely: the engine that is really used reads a megabyte.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st

from pymysqlpool import _driver, testing
from pymysqlpool._driver import lexer as lexer_module
from pymysqlpool._driver import local_infile
from pymysqlpool._driver.lexer import Bytes, Lexer
from pymysqlpool._driver.statements import NOTHING, STATE, reader_for
from pymysqlpool._observe import sqltext
from pymysqlpool._util.late import LatePattern
from tests.counted import Counted, what_can_go_back
from tests.sweep import Sweep

KINDS = [(Bytes.UTF8, True), (Bytes.DOUBLE, False)]
LEXERS = [Lexer(kind, escapes=escapes) for kind, escapes in KINDS]
MEGABYTE = 1_000_000

PIECES = (
    b"'", b'"', b"`", b"\\", b"\\'", b'\\"', b"''", b"/*", b"*/", b"/*/", b"/**/", b"/*!", b"--", b"-- ", b"#", b"\n",
    b" ", b"(", b")", b",", b"?", b"(?)", b"(?),", b"(?) ", b"(1),", b"(1) , ", b"NULL", b"NULL,", b"nul", b"1",
    b"1,", b"1.", b"1.1", b"1e", b"1e-", b"0x", b"'a'", b"'a',", b"'a' ", b"a", b"a.", b".", b"@", b"@@", b"@@a.",
    b"\xc3\xa9", b"\xa0", b"{", b";", b"-", b"-1", b"-?", b"f(", b"select ", b"load", b"load ", b"load data ", b"local",
    b"load/**/data/**/", b"load/*", b"$", b"a$", b"\0", b"   x", b"1 ,", b"*", b"**",
)  # fmt: skip
# Of skeleton() once and tokens() twice, and of the search for LOAD DATA LOCAL, together.
STEPS_PER_BYTE = 80


def patterns_that_read_statements() -> Iterator[tuple[str, re.Pattern[Any]]]:
    modules = [
        importlib.import_module(f"{_driver.__name__}.{found.name}") for found in pkgutil.iter_modules(_driver.__path__)
    ]
    for module in [*modules, sqltext, testing]:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern | LatePattern):
                yield f"{module.__name__}.{name}", value
    for pattern, _ in testing._INSTEAD:
        yield f"{testing.__name__}._INSTEAD", pattern
    for (kind, escapes), lexer in zip(KINDS, LEXERS, strict=True):
        for name, value in vars(lexer).items():
            if isinstance(value, re.Pattern | LatePattern):
                yield f"Lexer({kind}, {escapes}).{name}", value


def named(value: object) -> str:
    return value if isinstance(value, str) else "its pattern"


@pytest.mark.parametrize(("name", "pattern"), list(patterns_that_read_statements()), ids=named)
def test_no_pattern_gives_back_what_a_repetition_took(name: str, pattern: re.Pattern[Any]) -> None:
    assert what_can_go_back(pattern) == [], name


@pytest.mark.parametrize(
    "bad", [r"(a+)+", r"a*b", r"(?:a|ab)*?c", r"(?:b*+)*+", r"(?:(?!.*+x)a)*+", r"(?:(?:a|b)*+c+)*+"]
)
def test_what_can_go_back_is_found(bad: str) -> None:
    assert what_can_go_back(re.compile(bad))


# -- steps, counted ------------------------------------------------------------------------------------------


class CountedReading:
    """The code that reads statements, with its patterns replaced by those that count."""

    def __init__(self) -> None:
        self.counted: list[Counted] = []
        self.lexers = [Lexer(kind, escapes=escapes) for kind, escapes in KINDS]
        for lexer in self.lexers:
            lexer._literals = self._count(lexer._literals)
            lexer._token = self._count(lexer._token)
        self._replaced = [
            (module, name, self._count(getattr(module, name)))
            for module, names in (
                (lexer_module, ("_ROWS", "_BESIDE_A_BACKSLASH")),
                (local_infile, ("_LOAD", "_BETWEEN_WORDS", "_READS_LOCAL_FILE")),
            )
            for name in names
        ]

    def _count(self, pattern: re.Pattern[bytes]) -> Any:
        self.counted.append(Counted(pattern))
        return self.counted[-1]

    def answers(self, text: bytes, which: int) -> tuple[Any, ...]:
        with pytest.MonkeyPatch.context() as patch:
            for module, name, counted in self._replaced:
                patch.setattr(module, name, counted)
            return answers(self.lexers[which], text)

    def steps(self, text: bytes, which: int) -> int:
        before = sum(counted.steps for counted in self.counted)
        self.answers(text, which)
        return sum(counted.steps for counted in self.counted) - before


def answers(lexer: Lexer, text: bytes) -> tuple[Any, ...]:
    """All that is ever made of a statement's text by `lexer`."""
    skeleton = lexer.skeleton(text)
    return (
        skeleton,
        lexer.tokens(text),
        None if skeleton is None else lexer.tokens(skeleton, skeleton=True),
        local_infile.reads_local_file(text),
    )


READING = CountedReading()

_several = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map(b"".join)
_few = st.lists(st.sampled_from(PIECES), max_size=2).map(b"".join)
# What it begins with, what is repeated, what follows and is repeated, and how it ends.
shapes = st.tuples(_few, _several, st.one_of(st.just(b""), _several), _few, st.integers(0, len(KINDS) - 1))
Shape = tuple[bytes, bytes, bytes, bytes, int]


def text_of(shape: Shape, length: int) -> bytes:
    beginning, first, second, end, _ = shape
    share = length // 2 if second else length
    text = beginning + first * (share // len(first)) + (second * (share // len(second)) if second else b"") + end
    return text[:length]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), st.integers(0, len(KINDS) - 1))
def test_what_is_counted_is_what_the_engine_does(text: bytes, which: int) -> None:
    assert READING.answers(text, which) == answers(LEXERS[which], text)


@pytest.mark.timeout(300)
def test_no_text_of_any_length_takes_more_than_a_fixed_number_of_steps_for_each_byte(sweep: Sweep) -> None:
    worst: list[tuple[float, Shape]] = []

    @settings(max_examples=sweep.times(60, 1000), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(shapes)
    def choose(shape: Shape) -> None:
        text = text_of(shape, 2_000)
        steps = READING.steps(text, shape[-1]) / len(text)
        target(steps)
        worst.append((steps, shape))
        assert steps < STEPS_PER_BYTE, (steps, shape)

    choose()
    worst.sort(reverse=True)
    chosen = [shape for _, shape in worst[: sweep.times(1, 3)]]
    for shape in chosen:
        text = text_of(shape, sweep.times(MEGABYTE // 10, MEGABYTE))
        assert READING.steps(text, shape[-1]) < STEPS_PER_BYTE * len(text), shape


def test_steps_show_what_the_form_does_not() -> None:
    """Without a way back, and yet each of many places is tried up to the end of the text."""
    comment = re.compile(rb"/\*(?:[^*]++|\*(?!/))*+\*/")
    assert what_can_go_back(comment) == []
    counted = Counted(comment)
    assert counted.search(b"/*x" * 1000) is None
    assert counted.steps > STEPS_PER_BYTE * 3000


# -- the engine itself ---------------------------------------------------------------------------------------

SECONDS_PER_BYTE = 10e-6  # far more than it takes; quadratic time passes it with the first hundred kilobytes


def read_within_bounds(text: bytes) -> None:
    for lexer in LEXERS:
        started = time.thread_time()
        answers(lexer, text)
        assert time.thread_time() - started < 0.1 + SECONDS_PER_BYTE * len(text), text[:80]


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_the_engine_takes_no_longer(piece: bytes, sweep: Sweep) -> None:
    for beginning in sweep.some((b"", b"'", b"select '", b"select /*", b"(", b"1", b"load"), 0.3):
        read_within_bounds(beginning + piece * (32_000 // len(piece)))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("piece", [b"\\'", b"/*", b"(1),", b"load/*", b"load/**/"], ids=repr)
def test_the_engine_reads_a_megabyte(piece: bytes) -> None:
    read_within_bounds(b"'" + piece * (MEGABYTE // len(piece)))
    read_within_bounds(b"load" + piece * (MEGABYTE // len(piece)))


def test_a_text_longer_than_a_reset_is_dear_is_not_read() -> None:
    reader = reader_for("utf8mb4", "10.11.6-MariaDB")
    assert reader.read(b"select 1 in (" + b"1, " * 10_000 + b"1)") == NOTHING
    assert reader.read(b"select 1 in (" + b"1, " * 40_000 + b"1)") == STATE
