"""OpenTelemetry: a span for each statement on a pooled connection, and metrics of the pools.

    from pymysqlpool import otel

    otel.instrument()  # once, at start

Follows the semantic conventions for database client spans
(https://opentelemetry.io/docs/specs/semconv/database/mysql/): `db.system.name`, `db.namespace`, `db.operation.name`,
`db.query.summary`, `server.address`, `server.port`, `error.type`, `db.response.status_code`, and `db.query.text`
(configurable). A borrow that waits or connects is a span too, `pool.get_connection`. The metrics are
`db.client.operation.duration` and the nine of `db.client.connection.*`
(https://opentelemetry.io/docs/specs/semconv/database/database-metrics/). Needs `opentelemetry-api` only
(`pip install pymysqlpool-web[otel]`); without an SDK nothing is recorded.

Adds no cost to a statement before `instrument` and after `uninstrument`.

Never: records the values of a statement, unless query_text="full".
"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic, perf_counter, time_ns
from typing import Any, Literal
from urllib.parse import quote
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ._driver import observed as statements
from ._driver.observed import End
from ._observe.otel_metrics import POOL, ConnectionMetrics
from ._observe.sqltext import describe, sanitized
from ._pool import observed as borrows
from .errors import PoolError
from .failures import number_of

# Statements repeat, and most are short.
_describe = lru_cache(maxsize=512)(describe)
_sanitized = lru_cache(maxsize=512)(sanitized)
_PROPAGATOR = TraceContextTextMapPropagator()

_exported: WeakKeyDictionary[Any, ConnectionMetrics] = WeakKeyDictionary()  # by meter provider

QueryText = Literal["none", "sanitized", "full"]


def instrument(
    *,
    tracer_provider: Any = None,
    meter_provider: Any = None,
    query_text: QueryText = "sanitized",
    comment: bool = False,
) -> None:
    """Record a span for each statement on a pooled connection, sync or async, and the metrics of the pools.

    Args:
        tracer_provider: the provider for spans; default: OpenTelemetry's global one.
        meter_provider: the provider for metrics; default: OpenTelemetry's global one. The histograms of connections are
            recorded when a reader collects.
        query_text: the value of `db.query.text`: "sanitized", the statement with `?` for each literal; "full", the
            statement with its values, which may be secret; "none", no such attribute.
        comment: append the span's `traceparent` to each statement as an SQL comment, for the server's own logs
            (sqlcommenter). Every statement text then differs from all others.
    """
    if query_text not in ("none", "sanitized", "full"):
        raise ValueError(f"query_text={query_text!r} must be 'none', 'sanitized' or 'full'")
    uninstrument()
    tracer = trace.get_tracer("pymysqlpool", tracer_provider=tracer_provider)
    duration = _metrics_of(meter_provider or metrics.get_meter_provider()).duration

    def observer(connection: Any, sql: str | bytes) -> tuple[str | bytes, End]:
        text = sql if isinstance(sql, str) else bytes(sql).decode(connection.encoding, "replace")
        operation, summary = _describe(text)
        attributes = _where(connection)
        if operation:
            attributes["db.operation.name"] = operation
            attributes["db.query.summary"] = summary
        measured = dict(attributes)
        if query_text != "none":
            attributes["db.query.text"] = text if query_text == "full" else _sanitized(text)
        span = tracer.start_span(summary or attributes["db.system.name"], kind=SpanKind.CLIENT, attributes=attributes)
        began = perf_counter()

        def end(error: BaseException | None) -> None:
            took = perf_counter() - began
            if error is not None:
                measured.update(_fail(span, error))
            span.end()
            duration.record(took, measured, context=trace.set_span_in_context(span))

        if comment:
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
            if carrier:
                remark = ",".join(f"{quote(key)}='{quote(value)}'" for key, value in sorted(carrier.items()))
                sql = f"{text} /*{remark}*/"
        return sql, end

    def borrow_observer(pool: Any, began: float, connects: bool, error: BaseException | None) -> None:
        start = time_ns() - int((monotonic() - began) * 1e9)
        attributes = {POOL: pool.label, "pymysqlpool.connected": connects}
        span = tracer.start_span("pool.get_connection", attributes=attributes, start_time=start)
        if error is not None:
            _fail(span, error)
        span.end()

    statements.observe(observer)
    borrows.observe(borrow_observer)


def uninstrument() -> None:
    """Stop recording."""
    statements.observe(None)
    borrows.observe(None)
    for exported in _exported.values():
        exported.is_on = False


def _metrics_of(meter_provider: Any) -> ConnectionMetrics:
    """Return the metrics of `meter_provider`, switched on; repeated calls return the same ones."""
    exported = _exported.get(meter_provider)
    if exported is None:
        exported = _exported[meter_provider] = ConnectionMetrics(meter_provider)
    exported.is_on = True
    return exported


def _where(connection: Any) -> dict[str, Any]:
    """Return the attributes for the server and the database of a statement."""
    attributes: dict[str, Any] = {
        "db.system.name": "mariadb" if "mariadb" in connection.server_version.lower() else "mysql"
    }
    namespace = connection.db
    if namespace:
        attributes["db.namespace"] = namespace.decode("utf-8", "replace") if isinstance(namespace, bytes) else namespace
    if connection.unix_socket:
        attributes["server.address"] = connection.unix_socket
    else:
        attributes["server.address"] = connection.host
        attributes["server.port"] = connection.port
    return attributes


def _fail(span: trace.Span, error: BaseException) -> dict[str, str]:
    """Record `error` on `span`, and return the attributes of the error for metrics."""
    number = None if isinstance(error, PoolError) else number_of(error)  # that one is no server's
    said = {"error.type": str(number) if number is not None else type(error).__qualname__}
    if number is not None:
        said["db.response.status_code"] = str(number)
    span.set_attributes(said)
    span.set_status(Status(StatusCode.ERROR, str(error)))
    return said
