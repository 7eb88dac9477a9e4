"""What the borrower holds: a real PyMySQL connection for the time of one lease.

Each checkout is a fresh `Connection` object onto which an established session is put, and which is dead after it was
given back: no method of it, nor of its cursors, reaches a socket any more, and the error says so (Invariant 7). Made
directly, without a pool, it is PyMySQL's connection and nothing else.

A `Connection` never decides its own fate: the pool asks `reuse.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pymysql.cursors import DictCursor

from . import _borrower
from ._statements import TRANSACTION, WROTE
from ._wire import WireConnection, can_go_on
from .errors import ConnectionInterruptedError, ReturnConnectionToPoolError

if TYPE_CHECKING:
    from ._ledger import Slot
    from .pool import ConnectionPool


class Connection(WireConnection):
    """A `pymysql.connections.Connection`, lent by a pool or standing alone.

    Lent by a pool, `close()` gives it back. As a context manager it commits at the end of a good block, rolls back
    at an exception, and gives itself back either way.
    """

    # Apart from the attributes of the session, which come and go in one step.
    __slots__ = ("_pool", "_slot")
    _pool: ConnectionPool | None
    _slot: Slot | None

    _depth = 0  # with-blocks that are open
    _returned: _borrower.Place | None = None  # where it was given back
    _borrowed: _borrower.Place | None = None  # where it was borrowed; known when it was given back

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pool = None
        self._slot = None
        super().__init__(*args, **kwargs)

    # -- giving back ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the connection back to its pool; without a pool, close it.

        Raises:
            ReturnConnectionToPoolError: it has been given back already.
        """
        if self._pool is None:
            super().close()
        else:
            self._pool._give_back(self, None, sys._getframe(1))

    def __enter__(self) -> Self:
        if self._pool is not None:
            if self._returned is not None:
                self._refuse_closed()
            self._depth += 1
        return self

    def __exit__(
        self,
        *exc_info: Any,
    ) -> None:
        exception: BaseException | None = exc_info[1] if len(exc_info) > 1 else None
        if self._pool is None:
            super().close()
            return
        if self._returned is not None:
            if exception is None:
                self._refuse_closed()
            return  # the error in flight matters more
        self._depth -= 1
        if self._depth:
            return
        if exception is None and self._marks & TRANSACTION:
            try:
                self._commit_at_the_end()
            except BaseException as error:
                self._pool._give_back(self, error, sys._getframe(1))
                raise
        self._pool._give_back(self, exception, sys._getframe(1))

    def _commit_at_the_end(self) -> None:
        if can_go_on(self):
            self.commit()
        elif self._marks & WROTE:
            raise ConnectionInterruptedError(
                "the with-block ended with a result half read, so its changes could not be committed and are "
                "rolled back; read the result to its end, or close its cursor, before the block ends"
            )

    def note_place(self) -> None:
        """Say in reports that this connection was borrowed by the line that called the adapter, not by the adapter."""
        if self._slot is not None:
            self._slot.place = _borrower.place()

    # -- conveniences of pymysql-pool ----------------------------------------------------------------------

    def execute_query(
        self,
        query: str,
        args: Any = (),
        dictcursor: bool = False,
        return_one: bool = False,
        exec_many: bool = False,
    ) -> Any:
        """Run one statement, return its rows and give the connection back.

        Inside a with-block of this connection it stays lent until the block ends.

        Args:
            query: the statement, with `%s` placeholders.
            args: their values; with `exec_many` a sequence of such.
            dictcursor: rows as dicts instead of tuples.
            return_one: only the first row, None when there is none.
            exec_many: use `executemany`.

        Returns:
            All rows (an empty sequence when there is none), or one with `return_one`.
        """
        with self:
            cursor = self.cursor(DictCursor) if dictcursor else self.cursor()
            if exec_many:
                cursor.executemany(query, args)
            else:
                cursor.execute(query, args)
            return cursor.fetchone() if return_one else cursor.fetchall()

    def execute(self, query: str, args: Any = None) -> int:
        """Execute on a cursor that the connection keeps: `with connection as cur: cur.execute(...)`."""
        return self._kept_cursor().execute(query, args)  # type: ignore[no-any-return]

    def executemany(self, query: str, args: Any) -> int | None:
        return self._kept_cursor().executemany(query, args)  # type: ignore[no-any-return]

    def fetchone(self) -> Any:
        return self._kept_cursor().fetchone()

    def fetchmany(self, size: int | None = None) -> Any:
        return self._kept_cursor().fetchmany(size)

    def fetchall(self) -> Any:
        return self._kept_cursor().fetchall()

    def _kept_cursor(self) -> Any:
        kept = self.__dict__.get("_kept")
        if kept is None:
            kept = self.__dict__["_kept"] = self.cursor()
        return kept

    # -- after the end -------------------------------------------------------------------------------------

    def _refuse_closed(self) -> NoReturn:
        if self._pool is not None and self._returned is not None:
            raise ReturnConnectionToPoolError(
                f"this connection has already returned to the pool({self._pool.name}); it was borrowed at "
                f"{_borrower.describe_place(self._borrowed)}, and given back at "
                f"{_borrower.describe_place(self._returned)}"
            )
        super()._refuse_closed()

    def __del__(self) -> None:
        # No I/O here: it may run in any thread, at any instant, also while the pool's lock is held.
        try:
            slot, pool = self._slot, self._pool
        except AttributeError:
            return  # interrupted while it was made: it never had anything
        if slot is not None and pool is not None:
            if slot.drop(self):
                pool._dropped.append(slot)
        elif pool is None:
            self._force_close()

    def __repr__(self) -> str:
        if self._pool is None:
            return f"<{type(self).__name__} {'open' if self.open else 'closed'}>"
        state = "returned" if self._returned is not None else "lent" if self.open else "closed"
        return f"<{type(self).__name__} of pool {self._pool.name!r} {state}>"


class ReturnedConnection(Connection):
    """What a lease becomes when it is given back: a `Connection` that can do nothing but say so.

    A class of its own, because a `__getattr__` would slow down every attribute of the living.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._refuse_closed()

    def ping(self, *arguments: Any, **named: Any) -> None:
        self._refuse_closed()

    def insert_id(self) -> int:
        self._refuse_closed()


ReturnedConnection.__name__ = Connection.__name__
