"""What one unit of work has committed, so that it reads its own writes from the replicas of the same cluster.

Owns: the last position for each server. Never: waits for one, or borrows; a target of a cluster does, see
`ClusterPool`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .cost import Use
from .lease import Connection, Lender


class Committed:
    """The positions of the commits of one unit of work.

    Positions are kept by the pool of their server; the last one to change comes last.
    """

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: dict[Any, str] = {}

    def note(self, lease: Connection) -> None:
        """Note the commits of a lease."""
        token = lease.commit_token
        if token is not None and self._tokens.get(lease.pool) != token:
            self._tokens.pop(lease.pool, None)
            self._tokens[lease.pool] = token

    def options(self, pool: Lender, timeout: float | None, uses: Iterable[Use]) -> dict[str, Any]:
        """Return the arguments with which `pool.get_connection` lends a server that has what was committed: the
        timeout, and for a target of a cluster `after`, the position of what was committed in that cluster.

        Args:
            uses: the other leases of this unit of work.
        """
        servers: Any = getattr(pool, "servers", None)  # of a target of a cluster
        if servers is None:
            return {"timeout": timeout}
        for use in uses:
            if use.connection is not None:
                self.note(use.connection)
        pools = servers()
        tokens = [token for server, token in self._tokens.items() if server in pools]
        return {"timeout": timeout, "after": tokens[-1] if tokens else None}
