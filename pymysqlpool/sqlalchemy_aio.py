"""SQLAlchemy's asyncio engine on this pool: `create_async_engine(pool)`.

SQLAlchemy uses its aiomysql dialect, which uses `pymysqlpool.aiomysql`; aiomysql itself is not needed. Records and
events work as in `pymysqlpool.sqlalchemy`. Other code may use the pool too, sync or async, so state that a `connect`
event has set does not stay in a session after its return.

Owns: the async borrow and return of an engine. Never: keeps a connection. Needs the extras `sqlalchemy` and `async`.
"""

from __future__ import annotations

from typing import Any

import pymysql
from sqlalchemy import exc
from sqlalchemy.dialects.mysql.aiomysql import AsyncAdapt_aiomysql_connection, AsyncAdapt_aiomysql_dbapi
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util.concurrency import await_only, in_greenlet

from . import aiomysql
from .aio import AsyncConnectionPool
from .errors import PoolTimeout
from .pool import ConnectionPool
from .sqlalchemy import LeasePool, url_of

__all__ = ["AsyncLeasePool", "create_async_engine"]


def create_async_engine(pool: ConnectionPool | AsyncConnectionPool, **options: Any) -> AsyncEngine:
    """Return an asyncio engine that borrows from `pool`. Other code may use the pool too.

    Args:
        pool: a `ConnectionPool`, or an `AsyncConnectionPool`, whose `kill_on_cancel` is not used.
        **options: those of `sqlalchemy.ext.asyncio.create_async_engine()`; options for size and lifetime have no
            effect.
    """
    sync = pool.pool if isinstance(pool, AsyncConnectionPool) else pool
    return sqlalchemy_asyncio.create_async_engine(
        url_of(sync, "mysql+aiomysql"),
        module=AsyncAdapt_aiomysql_dbapi(aiomysql, pymysql),
        poolclass=AsyncLeasePool,
        connection_pool=sync,
        **options,
    )


class AsyncLeasePool(LeasePool):
    """The `poolclass` of `create_async_engine`: a `LeasePool` with a given `connection_pool`, for asyncio."""

    def __init__(self, creator: Any, connection_pool: ConnectionPool, **options: Any) -> None:
        super().__init__(creator, connection_pool, **options)
        self._awaited = aiomysql.Pool(pool=connection_pool)
        self._has_learned = False

    def _make(self) -> ConnectionPool:
        return self._awaited.pool

    def _borrow(self) -> Any:
        if not self._has_learned:
            await_only(self._learn_names_awaited())
            self._has_learned = True
        dialect: Any = self._dialect
        return _Lease(dialect.loaded_dbapi, self._await_borrow())

    def _await_borrow(self) -> Any:
        async def borrow() -> Any:
            return await self._awaited.get_connection(
                self._patience, pre_ping=self._pre_ping_ours, timeout=self._timeout
            )

        try:
            return await_only(borrow())
        except PoolTimeout as error:
            raise exc.TimeoutError(str(error), code="3o7r") from error

    async def _learn_names_awaited(self) -> None:
        async with self._awaited.get_connection(timeout=self._timeout) as connection, connection.cursor() as cursor:
            await cursor.execute(f"SET NAMES {connection.lease.charset}")

    def dispose(self) -> None:
        """Renew the connections (idle ones now, lent ones when they are returned), and end the engine's threads."""
        super().dispose()
        self._awaited.end_threads(wait=False)


class _Lease(AsyncAdapt_aiomysql_connection):
    """SQLAlchemy's adapted connection, with the attributes that `LeasePool` needs of a lease."""

    __slots__ = ()

    @property
    def _lease(self) -> Any:
        connection: Any = self.driver_connection
        return connection.lease

    @property
    def session_info(self) -> dict[Any, Any]:
        return self._lease.session_info  # type: ignore[no-any-return]

    @property
    def client_flag(self) -> int:
        return self._lease.client_flag  # type: ignore[no-any-return]

    @property
    def is_as_new(self) -> bool:
        return self._lease.is_as_new  # type: ignore[no-any-return]

    @property
    def is_returned(self) -> bool:
        connection: Any = self.driver_connection
        return connection.closed  # type: ignore[no-any-return]

    @property
    def pool(self) -> Any:
        return self._lease.pool

    @property
    def open(self) -> bool:
        return self._lease.open  # type: ignore[no-any-return]

    def note_place(self) -> None:
        self._lease.note_place()

    def invalidate(self, exception: BaseException | None = None) -> None:
        self._lease.invalidate(exception)

    def detach(self) -> None:
        self._lease.detach()

    def close(self) -> None:
        connection: Any = self.driver_connection
        if in_greenlet():
            await_only(connection.ensure_closed())
        else:  # called by the garbage collector, which cannot wait
            connection.close()
