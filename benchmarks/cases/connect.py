"""From nothing to the first usable connection: without TLS, over a unix socket, with TLS; and round trips.

`ours` is a borrow from a pool that has no connection; what its settings would set up is set up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pymysql

from pymysqlpool import ConnectionPool
from pymysqlpool.reuse import Decision, Facts, Reason, Verdict

from ..bench import Bench
from ..measure import OURS, Segment, Table, compare, interleave, timed_each
from ..proxy import Link


def fresh(connect: Mapping[str, Any]) -> tuple[Segment, Callable[[], None]]:
    """A segment in which our pool has to connect each time, and how to end the pool."""
    pool = ConnectionPool(size=1, maxsize=1, reuse_policy=_keep_none, **connect)
    return timed_each(_nothing, lambda _: pool.get_connection(), lambda connection: connection.close()), pool.close


def _keep_none(facts: Facts) -> Decision:
    return Decision(Verdict.DISCARD, Reason.EXPIRED)


def _nothing() -> None:
    pass


def plain(connect: Mapping[str, Any]) -> Segment:
    return timed_each(_nothing, lambda _: pymysql.connect(**connect), lambda connection: connection.close())


def run(bench: Bench) -> list[Table]:
    default = {name: value for name, value in bench.tcp.items() if name != "ssl_disabled"}
    tls_default = {name: value for name, value in bench.tls.items() if name != "ssl"}
    groups = [
        (
            "connect_tcp",
            "Connect: TCP, server without TLS",
            {f"{OURS}, default arguments": default, OURS: bench.tcp},
            {"PyMySQL, ssl_disabled": bench.tcp, "PyMySQL, default arguments": default},
            bench.server,
        ),
        (
            "connect_unix",
            "Connect: unix socket",
            {OURS: bench.unix},
            {"PyMySQL, ssl_disabled": bench.unix},
            bench.server,
        ),
        (
            "connect_tls",
            "Connect: TLS",
            {f"{OURS}, default arguments": tls_default, OURS: bench.tls},
            {"PyMySQL, one shared context": bench.tls, "PyMySQL, default arguments": tls_default},
            bench.tls_server,
        ),
    ]
    tables = []
    for key, title, ours, theirs, server in groups:
        segments: dict[str, Segment] = {name: plain(connect) for name, connect in theirs.items()}
        ends = []
        for name, connect in ours.items():
            segments[name], end = fresh(connect)
            ends.append(end)
        with bench.pinned(server.pid):
            taken = interleave(segments, bench.pick(60, 8), seconds=0.02, most=20)
        for end in ends:
            end()
        tables.append(compare(key, title, taken, {}, bare=next(iter(theirs))))
    return [*tables, round_trips(bench)]


def round_trips(bench: Bench) -> Table:
    table = Table(
        "connect_round_trips",
        "Round trips from the TCP connection to the first usable session (without TLS; counted by a proxy)",
        ["", "round trips", "packets sent"],
        note="autocommit=True and an init_command are what web applications commonly set up.",
    )
    more = {"autocommit": True, "init_command": "SET time_zone = '+00:00'"}
    for what, settings in (("defaults", {}), ("autocommit, init_command", more)):
        with Link((bench.server.host, bench.server.port)) as link:
            connect = {**bench.tcp, **settings, "port": link.port}
            pool = ConnectionPool(size=1, maxsize=1, reuse_policy=_keep_none, **connect)
            for name, make in ((OURS, pool.get_connection), ("PyMySQL", partial(pymysql.connect, **connect))):
                make().close()  # ours learns once per pool what a fresh session looks like
                link.wait_until_unused()
                link.reset()
                connection = make()
                table.add(f"{name}, {what}", link.round_trips, link.requests)
                connection.close()
            pool.close()
    return table
