"""What the code runs in: the scope of its request, and the pool of the innermost middleware.

A request has one scope, that of the outermost middleware. What runs inside a further middleware, which may be for
another pool, borrows from that pool unless it names one.

Owns: the two context variables. Never: knows scopes from inside, borrows.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from .._util.context import Holding
from .lease import Lender

CURRENT_SCOPE: ContextVar[Any] = ContextVar("pymysqlpool_request_scope", default=None)  # a `RequestScope`, or None

_Inner = tuple[object, Lender]  # the scope, and the pool that it borrows from

INNER: ContextVar[_Inner | None] = ContextVar("pymysqlpool_inner_pool", default=None)


def inside(scope: object, pool: Lender) -> Holding[_Inner | None, _Inner]:
    """Make `pool` the one that `scope` borrows from in the block."""
    return Holding(INNER, (scope, pool))


def pool_of(scope: object, otherwise: Lender | None) -> Lender | None:
    """Return the pool that `scope` borrows from here: `otherwise` outside of any further middleware."""
    inner = INNER.get()
    return inner[1] if inner is not None and inner[0] is scope else otherwise
