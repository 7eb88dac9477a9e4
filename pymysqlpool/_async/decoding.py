"""Fair decoding: in one turn of a loop, all its sessions and cursors together decode for at most `_SLICE` seconds and
one step more; then the loop runs other tasks.

There is one deadline for each turn: a reply that has just come, a reply whose decoding was put off, and a task that
converts rows all ask for it. A short reply asks for nothing: it takes less than the question.

Never: decodes by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol
from weakref import WeakKeyDictionary

_SLICE = 0.001  # seconds


class Decoder(Protocol):
    def decode(self) -> None:
        """Decode for one share of the slice."""


class Turns:
    """The sessions of one loop that have replies to decode, served in order."""

    def __init__(self) -> None:
        self.queue: deque[Decoder] = deque()
        self._is_scheduled = False
        self._until = 0.0  # monotonic: the end of the current slice; 0: no slice is running

    def is_over(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the slice of this turn of the loop is used up."""
        if not self._until:
            self._until = monotonic() + _SLICE
            loop.call_soon(self._end_slice)
            return False
        return monotonic() > self._until

    def _end_slice(self) -> None:
        self._until = 0.0

    def add(self, decoder: Decoder, loop: asyncio.AbstractEventLoop) -> None:
        self.queue.append(decoder)
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        queue = self.queue
        while queue:
            queue.popleft().decode()
            if self.is_over(loop):
                break
        self._is_scheduled = bool(queue)
        if queue:
            loop.call_soon(self._run, loop)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns()
    return turns
