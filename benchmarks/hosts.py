"""What visitors see while something befalls the hosts of a cluster, with real servers; and what a borrow costs.

    python -m benchmarks.hosts [--runs N] [--without-peers] [EVENT ...]

12 threads with a pool of 8 per host, a request every 20 ms each: it writes a row, commits, and reads it back by another
borrow (`tests/routing/traffic.py`, which the tests use as well). Each event befalls servers of its own.

    failed   requests that failed, and their errors
    late     those of them that began when the first failure had been reported; the others were in flight
    gap      the longest time without a successful request; in brackets, how much of it was after the hosts took writes
             again, by a thread that writes to the next primary without any pool
    logins   since the event, of all hosts
    lost     acknowledged rows that the primary does not have afterwards
    twice    rows that it has more than once
    stale    rows that their own writer did not find

Beside it: the same requests through a Flask application, and through SQLAlchemy's QueuePool with a `creator` as one
writes it by hand: it takes the first host that is ready and writable, and errors 1047 and 1290 end a connection.

Not measured by the cases of `scripts/bench`, because a failover takes seconds and is counted, not timed.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from random import shuffle
from statistics import median
from typing import Any, Self

import pymysql

from pymysqlpool import ConnectionPool
from pymysqlpool.cluster import Cluster
from pymysqlpool.devserver import DevServer
from tests.routing.servers import APP, Galera, Group, Replication, account, ask, provider
from tests.routing.traffic import PATIENCE, POOL, Traffic, begun, longest_gap, site_traffic, traffic

from .peers import NotInstalled, load

AFTER = 300  # requests that must succeed after the event
GIVES_UP = 20.0  # seconds after which a subject whose requests do not succeed again is left
PROMOTION = 2.0  # seconds that an operator's tool takes to promote a replica
INTERVAL = 0.5  # seconds between two checks of a host, where it is frozen
NOTICEABLE = 0.05  # seconds; a server that takes writes answers a probe sooner
READS = 1000  # that follow a commit

# -- what befalls the hosts --------------------------------------------------------------------------------


def node_killed(nodes: Galera, seen: Traffic) -> None:
    nodes.servers[0].kill()


def node_stopped(nodes: Galera, seen: Traffic) -> None:
    nodes.end(0)


def node_without_quorum(nodes: Galera, seen: Traffic) -> None:
    nodes.isolate(0)


def switchover(servers: Replication, seen: Traffic) -> None:
    servers.switch(0, 1)


def drained_switchover(servers: Replication, seen: Traffic) -> None:
    primary = servers.servers[0]
    name = f"{primary.host}:{primary.port}"
    seen.lender.cluster.drain(name)
    while any(stats.in_use for host, _, stats in seen.lender.cluster.endpoints() if host == name):
        time.sleep(0.001)
    servers.switch(0, 1)
    seen.lender.cluster.undrain(name)


def primary_killed(servers: Replication, seen: Traffic) -> None:
    servers.servers[0].kill()
    time.sleep(PROMOTION)
    servers.promote(1)


def primary_frozen(servers: Replication, seen: Traffic) -> None:
    servers.freeze(0)
    time.sleep(PROMOTION)
    servers.promote(1)


def node_frozen(nodes: Galera, seen: Traffic) -> None:
    nodes.freeze(0)


def replica_killed(servers: Replication, seen: Traffic) -> None:
    servers.servers[2].kill()


@dataclass(frozen=True)
class Event:
    """What befalls a group.

    Attributes:
        kind: the group's class.
        befalls: makes it happen.
        reader: the server that has all rows afterwards.
        options: of our pool.
        is_timed: the longest time that a failed request took is of interest.
        is_ours: it is nothing for the other subjects.
    """

    kind: type[Any]
    befalls: Callable[[Any, Traffic], None]
    reader: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    is_timed: bool = False
    is_ours: bool = False


CHECKED = {"check_interval": INTERVAL, "read_timeout": None}
EVENTS = {
    "Galera node killed": Event(Galera, node_killed),
    "Galera node stopped in order": Event(Galera, node_stopped),
    "Galera node loses quorum": Event(Galera, node_without_quorum),
    "Galera node frozen": Event(Galera, node_frozen, options=CHECKED, is_timed=True),
    "planned switchover": Event(Replication, switchover),
    "planned switchover, after drain()": Event(Replication, drained_switchover, is_ours=True),
    "primary killed, replica promoted after 2 s": Event(Replication, primary_killed),
    "primary frozen, replica promoted after 2 s": Event(Replication, primary_frozen, options=CHECKED, is_timed=True),
    "replica killed, seen by writers": Event(Replication, replica_killed, reader=0),
    "replica killed, seen by readers of replicas": Event(
        Replication, replica_killed, reader=0, options={"reads_replicas": True}, is_ours=True
    ),
}

# -- the subjects ------------------------------------------------------------------------------------------

Subject = Callable[..., AbstractContextManager[Traffic]]


class Engine:
    """SQLAlchemy's pool as a lender of the traffic, with a `creator` and the listener that one writes by hand."""

    def __init__(self, hosts: Iterable[dict[str, Any]], **options: Any) -> None:
        alchemy = load("sqlalchemy", "SQLAlchemy")
        self.logins = 0
        self._hosts = list(hosts)
        self._options = options
        self._errors = load("sqlalchemy.exc", "SQLAlchemy")
        self._engine = alchemy.create_engine(
            "mysql+pymysql://", creator=self._connect, pool_size=POOL, max_overflow=0, pool_timeout=5
        )
        alchemy.event.listen(self._engine, "handle_error", self._judge)

    def _connect(self) -> Any:
        for host in self._hosts:
            self.logins += 1
            try:
                connection = pymysql.connect(**host, **APP, connect_timeout=2, **self._options)
            except (pymysql.err.MySQLError, OSError):
                continue
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@read_only, @@wsrep_on")
                is_read_only, is_galera = cursor.fetchone()
                cursor.execute("SHOW GLOBAL STATUS LIKE 'wsrep_ready'")
                is_ready = not is_galera or cursor.fetchone()[1] == "ON"
            if is_ready and not is_read_only:
                return connection
            connection.close()
        raise pymysql.err.OperationalError(2003, "no host takes writes")

    @staticmethod
    def _judge(context: Any) -> None:
        if context.original_exception.args[:1] in ((1047,), (1290,)):
            context.is_disconnect = True

    def get_connection(self) -> Session:
        return Session(self._engine, self._errors)

    def close(self) -> None:
        self._engine.dispose()


class Session:
    """One borrow, with the methods of PyMySQL and its errors."""

    def __init__(self, engine: Any, errors: Any) -> None:
        self._errors = errors
        with self._own_errors():
            self._connection = engine.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._own_errors():
            self._connection.close()

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        with self._own_errors():
            self._connection.commit()

    def execute(self, statement: str, arguments: Any = ()) -> Any:
        with self._own_errors():
            return self._connection.exec_driver_sql(statement, arguments)

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors.DBAPIError as error:
            raise error.orig from None
        except self._errors.SQLAlchemyError as error:
            raise pymysql.err.OperationalError(type(error).__name__) from None


class Cursor:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._result: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: str, arguments: Any = ()) -> None:
        self._result = self._session.execute(statement, arguments)

    def fetchone(self) -> Any:
        return self._result.fetchone()


@contextmanager
def engine_traffic(hosts: list[dict[str, Any]], numbers: Iterator[int], **options: Any) -> Iterator[Traffic]:
    engine = Engine(hosts, read_timeout=PATIENCE["read_timeout"])
    try:
        with begun(Traffic(engine, numbers, logins=lambda: engine.logins)) as seen:
            yield seen
    finally:
        engine.close()


def ours(hosts: list[dict[str, Any]], numbers: Iterator[int], **options: Any) -> AbstractContextManager[Traffic]:
    return traffic(hosts, numbers, **APP, **options)


def flask(hosts: list[dict[str, Any]], numbers: Iterator[int], **options: Any) -> AbstractContextManager[Traffic]:
    return site_traffic(hosts, numbers, **APP, **options)


SUBJECTS: dict[str, Subject] = {"ours": ours, "ours in Flask": flask, "SQLAlchemy": engine_traffic}

# -- the table ---------------------------------------------------------------------------------------------


class Probe(threading.Thread):
    """Writes to one server as fast as it answers, without any pool: since when it takes writes."""

    def __init__(self, server: DevServer) -> None:
        super().__init__()
        self.times: list[float] = []  # monotonic
        self._ends = threading.Event()
        self._connection = pymysql.connect(host=server.host, port=server.port, autocommit=True, **APP)

    def run(self) -> None:
        with self._connection, self._connection.cursor() as cursor:
            while not self._ends.wait(0.005):
                with suppress(pymysql.err.OperationalError):
                    cursor.execute("REPLACE INTO written VALUES (0, %s)", (len(self.times),))  # else it is no change
                    self.times.append(time.monotonic())

    def answered_since(self, until: float) -> float:
        """Since when each write had been answered at once, up to `until` (monotonic)."""
        since = until
        for at in reversed([at for at in self.times if at <= until]):
            if since - at > NOTICEABLE:
                break
            since = at
        return since

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()


@dataclass
class Seen:
    """What the visitors saw in one run."""

    failed: Counter[str]
    late: int
    gap: float
    after: float
    logins: int
    lost: int
    twice: int
    stale: int
    longest: float | None
    is_back: bool


def befall(event: Event, subject: Subject) -> Seen:
    with ExitStack() as stack:
        group: Group = event.kind(stack, None)
        with subject(group.hosts(), count(), **event.options) as seen, Probe(group.servers[event.reader]) as probe:
            event.befalls(group, seen)
            try:
                seen.go_on(AFTER, GIVES_UP)
                is_back = True
            except AssertionError:
                is_back = False
            if event.is_timed:
                group.thaw(0)
        gap, ended = longest_gap(seen.times)
        return Seen(
            failed=seen.failed,
            late=seen.failed_late,
            gap=gap,
            after=min(gap, ended - probe.answered_since(ended)),
            logins=seen.logins_since,
            lost=len(group.lost(event.reader, seen.written)),
            twice=len(group.twice(event.reader)),
            stale=seen.stale,
            longest=seen.longest_failed if event.is_timed else None,
            is_back=is_back,
        )


def row(name: str, subject: str, runs: list[Seen]) -> str:
    kinds: Counter[str] = sum((seen.failed for seen in runs), Counter())
    told = ", ".join(f"{number} x {kind}" for kind, number in sorted(kinds.items()))
    times = [seen.longest for seen in runs if seen.longest is not None]
    cells = [
        name,
        subject,
        " ".join(str(sum(seen.failed.values())) for seen in runs)
        + (f" ({told})" if told else "")
        + (f", after {max(times):.1f} s at most" if any(times) else "")
        + ("" if all(seen.is_back for seen in runs) else f", not back after {GIVES_UP:.0f} s"),
        str(sum(seen.late for seen in runs)),
        " ".join(f"{seen.gap:.1f} ({seen.after:.2f})" for seen in runs),
        " ".join(str(seen.logins) for seen in runs),
        *(str(sum(getattr(seen, what) for seen in runs)) for what in ("lost", "twice", "stale")),
    ]
    return "| " + " | ".join(cells) + " |"


def stale_reads(kind: type[Any], *, with_token: bool) -> str:
    """Reads from a replica, or another node, that follow a commit at once."""
    with ExitStack() as stack:
        group: Group = kind(stack, None)
        with traffic(group.hosts(), count(), reads_replicas=True, **APP) as seen:
            if not with_token:
                seen.forgets_commits = True
            seen.go_on(READS, 60)
        return f"{seen.stale} of {len(seen.times)}"


# -- the cost of a borrow ----------------------------------------------------------------------------------


def cost() -> list[str]:
    """What a borrow of the primary takes by the pool itself and by the cluster: segments in turns, the medians."""
    with DevServer() as server:
        account(server)
        login: dict[str, Any] = {**APP, "size": 1}
        with (
            ConnectionPool(host=server.host, port=server.port, **login) as pool,
            Cluster([{"host": server.host, "port": server.port}], **login) as cluster,
        ):
            lenders: dict[str, Any] = {"pool": pool, "cluster": cluster.primary}
            took: dict[str, list[float]] = {name: [] for name in lenders}
            _borrows(pool, 1000), _borrows(cluster.primary, 1000)
            for _ in range(300):
                order = list(lenders)
                shuffle(order)
                for name in order:
                    took[name].append(_borrows(lenders[name], 1000))
            alone = _questions(server)
            before = _questions(server)
            _borrows(cluster.primary, 1000)
            asked = _questions(server) - before - (before - alone)  # less what the question itself asks
        of_pool, of_cluster = (median(took[name]) * 1e6 for name in ("pool", "cluster"))
        difference = median(b - a for a, b in zip(took["pool"], took["cluster"], strict=True)) * 1e6
        return [f"{of_pool:.2f} us", f"{of_cluster:.2f} us", f"{difference:.2f} us", f"{asked / 1000:g}"]


def _borrows(lender: Any, number: int) -> float:
    """Seconds for each borrow with its return."""
    began = time.perf_counter()
    for _ in range(number):
        lender.get_connection().close()
    return (time.perf_counter() - began) / number


def _questions(server: DevServer) -> int:
    """What all sessions have asked so far."""
    return int(ask(server, "SHOW GLOBAL STATUS LIKE 'Questions'")[0]["Value"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosts", description=__doc__.partition("\n")[0])
    parser.add_argument("events", nargs="*", metavar="EVENT", help="words of the events' names; default: all")
    parser.add_argument("--runs", type=int, default=1, help="of each event, with each subject")
    parser.add_argument("--without-peers", action="store_true", help="this pool only")
    given = parser.parse_args()
    titles = ["event", "subject", "failed", "late", "gap, s", "logins", "lost", "twice", "stale"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, event in EVENTS.items():
        if any(word not in name for word in given.events):
            continue
        if event.kind is Galera and provider() is None:
            print(f"| {name} | not run: no Galera library | | | | | | | |")
            continue
        for title, subject in SUBJECTS.items():
            if (given.without_peers and subject is engine_traffic) or (event.is_ours and subject is not ours):
                continue
            try:
                runs = [befall(event, subject) for _ in range(given.runs)]
            except NotInstalled as error:
                print(f"| {name} | {title} | {error} | | | | | | |")
                continue
            print(row(name, title, runs), flush=True)
    if given.events:
        return
    print("\n| reads after a commit, of other servers | stale with a token | without |\n|---|---|---|")
    for kind in (Replication, Galera):
        if kind is Replication or provider() is not None:
            cells = [stale_reads(kind, with_token=with_token) for with_token in (True, False)]
            print("| " + " | ".join([kind.__name__, *cells]) + " |", flush=True)
    print("\n| borrow by the pool | by the cluster | difference | round trips |\n|---|---|---|---|")
    print("| " + " | ".join(cost()) + " |")


if __name__ == "__main__":
    main()
