"""`Cluster`: the pools of several hosts, one primary that takes writes and replicas that serve reads.

    from pymysqlpool.cluster import Cluster

    db = Cluster(hosts=["db1", "db2:3307", {"host": "db3", "weight": 2}], user="me", password="secret", database="shop")

    with db.primary.get_connection(timeout=5) as connection:  # on the host that takes writes at this moment
        ...
    with db.replica.get_connection(timeout=5) as connection:  # on one of the read-only hosts
        ...

Each endpoint has a `ConnectionPool`. `_routing/topology.py` decides which endpoint serves a borrow, and
`_routing/lending.py` executes the decision. The servers' own variables define their roles: `read_only`, and
`wsrep_ready` with Galera. A new server becomes the primary only after all others have been asked.

Never: parses a statement to route it, sends one twice (Invariant 18), moves a lease to another server, uses a replica
as the primary, waits without a bound (Invariant 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from random import random
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, get_args

from pymysql import err

from ._pool.core import CONNECT_TIMEOUT
from ._pool.for_clusters import ClusterStep, Line
from ._pool.lease import Connection
from ._pool.pickled import Travelling
from ._routing.asking import Asks
from ._routing.discovery import Kind
from ._routing.endpoints import Balance, Endpoint, Target
from ._routing.hosts import Host, check_zone, concealed, of_url, place, places_of
from ._routing.lending import Lending, Steps
from ._routing.making import PoolMaker
from ._routing.queue import Ticket
from ._routing.topology import Topology
from ._routing.totals import added_up
from .errors import PoolTimeout, SettingsError
from .pool import ConnectionPool
from .request_scope import RequestScope, request_scope
from .secrets import conceal
from .settings import Settings, patience, seconds
from .stats import PoolStats

if TYPE_CHECKING:
    from .options import ClusterOptions

__all__ = ["Cluster", "ClusterPool"]

_LONGEST_INTERVAL = 86400.0  # seconds


class Cluster(Travelling):
    """The pools of several hosts, and the decision which of them lends.

    Args:
        hosts: in order of preference; each a host, `host:port`, or a mapping with `host` and optionally `port`,
            `weight` (its share of the readers with balance="weighted") and `zone`.
        name: shown in messages; default: the hosts.
        balance: how readers are spread over the suitable hosts: "least-used", "order", "random", "weighted", or "zone"
            (hosts in `zone` first).
        zone: the zone of this process; needed with balance="zone".
        topology: what the hosts are, and whether further ones that they name are used. "auto": whatever they are; of
            Galera, Group Replication and Aurora also the members that are not in `hosts`, unless it has only one host,
            which may be a proxy. "static": only `hosts`. "galera", "group": a host that is no such member is not used,
            and other members are. "replication": the source of a replica is used, and Aurora's other instances.
        failback_after: seconds for which a preferred Galera node must have been well before writes return to it.
        check_interval: seconds between two checks of each host by a thread with a session of its own. A host that does
            not answer a check in time is out of service, and its statements end. None: no such thread.
        max_lag: seconds; a replica that is further behind is not read from. Asked in each check.
        **options: those of `ConnectionPool`, for the pool of each endpoint.

    Attributes:
        primary: lends connections to the server that takes writes.
        replica: lends connections to read-only servers; in a Galera cluster, to the nodes that are not the primary.

    Raises:
        SettingsError: a host or an option is invalid.
    """

    _given: dict[str, Any]  # the arguments, to be pickled

    def __init__(
        self,
        hosts: Sequence[Host],
        *,
        name: str | None = None,
        balance: Balance = "least-used",
        zone: str = "",
        topology: Kind = "auto",
        failback_after: float = 30.0,
        check_interval: float | None = None,
        max_lag: float | None = None,
        **options: Unpack[ClusterOptions],
    ) -> None:
        given, hosts = conceal(options), concealed(hosts)
        del options  # in the clear, for tools that report the variables of frames
        _check("balance", balance, get_args(Balance))
        _check("topology", topology, get_args(Kind))
        seconds("failback_after", failback_after, 0.0)
        if check_interval is not None:
            seconds("check_interval", check_interval, 0.05)
            if check_interval > _LONGEST_INTERVAL:
                raise SettingsError(f"check_interval={check_interval!r} must be at most {_LONGEST_INTERVAL:g} seconds")
        if max_lag is not None:
            seconds("max_lag", max_lag, 0.0)
            if check_interval is None:
                raise SettingsError(f"max_lag={max_lag!r} needs check_interval: the lag is asked in each check")
        places = places_of(hosts)
        endpoints = [endpoint for _, _, endpoint in places]
        self.name: str = name or ",".join(endpoint.name for endpoint in endpoints)
        self.endpoint: str = self.name
        check_zone(zone, balance, places, self.name)

        def new_topology(endpoints: list[Endpoint]) -> Topology:
            return Topology(
                endpoints, random=random, balance=balance, zone=zone, max_lag=max_lag, failback_after=failback_after
            )

        self.lending: Lending = Lending(
            self.name,
            places,
            new_topology,
            PoolMaker(given),
            Asks(topology, max_lag is not None),
            discovers=topology != "static" and (topology != "auto" or len(places) > 1),
            check_interval=check_interval,
        )
        self._given = {
            "hosts": hosts,
            "name": name,
            "balance": balance,
            "zone": zone,
            "topology": topology,
            "failback_after": failback_after,
            "check_interval": check_interval,
            "max_lag": max_lag,
            **given,
        }
        self._targets: dict[Target, ClusterPool] = {target: ClusterPool(self, target) for target in get_args(Target)}
        self.primary: ClusterPool = self._targets["primary"]
        self.replica: ClusterPool = self._targets["replica"]

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Make a cluster: `Cluster.from_url("mysql://me:secret@db1,db2:3307/shop?balance=order", size=5)`.

        Raises:
            SettingsError: the URL is invalid, or an option after `?` is none of the cluster's own.
        """
        given, wrong = of_url(url)
        url = ""  # no frame of an error shows the password; so what is wrong is raised here
        if wrong is not None:
            raise SettingsError(wrong)
        return cls(**{**given, **options})

    def target(self, target: Target) -> ClusterPool:
        """Return the pool for "any", "primary", "replica", "prefer-primary" or "prefer-replica"."""
        _check("target", target, get_args(Target))
        return self._targets[target]

    def _options_to_travel(self) -> dict[str, Any]:
        return self._given

    def stats(self) -> PoolStats:
        """Return the sum of all endpoints' numbers."""
        return added_up(self.name, [pool.stats() for pool in self.lending.pools])

    def endpoints(self) -> list[tuple[str, str, PoolStats]]:
        """Return each endpoint's name, its state in words, and the numbers of its pool."""
        return [(name, state, self.lending.pools[index].stats()) for index, name, state in self.lending.known()]

    def drain(self, host: str | None = None) -> None:
        """Renew all connections; with a `host`, take that host out of service until `undrain`."""
        if host is not None:
            self.lending.take_out(self._index(host))
            return
        for pool in self.lending.pools:
            pool.drain()

    def undrain(self, host: str) -> None:
        """Put a host back into service; it is asked for its role first."""
        self.lending.put_back(self._index(host))

    def _index(self, host: str) -> int:
        wanted = place(host)[2].name
        for index, name, _ in self.lending.known():
            if name == wanted:
                return index
        raise SettingsError(f"{host!r} is none of the hosts of cluster({self.name})")

    def close(self, timeout: float = 10.0) -> None:
        """Close all pools; waiting callers fail at once.

        Args:
            timeout: seconds to wait for lent connections, for all endpoints together.
        """
        seconds("timeout", timeout, None)
        self.lending.close()
        deadline = monotonic() + timeout
        for pool in self.lending.pools:
            pool.close(max(0.0, deadline - monotonic()))

    @property
    def is_open(self) -> bool:
        """Whether at least one of its pools lends."""
        return not self.lending.closed and any(pool.is_open for pool in self.lending.pools)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cluster {self.name!r} {'; '.join(f'{name} {state}' for _, name, state in self.lending.known())}>"


class ClusterPool(ClusterStep):
    """One target of a cluster as a pool. Every adapter accepts it in place of a `ConnectionPool`.

    A lease never changes its server, and is returned to the pool of its endpoint.
    """

    def __init__(self, cluster: Cluster, target: Target) -> None:
        self.cluster = cluster
        self.name: str = f"{cluster.name} {target}"
        self.endpoint: str = cluster.endpoint
        self.target: Target = target
        self._line: Line = cluster.lending.lines[target]

    def __reduce__(self) -> tuple[Any, ...]:
        return Cluster.target, (self.cluster, self.target)

    @property
    def settings(self) -> Settings:
        """The settings that the pools of all endpoints share."""
        return self.cluster.lending.pools[0].settings

    def _borrow_by_decision(
        self,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        after: str | None,
    ) -> Connection:
        patience = self._patience(retry_num, retry_interval, timeout)
        lease = self.cluster.lending.lend(self.target, pre_ping, patience, after)
        lease.note_place()
        return lease

    def steps(
        self,
        ticket: Ticket,
        retry_num: int,
        retry_interval: float,
        pre_ping: bool | float,
        timeout: float | None,
        after: str | None = None,
    ) -> Steps:
        """The steps of one borrow, for callers that are not threads; see `Lending.steps`."""
        patience = self._patience(retry_num, retry_interval, timeout)
        return self.cluster.lending.steps(ticket, self.target, pre_ping, patience, after)

    def servers(self) -> Sequence[ConnectionPool]:
        """The pools of all endpoints of the cluster, whatever their role."""
        return self.cluster.lending.pools

    def _patience(self, retry_num: int, retry_interval: float, timeout: float | None) -> float:
        if timeout is None:
            timeout = self.settings.timeout
        if timeout is None:
            return patience(retry_num, retry_interval) + CONNECT_TIMEOUT
        seconds("timeout", timeout, None)
        return timeout

    def async_class(self) -> type[Any]:
        """What `AsyncConnectionPool(pool=...)` makes of it."""
        from ._routing.for_tasks import AsyncClusterPool  # a program without tasks needs no asyncio

        return AsyncClusterPool

    def why_unavailable(self, timeout: float) -> str:
        """Return why no connection is available within `timeout` seconds, or ''. An exhausted pool is available."""
        try:
            self.get_connection(timeout=timeout).close()
        except PoolTimeout:
            return ""
        except err.MySQLError as error:
            return f"no host lends a connection ({type(error).__name__})"
        return ""

    def give_back(self, connection: Connection, exception: BaseException | None = None) -> None:
        """Return `connection`, after `exception`, to the pool of its endpoint.

        Raises:
            ReturnConnectionToPoolError: it was returned before, or belongs to no pool of this cluster.
        """
        pools = self.cluster.lending.pools
        (next((pool for pool in pools if pool.owns(connection)), pools[0])).give_back(connection, exception)

    def scope(self) -> AbstractContextManager[RequestScope]:
        """See `ConnectionPool.scope`."""
        return request_scope(self)

    def stats(self) -> PoolStats:
        """The numbers of all endpoints of the cluster, added up."""
        return self.cluster.stats()

    def drain(self) -> None:
        """Renew all connections of the cluster."""
        self.cluster.drain()

    def close(self, timeout: float = 10.0) -> None:
        """Close the cluster, including its other targets."""
        self.cluster.close(timeout)

    @property
    def is_open(self) -> bool:
        """Whether at least one of the cluster's pools lends."""
        return self.cluster.is_open

    @property
    def is_closed(self) -> bool:
        """Whether the cluster was closed."""
        return self.cluster.lending.closed

    def __repr__(self) -> str:
        return f"<ClusterPool {self.target!r} of {self.cluster!r}>"


def _check(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{option}={value!r} must be one of {', '.join(map(repr, allowed))}")
