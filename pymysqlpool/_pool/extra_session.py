"""A session with the pool's server, outside of the pool's count: for health checks, monitors and KILL, which must not
wait for a connection.

Never: lends it, keeps it; the caller closes it.

Invariant that lives here: 13 (a forked child does not use its parent's ledger).
"""

from __future__ import annotations

from .._driver.wire import Wire
from .core import PoolCore


def extra_session(core: PoolCore, deadline: float) -> Wire:
    """Make a session outside the pool's count, before `deadline` (monotonic). The caller closes it.

    Raises:
        pymysql.err.MySQLError: it could not be made.
    """
    if not core._here[0]:
        core._enter_process()
    return core._connector.make_wire(deadline)
