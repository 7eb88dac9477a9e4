"""Tasks that use one connection take turns, in order of arrival.

As `asyncio.Lock`, for the loop it is used on; where nobody waits, taking a turn and leaving it are plain calls.

Never: leaves a turn with a task that was cancelled while it waited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Turn:
    __slots__ = ("_is_taken", "_queue")

    def __init__(self) -> None:
        self._is_taken = False
        self._queue: deque[asyncio.Future[None]] | None = None

    def locked(self) -> bool:
        return self._is_taken

    def take(self) -> bool:
        """Take it, if it is free; else `wait` for it."""
        if self._is_taken:
            return False
        self._is_taken = True
        return True

    async def wait(self) -> None:
        """Until it is this task's."""
        mine = asyncio.get_running_loop().create_future()
        if self._queue is None:
            self._queue = deque()
        self._queue.append(mine)
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self.leave()  # it was given in this very instant
            else:
                with suppress(ValueError):  # passed over meanwhile
                    self._queue.remove(mine)
            raise

    def leave(self) -> None:
        """The next one's turn."""
        while self._queue:
            following = self._queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._is_taken = False

    async def __aenter__(self) -> None:
        if not self.take():
            await self.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        self.leave()
