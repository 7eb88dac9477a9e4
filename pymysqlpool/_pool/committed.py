"""What one unit of work has committed, so that it reads its own writes from the replicas of the same cluster.

Owns: the last position for each server, and what an earlier unit of work has handed on. Never: waits for a position, or
borrows; a target of a cluster does, see `ClusterPool`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, overload

from .._driver.commits import UNKNOWN
from .._driver.statements import TRANSACTION, WROTE
from .cost import Use
from .lease import Connection, Lender


class Committed:
    """The positions of the commits of one unit of work.

    Positions are kept by the pool of their server; the last one to change comes last.
    """

    __slots__ = ("_carried", "_tokens")

    def __init__(self) -> None:
        self._tokens: dict[Any, str] = {}
        self._carried: list[tuple[Any, str]] = []  # a target of a cluster, and the position that is handed on for it

    def note(self, lease: Connection) -> None:
        """Note the commits of a lease."""
        token = lease.commit_token
        if token is not None and self._tokens.get(lease.pool) != token:
            self._tokens.pop(lease.pool, None)
            self._tokens[lease.pool] = token

    def carry(self, pool: Any, token: str) -> None:
        """Begin after the commit at `token` of an earlier unit of work, in the cluster of which `pool` is a target."""
        self._carried.append((pool, token))

    def position(self, pool: Any, uses: Iterable[Use]) -> str | None:
        """The last commit of this unit of work in the cluster of which `pool` is a target: its position, "?" where that
        is not known, as of what was written and is not committed yet; None: it has written nothing there."""
        uses = list(uses)
        servers = pool.servers()
        for use in uses:
            if (lease := use.connection) is not None and _is_to_be_committed(lease) and lease.pool in servers:
                return UNKNOWN
        return self._last(servers, uses)

    def _last(self, servers: Any, uses: Iterable[Use]) -> str | None:
        for use in uses:
            if use.connection is not None:
                self.note(use.connection)
        tokens = [token for server, token in self._tokens.items() if server in servers]
        return tokens[-1] if tokens else None

    def options(self, pool: Lender, timeout: float | None, uses: Iterable[Use]) -> dict[str, Any]:
        """Return the arguments with which `pool.get_connection` lends a server that has what was committed: the
        timeout, and for a target of a cluster `after`, the position of what was committed in that cluster.

        Args:
            uses: the other leases of this unit of work.
        """
        servers: Any = getattr(pool, "servers", None)  # of a target of a cluster
        if servers is None:
            return {"timeout": timeout}
        after = self._last(servers(), uses)
        if after is None:
            after = next((token for other, token in self._carried if other.servers() is servers()), None)
        return {"timeout": timeout, "after": after}


class OnDemand:
    """An attribute of a scope: its `Committed`, made when it is first asked for. Few requests of a loop ask."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    @overload
    def __get__(self, scope: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, scope: object, owner: type | None = None) -> Committed: ...

    def __get__(self, scope: Any, owner: type | None = None) -> Self | Committed:
        if scope is None:
            return self
        with scope._lock:
            made: Committed | None = getattr(scope, self._name)
            if made is None:
                made = Committed()
                setattr(scope, self._name, made)
            return made


def _is_to_be_committed(lease: Connection) -> bool:
    if lease.is_returned or not lease.is_used:
        return False
    marks = lease.marks
    return bool(marks & WROTE and marks & TRANSACTION)
