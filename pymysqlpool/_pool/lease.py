"""What the borrower holds: a real PyMySQL connection for the time of one lease.

Each checkout is a fresh `Connection` object onto which an established session is put when it is first used, and which
is dead after it was given back: no method of it, nor of its cursors, reaches a socket any more, and the error says so
(Invariant 7). Made directly, without a pool, it is PyMySQL's connection and nothing else.

    UntouchedConnection -> Connection -> MortalConnection      lent, used, given back
    UntouchedConnection                                        lent and given back without being used

A lease that nobody used left nothing behind, so giving it back asks no further. Which of the two it is, is decided in
one step: who deletes `_untouched` has it.

Without a GIL a lease is a `MortalConnection` all the time, used or not: to change the class of an object that several
threads know of stops them all, and a few hundred times a second is all that comes of it.

A `Connection` never decides its own fate: the pool asks `reuse.py`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Set
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pymysql.cursors import DictCursor, SSCursor

from .._driver.exchange import can_go_on
from .._driver.mysqlclient_names import MysqlclientNames
from .._driver.statements import TRANSACTION, WROTE
from .._driver.wire import SESSION_DEFAULTS, Wire
from .._util import callsite as _borrower
from ..errors import ConnectionInterruptedError, ReturnConnectionToPoolError
from .ledger import IDLE, Ledger, Slot

if TYPE_CHECKING:
    from ..pool import ConnectionPool


class Connection(MysqlclientNames):
    """A `pymysql.connections.Connection`, lent by a pool or standing alone.

    Lent by a pool, `close()` gives it back. As a context manager it commits at the end of a good block, rolls back
    at an exception, and gives itself back either way; inside another with-block or a transaction block of the same
    connection it does neither, because the outer block ends the work.

    Attributes:
        block: the transaction block that is open on it, None for none.
        has_owner: whether the scope of a request gives it back; its with-blocks then commit or roll back, and leave it
            lent.
    """

    # Apart from the attributes of the session, which come and go in one step.
    __slots__ = ("_code", "_offset", "_pool", "_returned_code", "_returned_offset", "_slot", "_untouched")
    _pool: ConnectionPool | None
    _slot: Slot | None
    # Of a lease that was given back: where it was borrowed, and where it was given back, see `Slot.place`.
    _code: Any
    _offset: int
    _returned_code: Any
    _returned_offset: int
    _untouched: Any  # there as long as the lease is neither used nor given back

    has_owner = False
    _depth = 0  # with-blocks that are open
    _returned: _borrower.Place | None = None  # where it was given back

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
            self._pool._give_back(self, None, _getframe(1))

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
        if self._depth or self.block is not None:
            return  # whoever opened the outer block ends the work
        try:
            if exception is None:
                if self._marks & TRANSACTION:
                    self.commit_at_the_end()
            elif self.has_owner and self.open and can_go_on(self):
                self.rollback()
        except BaseException as error:
            self._pool._give_back(self, error, sys._getframe(1))
            raise
        if not (self.has_owner and self.open and can_go_on(self)):
            self._pool._give_back(self, exception, sys._getframe(1))

    @property
    def is_returned(self) -> bool:
        """Whether this lease has ended."""
        return self._returned is not None

    @property
    def is_lost(self) -> bool:
        """Whether it was used, and its session is known to be gone."""
        return self.is_used and (not self.open or self.said_farewell)

    @property
    def can_pipeline(self) -> bool:
        """Whether its server is known to take several commands in one go."""
        recipe = self._pool._connector.recipe if self._pool is not None else None
        return recipe is not None and recipe.pipelines and self.open

    def take_out(self) -> dict[str, Any]:
        """The attributes of the session, whose lease has ended in this one step (Invariant 7).

        Raises:
            ReturnConnectionToPoolError: it has ended before.
        """
        attributes = self.__dict__
        if attributes.pop("_live", None) is None:
            self._refuse_closed()
        return attributes

    @property
    def is_used(self) -> bool:
        """Whether it has a session that may have been touched."""
        return "_live" in self.__dict__

    def commit_at_the_end(self) -> None:
        if can_go_on(self):
            self.commit()
        elif self._marks & WROTE:
            raise ConnectionInterruptedError(
                "the with-block ended with a result half read, so its changes could not be committed and are "
                "rolled back; read the result to its end, or close its cursor, before the block ends"
            )

    @property
    def sent(self) -> int:
        """How many statements were sent over this connection since it was made, whoever borrowed it."""
        return self._slot.queries if self._slot is not None else 0

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
            if not isinstance(kept, SSCursor):  # which asks its connection when it ends
                kept.connection = weakref.proxy(self)  # a lease that is dropped need not wait for the garbage collector
        return kept

    # -- after the end -------------------------------------------------------------------------------------

    @property
    def _borrowed(self) -> _borrower.Place | None:
        """Where it was borrowed; known when it was given back."""
        return _borrower.spell_out(getattr(self, "_code", None), getattr(self, "_offset", 0))

    def _refuse_closed(self) -> NoReturn:
        if self._pool is not None and "_live" not in self.__dict__:  # or being given back by another thread
            raise ReturnConnectionToPoolError(
                f"this connection has already returned to the pool({self._pool.name}); it was borrowed at "
                f"{_borrower.describe_place(self._borrowed)}, and given back at "
                f"{_borrower.describe_place(self._returned)}"
            )
        super()._refuse_closed()

    def __del__(self) -> None:
        # No I/O here: it may run in any thread, at any instant, also while the pool's lock is held.
        try:
            slot = self._slot
        except AttributeError:
            return  # interrupted while it was made: it never had anything
        if slot is not None:
            slot.drop(self)
        elif self._pool is None:
            self._force_close()

    def __repr__(self) -> str:
        if self._pool is None:
            return f"<{type(self).__name__} {'open' if self.open else 'closed'}>"
        state = "returned" if self._returned is not None else "lent" if self.open else "closed"
        return f"<{type(self).__name__} of pool {self._pool.name!r} {state}>"


class _OfTheSession:
    """Stands for an attribute of the session on a lease that has none yet.

    Not a `__getattr__`: with one, Python 3.11 takes ten times as long to find any attribute, those that are there too.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return SESSION_DEFAULTS.get(self._name, self)
        # A function: in any instant another thread may make a `Connection` of it.
        UntouchedConnection._touch(instance)
        return getattr(instance, self._name)


_getframe = sys._getframe
_ONE_STEP = 1.0  # seconds; who takes longer for it was interrupted, and never ends it
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class UntouchedConnection(Connection):
    """A lease until it is used: looking at anything of the session makes it a `Connection` that has one."""

    __slots__ = ()

    __init__ = object.__init__  # making one opens nothing

    def _await_claimer(self) -> None:
        """Another thread uses this lease, or gives it back, in this very instant: let it come to the end of that. It
        is there already, but for a process with an audit hook, which is called when a class is assigned."""
        until = monotonic() + _ONE_STEP
        while type(self) is UntouchedConnection and self._slot is not None and monotonic() < until:
            sleep(0)

    def _touch(self) -> None:
        slot = self._slot
        if slot is None:
            self._refuse_closed()
        wire = slot.wire
        if wire is None or slot.holder != id(self):
            self._refuse_taken_back()
        attributes = wire.attributes()
        own = self.__dict__
        if own:
            attributes.update(own)
        try:
            del self._untouched  # no call from here to the end, so nothing can interrupt it
        except AttributeError:
            UntouchedConnection._await_claimer(self)
            if type(self) is UntouchedConnection:
                self._refuse_closed()
            return  # another thread did the same in this very instant
        self.__dict__ = attributes
        self.__class__ = Connection  # type: ignore[assignment]  # the base class, of the same layout

    def close(self) -> None:
        """Give the connection back: its session is as it was, so it is ready to be lent again.

        Raises:
            ReturnConnectionToPoolError: it has been given back already.
        """
        slot: Slot | None = self._slot
        pool: Any = self._pool
        if slot is None:
            self._refuse_closed()
        ledger: Ledger = pool._ledger
        ready = UntouchedConnection()  # as `ready_lease` makes it, without the call
        ready._slot = slot
        ready._untouched = None
        self._code, self._offset = slot.place, slot.offset
        yours = id(ready)
        # No call from the questions to the last answer, so that nothing comes between them. A slot that was taken from
        # its lease is also expired.
        if not ledger.calm or slot.expires_at <= slot.since:
            pool._give_back(self, None, _getframe(1))
            return
        try:
            del self._untouched
        except AttributeError:
            pool._give_back(self, None, _getframe(1))  # another thread used it, or gave it back, in this very instant
            return
        slot.state = IDLE
        slot.holder = yours
        ledger.idle.append(ready)
        self._slot = None
        if not ledger.calm:
            pool._look_again()
        if slot.since >= pool._tend_at or pool._verbose:
            pool._attend(slot.since)

    def cursor(self, cursor: Any = None) -> Any:
        UntouchedConnection._touch(self)
        return self.cursor(cursor)

    def take_out(self) -> dict[str, Any]:
        slot = self._slot
        try:
            del self._untouched
        except AttributeError:
            UntouchedConnection._await_claimer(self)
            if type(self) is UntouchedConnection:
                self._refuse_closed()
            return self.take_out()  # used by another thread in this very instant
        wire: Wire | None = slot.wire if slot is not None else None
        return wire.attributes() if wire is not None else {}

    @property
    def open(self) -> bool:
        return self._slot is not None

    @property
    def _returned(self) -> _borrower.Place | None:  # type: ignore[override]  # nobody sets it, on this class
        return None if self._slot is not None else _borrower.UNKNOWN

    def _refuse_closed(self) -> NoReturn:
        assert self._pool is not None
        raise ReturnConnectionToPoolError(
            f"this connection has already returned to the pool({self._pool.name}), unused; it was borrowed at "
            f"{_borrower.describe_place(self._borrowed)}"
        )

    def __del__(self) -> None:
        try:
            if self._slot is not None:
                self._slot.drop(self)
        except AttributeError:
            pass  # interrupted while it was made: it never had anything

    def __repr__(self) -> str:
        if not hasattr(self, "_pool") or self._pool is None:
            return f"<{type(self).__name__} that is not lent yet>"
        return f"<{type(self).__name__} of pool {self._pool.name!r} {'lent' if self.open else 'returned'}>"


def new_lease(pool: ConnectionPool) -> Connection:
    """A lease of `pool` that has nothing yet."""
    lease: UntouchedConnection | MortalConnection = UntouchedConnection() if HAS_GIL else MortalConnection()
    lease._pool = pool
    lease._slot = None
    if HAS_GIL:
        lease._untouched = None
    return lease


def standalone() -> Connection:
    """A connection of no pool that has no session yet: what `on_connect` is called with, once it has one."""
    connection = Connection.__new__(Connection)
    connection._pool = None
    connection._slot = None
    return connection


def ready_lease(slot: Slot) -> UntouchedConnection:
    """The lease that will be lent next on an idle connection."""
    lease: UntouchedConnection = UntouchedConnection()
    lease._slot = slot
    lease._untouched = None
    return lease


class MortalConnection(Connection):
    """A lease that lives as long as it has the attributes of a session; then it can do nothing but say so.

    With a GIL a `Connection` becomes one when it is given back, because a `__getattr__` would slow down every attribute
    of the living (in Python 3.11).
    """

    __slots__ = ()

    __init__ = object.__init__  # making one opens nothing

    def live(self, wire: Wire) -> None:
        """Begin to: put the session of `wire` on."""
        self.__dict__ = wire.attributes()

    def __getattr__(self, name: str) -> Any:
        if name in Connection.__slots__ or name.startswith("__") or "_live" in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._refuse_closed()

    @property
    def _returned(self) -> _borrower.Place | None:  # type: ignore[override]
        if "_live" in self.__dict__:
            return None
        place = _borrower.spell_out(getattr(self, "_returned_code", None), getattr(self, "_returned_offset", 0))
        return place or _borrower.UNKNOWN

    def ping(self, *arguments: Any, **named: Any) -> None:
        if "_live" not in self.__dict__:
            self._refuse_closed()
        super().ping(*arguments, **named)

    def insert_id(self) -> int:
        if "_live" not in self.__dict__:
            self._refuse_closed()
        return super().insert_id()  # type: ignore[no-any-return, no-untyped-call]


def learn_attributes(names: Set[str]) -> None:
    """Leases show what sessions have before they have one. Called with the attributes of each new session, which are
    nearly always those of the first."""
    known = vars(UntouchedConnection).keys()
    if not names <= known:
        for name in names - known:
            setattr(UntouchedConnection, name, _OfTheSession(name))


learn_attributes(SESSION_DEFAULTS.keys() - set(Connection.__slots__))
UntouchedConnection.__name__ = MortalConnection.__name__ = Connection.__name__
