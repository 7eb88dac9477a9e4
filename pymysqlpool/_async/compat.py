"""What `pymysqlpool.aiomysql` and `pymysqlpool.asyncmy` are made of besides pools: awaitables, and a cursor with the
names of aiomysql's.

Never: adds a name that aiomysql's cursor lacks, except for inherited ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from .._driver import cursors as _cursors
from .cursor import AsyncCursor

T = TypeVar("T")


class Enterable(Coroutine[Any, Any, T]):
    """A coroutine that can also be entered with `async with`."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], leave: Callable[[T], Any]) -> None:
        self._coroutine = coroutine
        self._leave = leave

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, None, T]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> T:
        self._entered = await self._coroutine
        return self._entered

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave(self._entered)


class Nothing:
    """An awaitable that completes at once."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class CompatCursor(AsyncCursor):
    """What `connection.cursor()` returns: await it, enter it with `async with`, or use it directly."""

    @property
    def _result(self) -> Any:
        """The result of the last statement; tortoise-orm reads the column names from it."""
        return _cursors.result_of(self._cursor)

    @property
    def _last_executed(self) -> Any:
        """The last statement as it was sent; tests of users read it."""
        return _cursors.executed_by(self._cursor)

    @property
    def echo(self) -> bool:
        """Whether its statements are logged."""
        return bool(self.connection.echo)

    @property
    def warning_count(self) -> int:
        return self._cursor.warning_count  # type: ignore[no-any-return]


class EchoingCursor(CompatCursor):
    """One that logs its statements, when they were answered, and their arguments: for `echo=True`."""

    def __init__(self, connection: Any, cursor: Any, logger: str) -> None:
        super().__init__(connection, cursor)
        self._logger = logging.getLogger(logger)

    def _echo(self, statement: Any, args: Any) -> None:
        self._logger.info("%s", statement)
        self._logger.info("%r", args)

    async def execute(self, query: Any, args: Any = None) -> int:
        affected = await super().execute(query, args)
        self._echo(self._last_executed, args)
        return affected

    async def executemany(self, query: Any, args: Any) -> int | None:
        affected = await super().executemany(query, args)
        self._echo(f"CALL {query}", args)  # the word that aiomysql has there
        return affected

    async def callproc(self, procname: str, args: Sequence[Any] = ()) -> Any:
        given = await super().callproc(procname, args)
        self._echo(f"CALL {procname}", args)
        return given
