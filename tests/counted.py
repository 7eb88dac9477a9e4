"""Regular expressions whose steps are counted: what the engine does with a text, in numbers instead of seconds.

`Counted` runs a compiled pattern of bytes by its parsed form, as `re` does: one step for each byte that is looked at,
each place where a match is tried and each iteration of a repetition. `what_can_go_back` finds in the parsed form what
would let the engine try a text in more than a bounded number of ways.

Owns: the counting. Never: knows which patterns read statements.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

# The place where a match ends, from a place where it begins; None where there is none.
Run = Callable[[bytes, int], "int | None"]

_SPACE = frozenset(b" \t\n\r\f\v")
_DIGIT = frozenset(b"0123456789")
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")
_ALL = frozenset(range(256))
_CATEGORIES = {
    op.CATEGORY_SPACE: _SPACE,
    op.CATEGORY_NOT_SPACE: _ALL - _SPACE,
    op.CATEGORY_DIGIT: _DIGIT,
    op.CATEGORY_NOT_DIGIT: _ALL - _DIGIT,
    op.CATEGORY_WORD: _WORD,
    op.CATEGORY_NOT_WORD: _ALL - _WORD,
}
_ONE_BYTE = (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN)


class Found:
    """As much of `re.Match` as the lexer uses."""

    def __init__(self, text: bytes, start: int, end: int, lastgroup: str | None) -> None:
        self._text = text
        self._span = start, end
        self.lastgroup = lastgroup

    def group(self) -> bytes:
        return self._text[self._span[0] : self._span[1]]

    def span(self) -> tuple[int, int]:
        return self._span


class Counted:
    """As much of `re.Pattern` as this package uses, and the `steps` that all of its matches took so far."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        assert isinstance(pattern.pattern, bytes)
        self.pattern = pattern
        self.steps = 0
        self._flags = pattern.flags
        self._names = {number: name for name, number in pattern.groupindex.items()}
        self._last: str | None = None
        self._run = self._sequence(list(parser.parse(pattern.pattern, pattern.flags)), lambda text, at: at)

    # -- as re.Pattern -------------------------------------------------------------------------------------

    def match(self, text: bytes, at: int = 0) -> Found | None:
        self._last = None
        self.steps += 1
        end = self._run(text, at)
        return None if end is None else Found(text, at, end, self._last)

    def search(self, text: bytes, at: int = 0) -> Found | None:
        for start in range(at, len(text) + 1):
            found = self.match(text, start)
            if found is not None:
                return found
        return None

    def finditer(self, text: bytes) -> Iterator[Found]:
        at = 0
        while (found := self.search(text, at)) is not None:
            yield found
            assert found.span()[0] < found.span()[1], "these patterns match no empty text"
            at = found.span()[1]

    def sub(self, replacement: bytes, text: bytes) -> bytes:
        parts, at = [], 0
        for found in self.finditer(text):
            start, end = found.span()
            parts += [text[at:start], replacement]
            at = end
        return b"".join([*parts, text[at:]])

    # -- the parsed form, as functions ---------------------------------------------------------------------

    def _sequence(self, items: list[Any], then: Run) -> Run:
        for what, argument in reversed(items):
            then = self._item(what, argument, then)
        return then

    def _item(self, what: Any, argument: Any, then: Run) -> Run:
        if what in _ONE_BYTE:
            return self._one_byte(self._bytes(what, argument), then)
        if what is op.SUBPATTERN:
            group, added, removed, items = argument
            assert not added
            assert not removed
            name = self._names.get(group)
            return self._sequence(list(items), then if name is None else self._named(name, then))
        if what is op.BRANCH:
            return self._branch([self._sequence(list(items), then) for items in argument[1]])
        if what is op.POSSESSIVE_REPEAT:
            return self._possessive(*argument, then)
        if what is op.MAX_REPEAT and argument[:2] == (0, 1):
            return self._branch([self._sequence(list(argument[2]), then), then])
        if what in (op.ASSERT, op.ASSERT_NOT):
            return self._looks(argument, what is op.ASSERT, then)
        if what is op.AT:
            return self._at(argument, then)
        raise NotImplementedError(what)

    def _bytes(self, what: Any, argument: Any) -> frozenset[int]:
        if what is op.ANY:
            assert self._flags & re.DOTALL
            return _ALL
        if what is op.IN:
            members: set[int] = set()
            negated = False
            for kind, value in argument:
                if kind is op.NEGATE:
                    negated = True
                elif kind is op.LITERAL:
                    members.add(value)
                elif kind is op.RANGE:
                    members |= set(range(value[0], value[1] + 1))
                else:
                    assert kind is op.CATEGORY
                    members |= _CATEGORIES[value]
        else:
            members, negated = {argument}, what is op.NOT_LITERAL
        if self._flags & re.IGNORECASE:
            members |= {ord(case(chr(value))) for value in members if value < 128 for case in (str.lower, str.upper)}
        return _ALL - members if negated else frozenset(members)

    def _one_byte(self, members: frozenset[int], then: Run) -> Run:
        def run(text: bytes, at: int) -> int | None:
            self.steps += 1
            return then(text, at + 1) if at < len(text) and text[at] in members else None

        return run

    def _named(self, name: str, then: Run) -> Run:
        def run(text: bytes, at: int) -> int | None:
            self._last = name
            return then(text, at)

        return run

    def _branch(self, ways: list[Run]) -> Run:
        def run(text: bytes, at: int) -> int | None:
            for way in ways:
                self.steps += 1
                end = way(text, at)
                if end is not None:
                    return end
            return None

        return run

    def _possessive(self, least: int, most: Any, items: Any, then: Run) -> Run:
        items = list(items)
        if len(items) == 1 and items[0][0] in _ONE_BYTE and most is op.MAXREPEAT:
            members = b"".join(b"\\x%02x" % value for value in sorted(self._bytes(*items[0])))
            find = re.compile(b"[" + members + b"]*+").match  # as long, in less time

            def run(text: bytes, at: int) -> int | None:
                end = find(text, at).end()  # type: ignore[union-attr]
                self.steps += end - at + 1
                return then(text, end) if end - at >= least else None

            return run
        body = self._sequence(items, lambda text, at: at)
        limit = float("inf") if most is op.MAXREPEAT else most

        def run_body(text: bytes, at: int) -> int | None:
            count = 0
            while count < limit:
                self.steps += 1
                end = body(text, at)
                if end is None or end == at:
                    break
                at, count = end, count + 1
            return then(text, at) if count >= least else None

        return run_body

    def _looks(self, argument: Any, wanted: bool, then: Run) -> Run:
        direction, items = argument
        width, most = items.getwidth()
        assert width == most or direction > 0
        look = self._sequence(list(items), lambda text, at: at)

        def run(text: bytes, at: int) -> int | None:
            self.steps += 1
            start = at if direction > 0 else at - width
            seen = start >= 0 and look(text, start) is not None
            return then(text, at) if seen is wanted else None

        return run

    def _at(self, where: Any, then: Run) -> Run:
        def boundary(text: bytes, at: int) -> bool:
            before = at > 0 and text[at - 1] in _WORD
            return before is not (at < len(text) and text[at] in _WORD)

        holds = {op.AT_END_STRING: lambda text, at: at == len(text), op.AT_BOUNDARY: boundary}[where]

        def run(text: bytes, at: int) -> int | None:
            self.steps += 1
            return then(text, at) if holds(text, at) else None

        return run


def what_can_go_back(pattern: re.Pattern[Any]) -> list[str]:
    """The parts of `pattern` by which the engine could try one text in a number of ways that grows with the text: each
    repetition that may give back what it took, each whose body may be empty, and a look ahead of any length that is
    repeated."""
    return list(_going_back(parser.parse(pattern.pattern, pattern.flags)))


def _going_back(items: Any, repeated: bool = False) -> Iterator[str]:
    for what, argument in items:
        if what in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            least, most, body = argument
            if what is not op.POSSESSIVE_REPEAT and most > 1:
                yield f"{what} of {least} to {most}: {list(body)}"
            if most > 1 and body.getwidth()[0] == 0:
                yield f"a repetition of what may be empty: {list(body)}"
            yield from _going_back(body, repeated or most > 1)
        elif what is op.SUBPATTERN:
            yield from _going_back(argument[-1], repeated)
        elif what is op.BRANCH:
            for way in argument[1]:
                yield from _going_back(way, repeated)
        elif what in (op.ASSERT, op.ASSERT_NOT):
            yield from _going_back(argument[1], repeated)
            if repeated and argument[1].getwidth()[1] > 16:
                yield f"a look at text of any length: {argument[1]}"
        elif what is op.ATOMIC_GROUP:
            yield from _going_back(argument, repeated)
        elif what not in (*_ONE_BYTE, op.AT):
            yield str(what)
