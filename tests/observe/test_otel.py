"""Spans of statements, as the semantic conventions want them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pymysqlpool import otel
from pymysqlpool._driver.exchange import WireConnection
from tests.conftest import MakePool


@pytest.fixture
def spans() -> Iterator[tuple[InMemorySpanExporter, TracerProvider]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter, provider
    otel.uninstrument()


def test_a_statement_is_a_span_with_the_attributes_of_the_convention(
    spans: Any, make_pool: MakePool, connect_args: dict[str, Any]
) -> None:
    exporter, provider = spans
    pool = make_pool()
    otel.instrument(tracer_provider=provider)
    request = provider.get_tracer("test").start_span("request")
    with trace.use_span(request, end_on_exit=True), pool.get_connection() as connection:
        connection.cursor().execute(
            "SELECT table_name FROM information_schema.tables WHERE table_name = %s", ("secret",)
        )
    span, outer = exporter.get_finished_spans()
    assert outer.name == "request"
    assert span.parent.span_id == request.get_span_context().span_id
    assert span.name == "SELECT information_schema.tables"
    assert span.kind.name == "CLIENT"
    assert dict(span.attributes) == {
        "db.system.name": "mariadb" if "mariadb" in connection_version(connect_args) else "mysql",
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT information_schema.tables",
        "db.query.text": "SELECT table_name FROM information_schema.tables WHERE table_name = ?",
        "db.namespace": connect_args["database"],
        "server.address": connect_args["host"],
        "server.port": connect_args["port"],
    }


def connection_version(connect_args: dict[str, Any]) -> str:
    plain = pymysql.connect(**connect_args)
    try:
        return str(plain.get_server_info()).lower()
    finally:
        plain.close()


def test_a_failed_statement_is_a_span_with_its_error_number(spans: Any, make_pool: MakePool) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider, query_text="none")
    pool = make_pool()
    with pytest.raises(pymysql.err.ProgrammingError), pool.get_connection() as connection:
        connection.cursor().execute("SELECT * FROM no_such_table")
    (span,) = exporter.get_finished_spans()
    assert span.attributes["error.type"] == span.attributes["db.response.status_code"] == "1146"
    assert span.status.status_code.name == "ERROR"
    assert "db.query.text" not in span.attributes


def test_the_pools_own_statements_are_no_spans_of_a_request(spans: Any, make_pool: MakePool) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    pool = make_pool(init_command="SET @a = 1", reset="always", pre_ping=True)
    for _ in range(2):
        with pool.get_connection() as connection:
            connection.cursor().execute("SELECT 1")
    assert [span.name for span in exporter.get_finished_spans()] == ["SELECT", "SELECT"]


def test_it_costs_nothing_when_it_is_not_asked_for() -> None:
    assert WireConnection.query is pymysql.connections.Connection.query
    otel.instrument()
    assert WireConnection.query is not pymysql.connections.Connection.query
    otel.uninstrument()
    assert WireConnection.query is pymysql.connections.Connection.query


def test_the_servers_log_can_be_joined_with_the_trace(spans: Any, make_pool: MakePool) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider, comment=True)
    pool = make_pool()
    with pool.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT info FROM information_schema.processlist WHERE id = connection_id()")
        (text,) = cursor.fetchone()
    (span,) = exporter.get_finished_spans()
    assert text.endswith(
        f"/*traceparent='00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}'*/"
    )
    assert pool.stats().reset == 0, "a comment is no reason for a reset"
