"""How a lease is made cheap: lent and given back without the lock, and without a session until one is needed.

    UnusedLease -> Connection -> SpentLease      lent, used, given back
    UnusedLease                                  lent and given back without being used

Owns: the classes that a lease changes between, and one of the two lock-free steps of the pool: `UnusedLease.close`
appends a ready lease, `first_step.FirstStep.get_connection` pops one. tests/core/test_ledger.py drives these very
functions. Never: judges a connection; each shortcut asks `expires_at` alone.

Each step is written once, in the method that a thread calls, because one call more makes a borrow and return 11 %
slower. The other callers pay for the call: a borrow that must not block passes `AT_ONCE`, and the return of a lease
that was used ends with `return_clean`.

A lease that was not used left nothing behind, so its return asks no further. Whether it was used is decided in one
step: the thread that deletes `_claim` has it.

Without a GIL a lease is a `SpentLease` all the time, used or not, and the lock is always taken: changing the class of
an object that several threads can reach stops them all, which allows only a few hundred changes a second.

Invariants that live here: 2 (nothing idle beside a waiter), 3 (one hand-over), 7 (dead leases stay dead), 9 (a clean
return costs no round trip).
"""

from __future__ import annotations

import sys
from collections.abc import Set
from contextlib import suppress
from time import monotonic, sleep
from types import FrameType
from typing import Any, NoReturn

from .._driver.lasting import fact
from .._driver.wire import SESSION_DEFAULTS, Wire
from .._util import callsite
from ..errors import ReturnConnectionToPoolError, as_attribute_error
from .lease import Connection, Home
from .ledger import Ledger
from .slot import IDLE, Slot
from .spent_lease import SpentLease, learn_lost_attributes

_getframe = sys._getframe
_ONE_STEP = 1.0  # seconds; a thread that takes longer for it was interrupted, and never ends it
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class _SessionAttribute:
    """Stands for an attribute of the session on a lease that has none yet.
    Not a `__getattr__`: with one, Python 3.11 takes ten times as long to find any attribute, those that are there too.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return SESSION_DEFAULTS.get(self._name, self)
        if instance._slot is None:
            with suppress(AttributeError):
                return fact(instance._lasting, self._name)
        # A function: in any instant another thread may make a `Connection` of it.
        UnusedLease._touch(instance)
        return getattr(instance, self._name)


class UnusedLease(Connection):
    """A lease until it is used: looking at anything of the session makes it a `Connection` that has one."""

    __slots__ = ()

    __init__ = object.__init__  # making one opens nothing

    def _await_claimer(self) -> None:
        """Wait for another thread's use or return. It has ended already, but where an audit hook runs in between."""
        until = monotonic() + _ONE_STEP
        while type(self) is UnusedLease and self._slot is not None and monotonic() < until:
            sleep(0)

    def _touch(self) -> None:
        slot = self._slot
        if slot is None:
            self._refuse_attribute()
        wire = slot.wire
        if wire is None or slot.holder != id(self):
            self._refuse_attribute()
        attributes = wire.attributes()
        own = self.__dict__
        if own:
            attributes.update(own)
        try:
            del self._claim  # no call from here to the end, so nothing can interrupt it
        except AttributeError:
            UnusedLease._await_claimer(self)
            if type(self) is UnusedLease:
                self._refuse_closed()
            return  # another thread did the same at this moment
        self.__dict__ = attributes
        self.__class__ = Connection  # type: ignore[assignment]  # the base class, of the same layout

    def _refuse_attribute(self) -> NoReturn:
        try:
            if self._slot is None:
                self._refuse_closed()
            self.refuse_taken_back()
        except ReturnConnectionToPoolError as error:
            raise as_attribute_error(error) from None

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
        ready = UnusedLease()  # as `make_idle_lease` makes it, without the call
        ready._slot = slot
        ready._claim = None
        self._code, self._offset, self._lasting = slot.place, slot.offset, slot.lasting
        yours = id(ready)
        # No call from the questions to the last answer, so that nothing comes between them. A slot that was taken from
        # its lease is also expired.
        if not ledger.lock_free or slot.expires_at <= slot.since:
            _return_slowly(self, pool, _getframe(1))
            return
        try:
            del self._claim
        except AttributeError:
            _return_slowly(self, pool, _getframe(1))  # used or given back, perhaps by another thread at this moment
            return
        slot.state = IDLE
        slot.holder = yours
        ledger.idle.append(ready)
        self._slot = None
        if not ledger.lock_free:
            pool._look_again()
        if slot.since >= pool._tend_at or pool._verbose:
            pool._after_return(slot.since)

    def cursor(self, cursor: Any = None) -> Any:
        UnusedLease._touch(self)
        return self.cursor(cursor)

    def connect(self, sock: Any = None) -> None:
        UnusedLease._touch(self)
        self.connect(sock)

    def detach_session(self) -> dict[str, Any]:
        slot = self._slot
        try:
            del self._claim
        except AttributeError:
            UnusedLease._await_claimer(self)
            if type(self) is UnusedLease:
                self._refuse_closed()
            return self.detach_session()  # used by another thread at this moment
        wire: Wire | None = slot.wire if slot is not None else None
        return wire.attributes() if wire is not None else {}

    @property
    def open(self) -> bool:
        return self._slot is not None

    @property
    def _returned(self) -> callsite.Place | None:  # type: ignore[override]  # never assigned on this class
        return None if self._slot is not None else callsite.UNKNOWN

    def _refuse_closed(self) -> NoReturn:
        assert self._pool is not None
        raise ReturnConnectionToPoolError(
            f"this connection has already returned to the pool({self._pool.name}), unused; it was borrowed at "
            f"{callsite.describe_place(self._borrowed)}"
        )

    def __del__(self) -> None:
        try:
            if self._slot is not None:
                self._slot.mark_leaked(self)
        except AttributeError:
            pass  # interrupted while it was made: it never had anything

    def __repr__(self) -> str:
        if not hasattr(self, "_pool") or self._pool is None:
            return f"<{type(self).__name__} that is not lent yet>"
        return f"<{type(self).__name__} of pool {self._pool.name!r} {'lent' if self.open else 'returned'}>"


def _return_slowly(lease: Connection, home: Home, frame: FrameType) -> None:
    """Everything that `UnusedLease.close` does not do. `lease` may be of any class: `close = connection.close`, called
    after the connection was used, is still that function."""
    slot, kind = lease._slot, type(lease)
    is_as_lent = kind is UnusedLease and home._ledger.allows_lock_free and slot and slot.expires_at > slot.since
    if is_as_lent or kind is SpentLease:
        try:
            # Not there: used or given back by another thread at this moment. Of a spent lease: its return is under way
            # elsewhere, and this does not come from `return_clean`.
            del lease._claim
        except AttributeError:
            pass
        else:
            home._give_to_next(lease)
            return
    home._give_back(lease, None, frame)


def return_clean(lease: Connection) -> None:
    """End the return of `lease`, which was used, and whose session is as if it had not been: as `UnusedLease.close`."""
    home: Any = lease._pool
    if not home._ledger.lock_free:  # asked again by `close`, which has made a lease by then
        home._give_to_next(lease)
    else:
        lease._claim = None
        UnusedLease.close(lease)  # a `SpentLease`, of the same layout


def make_lease(pool: Home) -> Connection:
    """A lease of `pool` that has nothing yet."""
    lease: UnusedLease | SpentLease = UnusedLease() if HAS_GIL else SpentLease()
    lease._pool = pool
    lease._slot = None
    if HAS_GIL:
        lease._claim = None
    return lease


def make_idle_lease(slot: Slot) -> UnusedLease:
    """The lease that will be lent next on an idle connection."""
    lease: UnusedLease = UnusedLease()
    lease._slot = slot
    lease._claim = None
    return lease


_latest: tuple[str, ...] = ()  # names that were learned last


def learn_attributes(names: Set[str]) -> None:
    """Add the attributes of a session to the classes of leases without one. Called for each new session; its attributes
    are nearly always those of the one before, in the same order."""
    global _latest
    ordered = tuple(names)
    if ordered == _latest:
        return
    known = vars(UnusedLease).keys()
    if not names <= known:
        learn_lost_attributes(names - known)
        for name in names - known:
            setattr(UnusedLease, name, _SessionAttribute(name))
    _latest = ordered


# A lease has its with-blocks also before its first use, so they are no attributes of its session.
learn_attributes(SESSION_DEFAULTS.keys() - {*Connection.__slots__, "_depth", "task_depth"})
# Tracebacks show the public name; the classes can be told apart by `__qualname__` only.
UnusedLease.__name__ = Connection.__name__
