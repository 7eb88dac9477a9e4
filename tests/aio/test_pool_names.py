"""A pool's other names for tasks."""

from __future__ import annotations

import asyncio

from .conftest import Opened


def test_a_pool_has_the_names_that_users_of_aiomysql_expect(opened: Opened) -> None:
    async def main() -> None:
        async with opened(size=1, maxsize=2) as pool:
            connection = await pool.acquire()
            assert (pool.minsize, pool.maxsize, pool.size, pool.freesize, pool.closed) == (1, 2, 1, 0, False)
            await pool.release(connection)
            assert (pool.size, pool.freesize) == (1, 1)
            pool.resize(2, 3)
            assert (pool.minsize, pool.maxsize) == (2, 3)
            await pool.clear()
            assert pool.size == 0
            pool.terminate()
            await pool.wait_closed()
            assert pool.closed

    asyncio.run(main())
