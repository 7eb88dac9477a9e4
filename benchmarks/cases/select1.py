"""Borrow, SELECT 1, return: over TCP, a unix socket, TLS, and a link on which a round trip takes 1 ms more.

Also with a session that comes home dirty. Over TCP: the transaction that any SELECT from a table opens where autocommit
is off, which is PyMySQL's default. Over the slow link: a transaction with a write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import repeat
from typing import Any

from pymysqlpool.devserver import DevServer

from ..bench import Bench
from ..measure import Table, compare, interleave, timed
from ..peers import ALL, BARE, Bare, NotInstalled, OursWithoutReader, Peer, Peers, query
from .large_results import mysqlclient

DELAY = 0.001  # seconds
SELECT = "SELECT v FROM dirty WHERE id = 1"
UPDATE = "UPDATE dirty SET v = v + 1 WHERE id = 1"
COMPILED = "mysqlclient, one connection"


def cycle(peer: Peer, statement: str = "SELECT 1") -> Callable[[int], None]:
    borrow, give_back = peer.borrow, peer.give_back

    def body(operations: int) -> None:
        for _ in repeat(None, operations):
            connection = borrow()
            query(connection, statement)
            give_back(connection)

    return body


def run(bench: Bench) -> list[Table]:
    tables = []
    for key, title, connect, server in (
        ("tcp", "TCP", bench.tcp, bench.server),
        ("unix", "unix socket", bench.unix, bench.server),
        ("tls", "TLS", bench.tls, bench.tls_server),
    ):
        tables.append(table(bench, f"select1_{key}", f"Borrow, SELECT 1, return: {title}", connect, server))
    admin = Bare(bench.tcp)
    query(admin.borrow(), "CREATE OR REPLACE TABLE dirty (id INT PRIMARY KEY, v INT)")
    query(admin.borrow(), "INSERT INTO dirty VALUES (1, 0)")
    admin.borrow().commit()
    admin.close()
    title = "The same from a table, autocommit off (bare: SELECT, ROLLBACK)"
    tables.append(table(bench, "select1_snapshot", title, bench.tcp, bench.server, statement=SELECT))
    with bench.link(DELAY) as connect:
        title = "Borrow, SELECT 1, return: TCP with 1 ms per round trip"
        tables.append(table(bench, "select1_link", title, connect, bench.server, few=True))
        title = "Borrow, UPDATE without COMMIT, return: TCP with 1 ms per round trip (bare: UPDATE, ROLLBACK)"
        tables.append(table(bench, "select1_dirty", title, connect, bench.server, few=True, statement=UPDATE))
    return tables


def table(
    bench: Bench,
    key: str,
    title: str,
    connect: Mapping[str, Any],
    server: DevServer,
    *,
    few: bool = False,
    statement: str = "SELECT 1",
) -> Table:
    peers = Peers(kinds_for(statement), connect, size=1)
    with peers as there, bench.pinned(server.pid):
        for peer in there.values():
            peer.fill(1)
        segments = {name: timed(cycle(peer, statement)) for name, peer in there.items()}
        if statement != "SELECT 1":
            there[BARE].give_back = _roll_back
            segments[BARE] = timed(cycle(there[BARE], statement))
        compiled = None
        if statement == "SELECT 1" and "ssl" not in connect:
            try:
                compiled = mysqlclient(connect)
            except NotInstalled as error:
                peers.missing[COMPILED] = str(error)
            else:
                segments[COMPILED] = timed(partial(_repeat, compiled))
        rounds = bench.pick(30, 6) if few else bench.pick(100, 20)
        taken = interleave(segments, rounds, seconds=0.02 if few else 0.005)
        if compiled is not None:
            compiled.close()
    return compare(key, title, taken, peers.missing, bare=BARE)


def kinds_for(statement: str) -> Iterable[type[Peer]]:
    """All; of a transaction left open, only those that end it."""
    if statement == "SELECT 1":
        return (*ALL, OursWithoutReader)
    leaving_it = {"pymysql-pool 0.3.7", "DBUtils, no checks", "SQLAlchemy, no rollback", "pymysql-pool 0.5.0"}
    if statement == SELECT:
        leaving_it.add("psycopg_pool")  # it asks PyMySQL, which does not tell of those that a SELECT opened
    return [kind for kind in ALL if kind.name not in leaving_it]


def _repeat(connection: Any, operations: int) -> None:
    for _ in repeat(None, operations):
        query(connection)


def _roll_back(connection: Any) -> None:
    connection.rollback()
