"""Borrow a connection and give it back, without a query: what a pool itself costs.

One thread, a pool of 4, TCP. Some peers ask the server in each cycle: the column says how often (commands that the
server counted per cycle; a ping or a rollback is one). Ours puts the session on a lease when it is first used, so a
second table makes a cursor in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import repeat

from ..bench import Bench
from ..measure import Cell, Table, compare, interleave, timed
from ..peers import ALL, Bare, ConnectPerQuery, Peer, Peers, query


def cycle(peer: Peer) -> Callable[[int], None]:
    borrow, give_back = peer.borrow, peer.give_back

    def body(operations: int) -> None:
        for _ in repeat(None, operations):
            give_back(borrow())

    return body


def cycle_with_a_cursor(peer: Peer) -> Callable[[int], None]:
    borrow, give_back = peer.borrow, peer.give_back

    def body(operations: int) -> None:
        for _ in repeat(None, operations):
            connection = borrow()
            connection.cursor()
            give_back(connection)

    return body


def run(bench: Bench) -> list[Table]:
    kinds = [kind for kind in ALL if kind not in (Bare, ConnectPerQuery)]
    peers = Peers(kinds, bench.tcp, size=4)
    with peers as there, bench.pinned(bench.server.pid):
        for peer in there.values():
            peer.fill(4)
        commands = commands_per_cycle(bench, there)
        taken = interleave({name: timed(cycle(peer)) for name, peer in there.items()}, bench.pick(200, 30))
        used = interleave({name: timed(cycle_with_a_cursor(peer)) for name, peer in there.items()}, bench.pick(200, 30))
    title = "Borrow and return, no query (one thread)"
    return [
        compare("borrow_return", title, taken, peers.missing, extra={"server asked": commands}),
        compare("borrow_cursor_return", "Borrow, make a cursor, return (one thread)", used, peers.missing),
    ]


def commands_per_cycle(bench: Bench, there: Mapping[str, Peer], cycles: int = 50) -> dict[str, Cell]:
    admin = Bare(bench.tcp)
    session = admin.borrow()

    def commands() -> int:
        return int(query(session, "SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    counted: dict[str, Cell] = {}
    for name, peer in there.items():
        before = commands()
        cycle(peer)(cycles)
        counted[name] = (commands() - before - 1) / cycles
    admin.close()
    return counted
