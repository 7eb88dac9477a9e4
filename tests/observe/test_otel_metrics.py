"""The metrics that `otel.instrument` exports, against the convention's own list of them and against what was done."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv._incubating.metrics import db_metrics

from pymysqlpool import ConnectionPool, PoolTimeout, otel
from pymysqlpool._observe.otel_metrics import values_between
from pymysqlpool._pool.counters import TOTAL, histogram, no_durations
from pymysqlpool.metrics import BOUNDS
from tests.conftest import MakePool
from tests.support import in_child

POOL = "db.client.connection.pool.name"


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    otel.instrument(meter_provider=provider)
    yield reader
    otel.uninstrument()
    provider.shutdown()


def collected(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    return {
        metric.name: metric
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def by_pool(metric: Any, name: str) -> list[Any]:
    return [point for point in metric.data.data_points if point.attributes.get(POOL) == name]


def test_names_and_units_are_those_of_the_convention(reader: InMemoryMetricReader, make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, name="shop")
    with pool.get_connection() as connection:
        connection.cursor().execute("SELECT 1")
        with pytest.raises(PoolTimeout):
            pool.get_connection(timeout=0.01)
    seen = collected(reader)
    convention = {
        value
        for name, value in vars(db_metrics).items()
        if name.startswith(("DB_CLIENT_CONNECTION_", "DB_CLIENT_OPERATION_"))
    }
    assert seen.keys() == convention
    units = {"count": "{connection}", "max": "{connection}", "pending_requests": "{request}", "timeouts": "{timeout}"}
    for name, unit in units.items():
        assert seen[f"db.client.connection.{name}"].unit == unit
    for name in ("create_time", "wait_time", "use_time"):
        assert seen[f"db.client.connection.{name}"].unit == "s"


def test_the_numbers_are_what_was_done(reader: InMemoryMetricReader, make_pool: MakePool) -> None:
    pool = make_pool(size=2, maxsize=3, name="shop")
    with pool.get_connection() as held:
        held.cursor().execute("SELECT 1")
        for _ in range(3):
            with pool.get_connection() as connection:
                connection.cursor().execute("SELECT 1")
        seen = collected(reader)
    points = by_pool(seen["db.client.connection.count"], "shop")
    assert {point.attributes["db.client.connection.state"]: point.value for point in points} == {"idle": 1, "used": 1}
    assert [point.value for point in by_pool(seen["db.client.connection.max"], "shop")] == [3]
    assert [point.value for point in by_pool(seen["db.client.connection.idle.min"], "shop")] == [2]
    (use,) = by_pool(seen["db.client.connection.use_time"], "shop")
    (create,) = by_pool(seen["db.client.connection.create_time"], "shop")
    now = pool.stats()
    assert use.count == 3
    assert create.count == 2
    assert tuple(create.bucket_counts) == now.create.counts
    assert create.sum == pytest.approx(now.create.sum, rel=0.01)
    assert tuple(create.explicit_bounds) == BOUNDS
    (again,) = by_pool(collected(reader)["db.client.connection.use_time"], "shop")
    assert again.count == 4, "each is counted once, however often it is collected"


def test_a_statement_is_measured_with_its_outcome(reader: InMemoryMetricReader, make_pool: MakePool) -> None:
    pool = make_pool()
    with pool.get_connection() as connection:
        connection.cursor().execute("SELECT 1")
        with pytest.raises(pymysql.err.ProgrammingError):
            connection.cursor().execute("SELECT secret FROM no_such_table")
    points = collected(reader)["db.client.operation.duration"].data.data_points
    assert [(point.attributes["db.operation.name"], point.attributes.get("error.type")) for point in points] == [
        ("SELECT", None),
        ("SELECT", "1146"),
        ("COMMIT", None),
    ]
    assert all("db.query.text" not in point.attributes and point.count == 1 for point in points)


def test_values_stand_for_what_was_measured_in_number_bucket_and_sum() -> None:
    rng = random.Random(7)
    for _ in range(300):
        longest = rng.choice([0.0005, 0.02, 0.9, 30.0])
        before, after = no_durations(), no_durations()
        for durations, times in ((before, rng.randrange(4)), (after, rng.randrange(1, 30))):
            for _ in range(times):
                add(durations, rng.random() * longest)
        more = histogram(before) + histogram(after)
        values = values_between(histogram(before), more)
        again = no_durations()
        for value, times in values:
            for _ in range(times):
                add(again, value)
        assert histogram(again).counts == histogram(after).counts
        if not after[TOTAL - 1]:
            assert again[TOTAL] == pytest.approx(after[TOTAL], rel=0.05)


def add(durations: list[float], seconds: float) -> None:
    durations[sum(seconds > bound for bound in BOUNDS)] += 1
    durations[TOTAL] += seconds


def use(pool: ConnectionPool, times: int) -> None:
    for _ in range(times):
        with pool.get_connection() as connection:
            connection.execute("SELECT 1")


def number_of(seen: dict[str, Any], metric: str, label: str) -> int:
    return sum(
        point.count if hasattr(point, "count") else point.value
        for point in by_pool(seen[f"db.client.connection.{metric}"], label)
    )


def test_a_pool_that_ends_between_two_collections_counts_and_no_counter_falls(
    reader: InMemoryMetricReader, make_pool: MakePool, connect_args: dict[str, Any]
) -> None:
    for _ in range(2):
        pool = make_pool(size=1, maxsize=1, name="shop")
        with pool.get_connection(), pytest.raises(PoolTimeout):
            pool.get_connection(timeout=0.01)
        use(pool, 3)
    seen = collected(reader)
    assert [number_of(seen, name, "shop") for name in ("timeouts", "wait_time", "use_time")] == [2, 2, 8]
    use(pool, 2)
    pool.close()
    with ConnectionPool(**connect_args, size=1, maxsize=1, name="shop") as short:
        use(short, 4)
    with ConnectionPool(**connect_args, size=1, maxsize=1, name="another") as short:
        use(short, 5)
    del short
    gc.collect()
    seen = collected(reader)
    assert [number_of(seen, name, "shop") for name in ("timeouts", "wait_time", "use_time")] == [2, 2, 14]
    assert number_of(seen, "use_time", "another") == 5
    assert number_of(seen, "max", "another") == 0, "gauges end with their pool"


def test_a_forked_child_exports_what_it_has_counted_itself(reader: InMemoryMetricReader, make_pool: MakePool) -> None:
    pool = make_pool(size=1, maxsize=1, name="shop")
    use(pool, 5)
    assert number_of(collected(reader), "use_time", "shop") == 5
    exported = list(otel._exported.values())
    for one in exported:
        one._records.acquire()  # as a reader does that collects at this moment

    def child() -> float:
        use(pool, 8)
        # the SDK's own sum comes along with the fork
        return number_of(collected(reader), "use_time", "shop") - 5

    assert in_child(child) == "returned 8"
    for one in exported:
        one._records.release()
