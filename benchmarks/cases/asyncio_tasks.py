"""100 tasks of one event loop on a pool of 8: borrow, SELECT 1, return, again and again.

How late the loop is: a timer of one millisecond beside them says by how much it was missed. Everything that runs on the
loop delays it, and with threads also any other that has the interpreter's lock (5 ms at a time while it computes).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..bench import Bench
from ..measure import Table, percentile
from ..peers import ASYNC, AsyncPeer, NotInstalled, OursAsync, OursInThreads

TASKS, SIZE = 100, 8


@dataclass(slots=True)
class Stretch:
    rate: float  # operations per second
    per_task: list[int]
    latencies: list[float]  # milliseconds
    cpu: float  # microseconds of the whole process, for an operation
    late: list[float]  # milliseconds, by which a timer of the loop was missed


async def watch(late: list[float]) -> None:
    """Note how late the loop is, every millisecond."""
    while True:
        due = time.monotonic() + 0.001
        await asyncio.sleep(0.001)
        late.append((time.monotonic() - due) * 1000)


async def stretch(peer: AsyncPeer, seconds: float) -> Stretch:
    operations = [0] * TASKS
    latencies: list[float] = []
    late: list[float] = []
    watching = asyncio.create_task(watch(late))
    cpu = time.process_time()
    began = time.monotonic()
    until = began + seconds

    async def work(index: int) -> None:
        while (asked := time.monotonic()) < until:
            connection = await peer.borrow()
            await peer.query(connection)
            await peer.give_back(connection)
            latencies.append((time.monotonic() - asked) * 1000)
            operations[index] += 1

    await asyncio.gather(*[work(index) for index in range(TASKS)])
    rate = sum(operations) / (time.monotonic() - began)
    watching.cancel()
    return Stretch(rate, operations, latencies, (time.process_time() - cpu) / sum(operations) * 1e6, late)


async def measure_all(connect: dict[str, Any], rounds: int, seconds: float) -> tuple[dict[str, Any], dict[str, str]]:
    there: dict[str, AsyncPeer] = {}
    missing: dict[str, str] = {}
    for kind in ASYNC:
        peer = kind()
        try:
            await peer.open(connect, SIZE)
        except NotInstalled as error:
            missing[kind.name] = str(error)
        else:
            there[kind.name] = peer
    taken: dict[str, list[Stretch]] = {name: [] for name in there}
    for peer in there.values():
        await stretch(peer, 0.05)
    for turn in range(rounds):
        order = list(there)
        shift = turn % len(order)
        for name in order[shift:] + order[:shift]:
            taken[name].append(await stretch(there[name], seconds))
    for peer in there.values():
        with suppress(Exception):
            await peer.close()
    return taken, missing


def run(bench: Bench) -> list[Table]:
    rounds, seconds = bench.pick((4, 0.8), (2, 0.25))
    taken, missing = asyncio.run(measure_all(bench.tcp, rounds, seconds))
    ours = OursAsync.name if OursAsync.name in taken else OursInThreads.name
    columns = ["", f"speed, {ours} = 1", "p50 ms", "p99 ms", "max ms", "CPU us", "loop late p99 ms", "max ms"]
    columns += ["idlest", "busiest"]
    table = Table("asyncio_tasks", f"{TASKS} tasks on {SIZE} connections", columns)
    for name, stretches in sorted(taken.items(), key=lambda item: -median(one.rate for one in item[1])):
        latencies = sorted(latency for one in stretches for latency in one.latencies)
        speed = median(one.rate / other.rate for one, other in zip(stretches, taken[ours], strict=True))
        unfairest = min(stretches, key=lambda one: min(one.per_task) / max(one.per_task)).per_task
        spread = (percentile(latencies, 0.5), percentile(latencies, 0.99), latencies[-1])
        late = sorted(late for one in stretches for late in one.late)
        costs = (median(one.cpu for one in stretches), percentile(late, 0.99), late[-1])
        table.add(name, speed, *spread, *costs, min(unfairest), max(unfairest))
    table.missing = missing
    return [table]
