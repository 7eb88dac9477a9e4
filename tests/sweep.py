"""How much of a long sweep a run goes through: all of it with `--all`, else a sample from a random start.

Owns: the choice, and the seed that repeats it (`--sweep-seed`). A failed test that used the `sweep` fixture names it.
Never: decides which tests are long; those carry the mark `slow`, and tests/conftest.py leaves them out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class Sweep:
    """What one test goes through of a long sweep."""

    def __init__(self, everything: bool, seed: str) -> None:
        self.everything = everything
        self._chance = random.Random(seed)

    def every(self, step: int, whole: int = 1) -> tuple[int, int]:
        """The first point and the step of a sweep: a random start below `step`, and `step`; of a whole sweep every
        point, or every `whole`-th one where all of them would take too long for one run."""
        step = whole if self.everything else step
        return self._chance.randrange(step), step

    def some(self, things: Iterable[T], share: float) -> list[T]:
        """All `things` of a whole sweep, else about this share of them (at least one), in their order."""
        every = list(things)
        if self.everything or not every:
            return every
        wanted = max(1, round(len(every) * share))
        return [every[index] for index in sorted(self._chance.sample(range(len(every)), wanted))]

    def times(self, usual: int, long: int) -> int:
        """How many rounds, examples or seconds."""
        return long if self.everything else usual
