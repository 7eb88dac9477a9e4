"""docs/observability.md lists what the code emits: each metric with its unit, each span with its attributes, and each
event of the log with its fields. Nothing is missing on the page, and nothing on it is gone from the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pymysqlpool import otel
from pymysqlpool.prometheus import PoolCollector
from pymysqlpool.reuse import Reason
from tests.conftest import MakePool

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/observability.md").read_text()
COMMON = {"event", "pool", "pool_label"}


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose first column is headed `first`."""
    _, _, rest = PAGE.partition(f"\n| {first} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- metrics and spans -------------------------------------------------------------------------------------


@pytest.fixture
def recorded(make_pool: MakePool) -> Iterator[tuple[InMemoryMetricReader, InMemorySpanExporter]]:
    """What is recorded of a pool that connects, serves a statement, and shows an error."""
    reader, spans, provider = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    otel.instrument(tracer_provider=provider, meter_provider=MeterProvider([reader]))
    pool = make_pool(size=1, maxsize=1, name="shop")
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
        with pytest.raises(pymysql.err.ProgrammingError):
            connection.execute("SELECT secret FROM no_such_table")
        with pytest.raises(pymysql.err.OperationalError):
            pool.get_connection(timeout=0.01)
    with pytest.raises(pymysql.err.OperationalError):
        make_pool(user="no_such_user").get_connection()
    yield reader, spans
    otel.uninstrument()


def test_each_metric_is_listed_with_its_unit(recorded: tuple[InMemoryMetricReader, InMemorySpanExporter]) -> None:
    listed = {words(name)[0]: (unit, meaning) for name, unit, meaning in rows("metric")}
    data = recorded[0].get_metrics_data()
    assert data is not None
    exported = {
        metric.name: metric.unit
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert exported == {
        name: "s" if unit.startswith("s,") else "{" + unit.removesuffix("s") + "}"
        for name, (unit, _) in listed.items()
        if name.startswith("db.client.")
    }
    only_prometheus = False
    expected = set()
    for name, (unit, meaning) in listed.items():
        only_prometheus |= "Prometheus only" in meaning
        assert name.startswith("pymysqlpool_") == only_prometheus
        if "OpenTelemetry only" not in meaning:
            expected.add(name.replace(".", "_") + "_seconds" * unit.startswith("s,"))
    scraped = {
        f"{family.name}_total" if name_is_ours(family.name) else family.name for family in PoolCollector().collect()
    }
    assert scraped == expected


def name_is_ours(name: str) -> bool:
    """A counter of the convention is listed by the name that the convention gives it."""
    return name.startswith("pymysqlpool_")


def test_each_attribute_of_a_span_is_listed(recorded: tuple[InMemoryMetricReader, InMemorySpanExporter]) -> None:
    statement, borrow = ({*words(attributes)} for _, _, attributes in rows("span"))
    seen: dict[str, set[str]] = {"CLIENT": set(), "INTERNAL": set()}
    for span in recorded[1].get_finished_spans():
        seen[span.kind.name] |= {*(span.attributes or {})}
    assert seen["CLIENT"] == statement - {"?"}
    assert seen["INTERNAL"] == borrow


def test_each_reason_of_a_discard_is_explained() -> None:
    (paragraph,) = (part for part in PAGE.split("\n\n") if part.startswith("Reasons of a discard"))
    assert {*words(paragraph)} == {reason.value for reason in Reason}


# -- the log -----------------------------------------------------------------------------------------------


def emitted() -> dict[str, set[str]]:
    """Each event that the code can log, with the names of its own fields."""
    events: dict[str, set[str]] = {}
    for package in ("pymysqlpool", "pymysqlpool_flask", "pymysqlpool_django"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                for name, its_fields in _events_in(node):
                    events.setdefault(name, set()).update(its_fields - COMMON)
    return events


def _events_in(node: Any) -> Iterator[tuple[str, set[str]]]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fields":
        if len(node.args) == 2 and isinstance(node.args[1], ast.Constant):
            yield node.args[1].value, {word.arg for word in node.keywords if word.arg}
    elif isinstance(node, ast.Dict) and isinstance(node.keys[0] if node.keys else None, ast.Constant):
        names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        if names[0] == "event":
            for name in _texts(node.values[0]):
                yield name, set(names)
    elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "said['event']":
        for name in _texts(node.value):
            yield name, set()


def _texts(value: ast.expr) -> list[str]:
    return [part.value for part in ast.walk(value) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def test_each_event_of_the_log_is_listed_with_its_fields() -> None:
    listed: dict[str, set[str]] = {}
    for names, _, meaning in rows("event"):
        for name in words(names):
            listed[name] = {word for word in words(meaning) if word.isidentifier()}
    found = emitted()
    assert listed.keys() == found.keys()
    assert listed == found
