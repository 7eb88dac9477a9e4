"""Tasks that use one connection take turns, in order of arrival.

Like an `asyncio.Lock` for one loop; while no task waits, taking and leaving a turn are plain calls.

Never: leaves a turn with a task that was cancelled while it waited for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Turn:
    # Without an __init__: each borrow makes one, and most are taken a few times and never queued for.
    is_taken = False
    is_waited_for = False  # a task has come to wait for it
    _queue: deque[asyncio.Future[None]] | None = None

    def locked(self) -> bool:
        return self.is_taken

    def take(self) -> bool:
        """Take the turn if it is free and return True; if False, the caller has to `wait`."""
        if self.is_taken:
            return False
        self.is_taken = True
        return True

    async def wait(self) -> None:
        """Wait until the turn is this task's."""
        mine = asyncio.get_running_loop().create_future()
        if self._queue is None:
            self._queue = deque()
            self.is_waited_for = True
        self._queue.append(mine)
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self.leave()  # the turn arrived at the moment of the cancellation: pass it on
            else:
                with suppress(ValueError):  # passed over meanwhile
                    self._queue.remove(mine)
            raise

    def leave(self) -> None:
        """Pass the turn to the next waiting task, or free it."""
        while self._queue:
            following = self._queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        self.is_taken = False

    async def __aenter__(self) -> None:
        if not self.take():
            await self.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        self.leave()
