"""What users of aiomysql and asyncmy ask of a pool, beside what is ours.

Never: keeps anything.
"""

from __future__ import annotations

import asyncio
from typing import Any


class PoolNames:
    """The rest of the names that are usual on an async MySQL pool."""

    pool: Any

    def get_connection(self) -> Any:
        raise NotImplementedError

    async def drain(self) -> None:
        raise NotImplementedError

    async def close(self, timeout: float = 10.0) -> None:
        raise NotImplementedError

    def acquire(self) -> Any:
        """`get_connection()`, by another name."""
        return self.get_connection()

    async def release(self, connection: Any) -> None:
        """Give back what was had by `acquire()`; what it has not committed is rolled back."""
        await connection.give_back(None)

    def resize(self, size: int, maxsize: int) -> None:
        """See `ConnectionPool.resize`."""
        self.pool.resize(size, maxsize)

    async def clear(self) -> None:
        """Close what is idle, and what is lent as it comes home: `drain()`, by another name."""
        await self.drain()

    def terminate(self) -> None:
        """Close the pool, and cut off what is lent. `wait_closed()` waits for the end of it."""
        self._closing = asyncio.get_running_loop().create_task(self.close(0.0))

    async def wait_closed(self) -> None:
        """Until the pool is closed, after `terminate()`; else this closes it."""
        closing: asyncio.Task[None] | None = getattr(self, "_closing", None)
        await (self.close() if closing is None else asyncio.shield(closing))

    @property
    def closed(self) -> bool:
        return bool(self.pool.is_closed)

    @property
    def minsize(self) -> int:
        return int(self.pool.stats().size)

    @property
    def maxsize(self) -> int:
        return int(self.pool.stats().maxsize)

    @property
    def size(self) -> int:
        """How many connections there are."""
        return int(self.pool.stats().total)

    @property
    def freesize(self) -> int:
        """How many of them are idle."""
        return int(self.pool.stats().idle)
