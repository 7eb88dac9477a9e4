"""A cluster's call is one call in the numbers and in the traces, however often it looks for a better host meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pymysqlpool import PoolStats, PoolTimeout, PoolUnavailable, otel
from pymysqlpool._routing.core import SLICE
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.cluster import Cluster
from tests.support import wait_until

LONG = 3.4 * SLICE


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel.instrument(tracer_provider=provider)
    yield exporter
    otel.uninstrument()


@pytest.fixture
def nowhere() -> Iterator[list[str]]:
    """Two hosts that refuse: their ports are taken, and nothing listens there."""
    with socket.socket() as one, socket.socket() as two:
        for taken in (one, two):
            taken.bind(("127.0.0.1", 0))
        yield [f"127.0.0.1:{taken.getsockname()[1]}" for taken in (one, two)]


@pytest.fixture
def cluster(connect_args: dict[str, Any], nowhere: list[str], spans: InMemorySpanExporter) -> Iterator[Cluster]:
    """Of a server, and of a host that refuses."""
    arguments = dict(connect_args)
    server = f"{arguments.pop('host')}:{arguments.pop('port')}"
    with Cluster(hosts=[server, nowhere[0]], size=1, maxsize=1, **arguments) as cluster:
        yield cluster


def borrow(cluster: Cluster, awaits: bool, timeout: float) -> None:
    async def awaited() -> None:
        async with AsyncConnectionPool(pool=cluster.primary).get_connection(timeout=timeout):
            pass

    if awaits:
        asyncio.run(awaited())
    else:
        cluster.primary.get_connection(timeout=timeout).close()


def calls(spans: InMemorySpanExporter) -> list[tuple[Any, bool]]:
    """The error, and whether it took long, of each span of a borrow."""
    found = [span for span in spans.get_finished_spans() if span.name == "pool.get_connection"]
    return [
        ((span.attributes or {}).get("error.type"), took > LONG - SLICE)
        for span in found
        for took in [((span.end_time or 0) - (span.start_time or 0)) / 1e9]
    ]


@pytest.mark.parametrize("awaits", [False, True])
def test_a_call_that_waits_for_long_is_one_wait_of_that_length_and_no_timeout(
    awaits: bool, cluster: Cluster, spans: InMemorySpanExporter
) -> None:
    held = cluster.primary.get_connection()
    before = cluster.primary.stats()
    spans.clear()
    waiter = threading.Thread(target=borrow, args=(cluster, awaits, 20))
    waiter.start()
    wait_until(lambda: cluster.primary.stats().waiting, "the call")
    threading.Event().wait(LONG)  # nothing visible tells that slices have passed, and that is the claim
    held.close()
    waiter.join(20)
    now = cluster.primary.stats()
    assert (now.timeouts, now.waits) == (before.timeouts, before.waits + 1)
    assert now.wait_time - before.wait_time > LONG - SLICE
    assert calls(spans) == [(None, True)]


@pytest.mark.parametrize("awaits", [False, True])
def test_a_call_in_vain_is_one_timeout(awaits: bool, cluster: Cluster, spans: InMemorySpanExporter) -> None:
    with cluster.primary.get_connection():
        before = cluster.primary.stats()
        spans.clear()
        with pytest.raises(PoolTimeout):
            borrow(cluster, awaits, LONG)
        now = cluster.primary.stats()
    assert (now.timeouts, now.waits) == (before.timeouts + 1, before.waits + 1)
    assert now.wait_time - before.wait_time > LONG - SLICE
    assert calls(spans) == [("PoolTimeout", True)]


@pytest.mark.parametrize("awaits", [False, True])
def test_a_call_that_finds_no_host_is_one_wait_and_one_span(
    awaits: bool, nowhere: list[str], spans: InMemorySpanExporter, connect_args: dict[str, Any]
) -> None:
    arguments = {name: value for name, value in connect_args.items() if name not in ("host", "port")}
    with Cluster(hosts=nowhere, size=1, maxsize=1, **arguments) as cluster:
        with pytest.raises(PoolUnavailable):
            borrow(cluster, awaits, LONG)
        now: PoolStats = cluster.primary.stats()
    assert (now.timeouts, now.waits) == (0, 1)
    assert calls(spans) == [("PoolUnavailable", True)]


@pytest.mark.parametrize("awaits", [False, True])
def test_each_caller_that_waits_is_one_that_waits(awaits: bool, cluster: Cluster, spans: InMemorySpanExporter) -> None:
    """The pool of a host has only those in its queue that the cluster lets in; the others are in the cluster's."""
    held = cluster.primary.get_connection()
    callers = [threading.Thread(target=borrow, args=(cluster, awaits, 20)) for _ in range(4)]
    for caller in callers:
        caller.start()
    wait_until(lambda: cluster.primary.stats().waiting == len(callers), "all callers")
    held.close()
    for caller in callers:
        caller.join(20)
    assert cluster.primary.stats().waiting == 0
    assert len(calls(spans)) == 1 + len(callers), "the first one connected"


def test_a_call_that_is_served_at_once_is_no_wait(cluster: Cluster, spans: InMemorySpanExporter) -> None:
    borrow(cluster, False, 5)
    spans.clear()
    before = cluster.primary.stats()
    for awaits in (False, True):
        borrow(cluster, awaits, 5)
    assert cluster.primary.stats().waits == before.waits
    assert calls(spans) == []
