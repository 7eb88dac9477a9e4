"""`Borrowing`: what `pool.get_connection()` returns, to be awaited or entered with `async with`.

Never: borrows before it is awaited or entered.
"""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Any, NoReturn

from .connection import AsyncConnection
from .cursor import AsyncCursor
from .elsewhere import names_elsewhere

_HOW_TO_BORROW = (
    "Write `async with pool.get_connection() as connection:`, or `connection = await pool.get_connection()`"
)


class Borrowing:
    """A checkout that has not started: await it, or enter it with `async with`."""

    __slots__ = ("_arguments", "_connection", "_pool")

    def __init__(self, pool: Any, *arguments: Any) -> None:
        self._pool = pool
        self._arguments = arguments  # of the pool's `_lend`

    def __await__(self) -> Generator[Any, None, AsyncConnection]:
        return self._pool._lend(*self._arguments)  # type: ignore[no-any-return]

    def __enter__(self) -> NoReturn:
        raise TypeError(f"a plain `with` cannot wait for a connection. {_HOW_TO_BORROW}")

    def __exit__(self, *exc_info: object) -> None:
        """Never reached. Without it, the interpreter would raise its own error before `__enter__` is called."""

    async def __aenter__(self) -> AsyncConnection:
        connection: AsyncConnection = await self
        self._connection = connection
        return connection.enter_block()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(exc_type, exception, traceback)


names_elsewhere(
    Borrowing,
    {*dir(AsyncConnection), *dir(AsyncCursor), "lease"},
    f"there is no connection yet. {_HOW_TO_BORROW}",
)
