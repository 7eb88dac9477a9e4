"""`del connections[alias]` closes the alias's pools.

Django has no signal for it, and reference cycles keep the deleted wrapper alive. So `__delitem__` of the connection
handler is wrapped once, when the backend is loaded: the wrapper of the calling thread gives its connection back, and
the alias's pools are closed, idle connections now and those in use at their return. An alias that is in DATABASES, or
is added again, gets a new pool at its next query.

At the end of a request Django closes the connections of the aliases that are in DATABASES. So `all()`, which it asks
for them three times a request, is wrapped too, from the first deletion that left connections lent: the wrapper that a
thread has of a deleted alias is closed then.

The removal of an alias from `connections.databases` alone is noticed when the process makes its next pool (see
`pools`).

Never: touches a wrapper of another backend, or one in a transaction, which no block can commit any more: a warning says
so; looks into another thread; keeps the name of an alias longer than its connections live.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import wraps
from typing import Any, Protocol

from django.db.utils import ConnectionHandler
from django.utils.connection import ConnectionDoesNotExist

from . import pools

_logger = logging.getLogger("pymysqlpool")


class _Wrapper(Protocol):
    in_atomic_block: bool

    def close(self) -> None: ...


_delete = ConnectionHandler.__delitem__
_all = ConnectionHandler.all


def close_pools_of_forgotten_aliases(kind: type[Any]) -> None:
    """Wrap `__delitem__` of Django's connection handlers for wrappers of `kind`; for the first call only."""
    if ConnectionHandler.__delitem__ is not _delete:
        return

    @wraps(_delete)
    def delete(self: Any, alias: str) -> None:
        wrapper: _Wrapper | None = None
        with suppress(ConnectionDoesNotExist):
            wrapper = self[alias]  # a new one in a thread that has not used it, so that `del` works in any thread
        _delete(self, alias)
        if isinstance(wrapper, kind):
            pools.forget(alias)
            if not wrapper.in_atomic_block:
                wrapper.close()
            else:
                _logger.warning(
                    "connections[%r] was deleted inside of an 'atomic' block of it, which cannot commit any more: what "
                    "it has written will be rolled back. Delete the alias after the block",
                    alias,
                    extra={"event": "alias deleted", "pool": alias},
                )
            if pools.forgotten():
                ConnectionHandler.all = all_  # type: ignore[method-assign]

    @wraps(_all)
    def all_(self: Any, initialized_only: bool = False) -> list[Any]:
        if initialized_only:
            for alias in pools.forgotten():
                if alias not in self.settings:
                    _end(self, alias, kind)
        return list(_all(self, initialized_only))

    ConnectionHandler.__delitem__ = delete  # type: ignore[method-assign]


def _end(handler: Any, alias: str, kind: type[Any]) -> None:
    """Close this thread's wrapper of a deleted alias."""
    try:
        wrapper = handler[alias]
    except ConnectionDoesNotExist:
        return  # this thread has none
    if isinstance(wrapper, kind) and not wrapper.in_atomic_block:
        _delete(handler, alias)
        wrapper.close()
