"""What the borrower holds: a real PyMySQL connection for the time of one lease.

Each checkout is a fresh `Connection` object onto which an established session is put when it is first used, and which
is dead after its return: no method of it or of its cursors reaches a socket any more, and the error says why
(Invariant 7). Made directly, without a pool, it behaves as PyMySQL's connection.

Owns: the public methods of a lent connection. Knows its pool as a `Home` only. Never: decides whether its connection
is reused; see `reuse.py`. What makes a lease cheap is in `idle_lease.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, Unpack

from .._driver.commits import commit_token_of
from .._driver.exchange import can_go_on
from .._driver.statements import INSERT_ID, TRANSACTION, WROTE
from .._util import callsite
from .._util.log import logger
from ..errors import ConnectionInterruptedError, ReturnConnectionToPoolError
from ..reuse import Reason
from ..secrets import conceal, reveal
from ..settings import Settings
from .ledger import Ledger
from .refusal_news import TellsOfRefusals
from .slot import Slot

if TYPE_CHECKING:
    from ..options import ConnectOptions

_getframe = sys._getframe


class Home(Protocol):
    """What a lease needs of its pool. The pool implements it."""

    name: str
    _ledger: Ledger
    _connector: Any  # has the `recipe` of the sessions
    _connect_args: Mapping[str, Any]  # for PyMySQL, passwords concealed
    _tend_at: float  # monotonic; from then on a return does the maintenance
    _verbose: bool  # a return writes to the debug log

    def _give_back(self, lease: Any, exception: BaseException | None, frame: FrameType | callsite.Spot) -> None:
        """End `lease`, and judge its connection."""

    def _give_to_next(self, lease: Any) -> None:
        """Pass on the clean connection of `lease`, which has ended: to a waiter, or to the idle ones."""

    def _detach(self, lease: Any) -> None:
        """Let `lease` keep its connection, and free the slot."""

    def _look_again(self) -> None:
        """While a connection became idle, a caller began to wait, or the pool began to close."""

    def _after_return(self, now: float) -> None:
        """Log, and look after the idle connections when it is time."""


class Lender(Protocol):
    """What borrows and gives back need of a pool, for files on floors below it."""

    name: str
    endpoint: str

    @property
    def settings(self) -> Settings: ...

    def get_connection(
        self,
        retry_num: int = 3,
        retry_interval: float = 0.1,
        pre_ping: bool | float = False,
        timeout: float | None = None,
    ) -> Connection: ...

    def give_back(self, connection: Connection, exception: BaseException | None = None) -> None: ...


class Connection(TellsOfRefusals):
    """A `pymysql.connections.Connection`, lent by a pool or standing alone.

    Lent by a pool, `close()` gives it back. As a context manager it commits at the end of a good block, rolls back
    at an exception, and gives itself back either way; inside another with-block or a transaction block of the same
    connection it does neither, because the outer block ends the work.

    Attributes:
        block: the transaction block that is open on it, or what a deadlock has left of its work; None for neither.
        has_owner: whether the scope of a request gives it back; its with-blocks then commit or roll back, and leave it
            lent.
    """

    # Apart from the attributes of the session, which come and go in one step.
    __slots__ = ("_claim", "_code", "_lasting", "_offset", "_pool", "_returned_code", "_returned_offset", "_slot")
    _pool: Home | None
    _slot: Slot | None
    # Of a lease that was given back: where it was borrowed, and where it was given back, see `Slot.place`.
    _lasting: Any  # and what it still answers
    _code: Any
    _offset: int
    _returned_code: Any
    _returned_offset: int
    _claim: Any  # there as long as the lease is neither used nor given back

    has_owner = False
    _wrote_before = False  # of an owner's lease: the with-block began with uncommitted changes
    _returned: callsite.Place | None = None  # where it was given back
    _given: Mapping[str, Any] = MappingProxyType({})  # without a pool: the arguments that it was made with

    def __init__(self, *args: Any, **kwargs: Unpack[ConnectOptions]) -> None:
        self._pool = None
        self._slot = None
        self._given = given = conceal(kwargs)
        del kwargs  # in the clear, for tools that report the variables of frames
        super().__init__(*args, **reveal(given))

    def _arguments(self) -> Mapping[str, Any]:
        return self._given if self._pool is None else self._pool._connect_args

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
            if self.has_owner and not self._depth:
                self._wrote_before = self.is_used and bool(self._marks & WROTE)
            self._depth += 1
        return self

    def __exit__(self, *exc_info: Any) -> None:
        exception: BaseException | None = exc_info[1] if len(exc_info) > 1 else None
        if self._pool is None:
            super().close()
            return
        if self._returned is not None:
            if exception is None:
                self._refuse_closed()
            return  # the error in flight matters more
        self._depth -= 1
        block = self.block
        if self._depth or self.task_depth or (block is not None and block.is_transaction):  # as `in_block`
            return  # the outer block ends the work
        try:
            if exception is None:
                if block is not None and block.within:
                    raise block.error() from block.cause
                if self._marks & TRANSACTION:
                    self.commit_at_the_end()
            elif self.has_owner and self.open and can_go_on(self):
                self.rollback()
        except BaseException as error:
            self.give_back(error, _getframe(1))
            if exception is not None and isinstance(error, Exception):
                return  # as above
            raise
        tells_of_loss = exception is not None and self._wrote_before and not self.open  # at the owner's next use
        if not (self.has_owner and (tells_of_loss or (self.open and can_go_on(self)))):
            self.give_back(exception, _getframe(1))

    @property
    def is_returned(self) -> bool:
        """Whether this lease has ended."""
        return self._returned is not None

    @property
    def is_lost(self) -> bool:
        """Whether it was used, and its session is known to be gone."""
        return self.is_used and (not self.open or self.ended_by_server)

    @property
    def can_pipeline(self) -> bool:
        """Whether its server is known to take several commands in one go."""
        recipe = self._pool._connector.recipe if self._pool is not None else None
        return recipe is not None and recipe.pipelines and self.open

    def lend_from(self, pool: Home | None) -> None:
        """Begin as a lease of `pool` that has no connection yet."""
        self._pool = pool
        self._slot = None

    def give_back(self, exception: BaseException | None, frame: FrameType | callsite.Spot) -> None:
        """Return it after `exception`, on behalf of the code in `frame`."""
        assert self._pool is not None
        self._pool._give_back(self, exception, frame)

    def detach_session(self) -> dict[str, Any]:
        """The attributes of the session, whose lease has ended in this one step (Invariant 7).

        Raises:
            ReturnConnectionToPoolError: it has ended before.
        """
        attributes = self.__dict__
        if attributes.pop("_live", None) is None:
            self._refuse_closed()
        return attributes

    # -- other ends ----------------------------------------------------------------------------------------

    def invalidate(self, exception: BaseException | None = None) -> None:
        """Close the connection at its return, instead of lending it again.

        Args:
            exception: why, for the debug log.
        """
        slot = slot_of(self)
        if slot is None:
            if self._pool is None:
                self.drop_socket()
            return
        said = {"event": "invalidate", "pool": getattr(self._pool, "name", "")}
        logger.debug("Connection of pool(%s) is invalidated: %s", said["pool"], exception, extra=said)
        slot.expire(Reason.INVALIDATED)

    def detach(self) -> None:
        """Take the connection out of its pool, which may make another: it stays open and is yours to `close()`.

        Raises:
            ReturnConnectionToPoolError: it has been given back already.
        """
        if self._pool is not None:
            self._pool._detach(self)

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
    def pool(self) -> Any:
        """The pool that lent it, also after its return; None for a connection that stands alone."""
        return self._pool

    @property
    def commit_token(self) -> str | None:
        """The position of this lease's last commit, for `replica.get_connection(after=...)`; also after its return.
        None: nothing was committed, or `track_commits` is off. "?": something may have been, and where is not known."""
        return commit_token_of(self.__dict__)

    @property
    def session_info(self) -> dict[Any, Any]:
        """A dict for notes about this session. It stays with the session from one borrower to the next, until the
        session is closed. Without a pool, and after the return, it is a dict of this object alone."""
        slot = slot_of(self)
        if slot is None:
            notes: dict[Any, Any] = self.__dict__.setdefault("_session_info", {})
            return notes
        if slot.info is None:
            slot.info = {}
        return slot.info

    @property
    def is_as_new(self) -> bool:
        """Whether its session needs no cleaning: nothing was done to it that a new one would not show."""
        slot = slot_of(self)
        return slot is not None and not (self.is_used and slot.wire.marks_left(self.__dict__))

    def forget_insert_id(self) -> None:
        """Let the next borrower see this one's LAST_INSERT_ID(), which costs a command to undo. For libraries that
        borrow on behalf of all users of a pool, and read the id from the reply to the INSERT."""
        if self.is_used:
            self._marks &= ~INSERT_ID

    @property
    def sent(self) -> int:
        """How many statements were sent over this connection since it was made, by all borrowers."""
        return self._slot.queries if self._slot is not None else 0

    def note_place(self, frame: FrameType | None = None, within: FrameType | None = None) -> None:
        """Record as call site the line of `frame`, or that which called the adapter, which called `within`."""
        if self._slot is not None:
            self._slot.place = callsite.place(within) if frame is None else (frame.f_code, frame.f_lasti)

    # -- after the end -------------------------------------------------------------------------------------

    @property
    def _borrowed(self) -> callsite.Place | None:  # known when it was given back
        return callsite.resolve(getattr(self, "_code", None), getattr(self, "_offset", 0))

    def refuse_closed(self) -> NoReturn:
        """Raise what says that this lease has ended, with where it was borrowed and given back."""
        self._refuse_closed()

    def _refuse_closed(self) -> NoReturn:
        if self._pool is not None and "_live" not in self.__dict__:  # or being given back by another thread
            raise ReturnConnectionToPoolError(
                f"this connection has already returned to the pool({self._pool.name}); it was borrowed at "
                f"{callsite.describe_place(self._borrowed)}, and given back at "
                f"{callsite.describe_place(self._returned)}"
            )
        super()._refuse_closed()

    def __del__(self) -> None:
        # No I/O here: it may run in any thread, at any instant, also while the pool's lock is held.
        try:
            slot = self._slot
        except AttributeError:
            return  # interrupted while it was made: it never had anything
        if slot is not None:
            slot.mark_leaked(self)
        elif self._pool is None:
            self.drop_socket()

    def __copy__(self, memo: Any = None) -> NoReturn:
        raise TypeError("a connection cannot be copied: two handles would share one session. Borrow another")

    __deepcopy__ = __copy__

    def __repr__(self) -> str:
        if self._pool is None:
            return f"<{type(self).__name__} {'open' if self.open else 'closed'}>"
        state = "returned" if self._returned is not None else "lent" if self.open else "closed"
        return f"<{type(self).__name__} of pool {self._pool.name!r} {state}>"


def slot_of(lease: Connection) -> Slot | None:
    """The slot that `lease` owns; None when it has been given back, taken back, or stands alone."""
    slot = lease._slot
    return slot if slot is not None and slot.holder == id(lease) else None


def standalone() -> Connection:
    """A connection of no pool that has no session yet: what `on_connect` is called with, once it has one."""
    connection = Connection.__new__(Connection)
    connection._pool = None
    connection._slot = None
    return connection
