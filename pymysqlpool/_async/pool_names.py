"""The methods of a pool that users of aiomysql and asyncmy expect, in addition to our own.

Never: keeps any state.
"""

from __future__ import annotations

import asyncio
from typing import Any


class PoolNames:
    """The other usual methods of an async MySQL pool."""

    pool: Any

    def get_connection(self) -> Any:
        raise NotImplementedError

    async def drain(self) -> None:
        raise NotImplementedError

    async def close(self, timeout: float = 10.0) -> None:
        raise NotImplementedError

    def acquire(self) -> Any:
        """Borrow a connection: `get_connection()` under aiomysql's name."""
        return self.get_connection()

    async def release(self, connection: Any) -> None:
        """Return a connection that `acquire()` lent; its uncommitted changes are rolled back."""
        await connection.give_back(None)

    def resize(self, size: int, maxsize: int) -> None:
        """See `ConnectionPool.resize`."""
        self.pool.resize(size, maxsize)

    async def clear(self) -> None:
        """Close idle connections now and lent ones when they are returned: `drain()` under aiomysql's name."""
        await self.drain()

    def terminate(self) -> None:
        """Close the pool and cut off the connections that are lent. `wait_closed()` waits until that is done."""
        self._closing = asyncio.get_running_loop().create_task(self.close(0.0))

    async def wait_closed(self) -> None:
        """Wait until the pool is closed after `terminate()`; without a `terminate()`, close it."""
        closing: asyncio.Task[None] | None = getattr(self, "_closing", None)
        await (self.close() if closing is None else asyncio.shield(closing))

    @property
    def closed(self) -> bool:
        """Whether the pool lends nothing any more."""
        return bool(self.pool.is_closed)

    @property
    def minsize(self) -> int:
        """The option `size`, under aiomysql's name."""
        return int(self.pool.stats().size)

    @property
    def maxsize(self) -> int:
        """The bound on connections."""
        return int(self.pool.stats().maxsize)

    @property
    def size(self) -> int:
        """The number of open connections."""
        return int(self.pool.stats().total)

    @property
    def freesize(self) -> int:
        """The number of idle connections."""
        return int(self.pool.stats().idle)
