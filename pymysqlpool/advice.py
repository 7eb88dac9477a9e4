"""What an application that serves requests should have set: told once for each pool, at WARNING.

PyMySQL's `read_timeout` is None by default, so a statement to a server that is frozen holds its request, its thread and
its connection for ever. The pool leaves the default as it is, since a statement of a job may take hours; what serves
requests has no such statements.

Never: changes an option, warns of a pool twice.
"""

from __future__ import annotations

from weakref import WeakSet

from ._pool import diagnostics
from ._pool.core import PoolCore
from ._util.log import logger

__all__ = ["warn_of_missing_timeouts"]

_told: WeakSet[PoolCore] = WeakSet()


def warn_of_missing_timeouts(pool: object) -> None:
    """Warn of a `ConnectionPool` for requests that has no `read_timeout`. Of other objects nothing is known."""
    if not isinstance(pool, PoolCore) or pool in _told:
        return
    _told.add(pool)
    if diagnostics.read_timeout(pool) is None:
        logger.warning(
            "pool(%s) serves requests and has no read_timeout: a statement to a server that does not answer waits for "
            "ever, and holds its request and its connection. Set read_timeout= (seconds) above your slowest statement",
            pool.name,
            extra={"event": "advice", "pool": pool.name},
        )
