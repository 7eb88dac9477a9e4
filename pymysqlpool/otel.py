"""OpenTelemetry: a span for each statement of a pooled connection, and the metrics of the pools.

    from pymysqlpool import otel

    otel.instrument()  # once, at start

Follows the semantic conventions for database client spans
(https://opentelemetry.io/docs/specs/semconv/database/mysql/): `db.system.name`, `db.namespace`, `db.operation.name`,
`db.query.summary`, `server.address`, `server.port`, `error.type`, `db.response.status_code`, and `db.query.text` by
choice. A borrow that had to wait or connect is a span too, `pool.get_connection`. The metrics are
`db.client.operation.duration` and the nine of `db.client.connection.*`
(https://opentelemetry.io/docs/specs/semconv/database/database-metrics/). Needs `opentelemetry-api` only
(`pip install pymysqlpool-web[otel]`); without an SDK nothing is recorded.

Costs a statement nothing until `instrument` is called, and after `uninstrument`. Never: records a value of a
statement, unless told to.
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
    """From now on each statement of a pooled connection, sync or awaited, is a span, and the pools have metrics.

    Args:
        tracer_provider: where spans go; default: OpenTelemetry's global one.
        meter_provider: where metrics go; default: OpenTelemetry's global one. Histograms of the connections are
            recorded when a reader collects.
        query_text: what `db.query.text` holds: "sanitized", the statement with `?` for each literal; "full", with its
            values, which may be secret; "none", no such attribute.
        comment: append the span's `traceparent` to each statement as an SQL comment, for the server's own logs
            (sqlcommenter). It makes the text of every statement a new one.
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
    """Record nothing any more."""
    statements.observe(None)
    borrows.observe(None)
    for exported in _exported.values():
        exported.is_on = False


def _metrics_of(meter_provider: Any) -> ConnectionMetrics:
    """Those of `meter_provider`, switched on; the same ones after another `instrument`."""
    exported = _exported.get(meter_provider)
    if exported is None:
        exported = _exported[meter_provider] = ConnectionMetrics(meter_provider)
    exported.is_on = True
    return exported


def _where(connection: Any) -> dict[str, Any]:
    """What server and database a statement goes to."""
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
    """Note `error` on `span`; returns what metrics say of it."""
    number = None if isinstance(error, PoolError) else number_of(error)  # that one is no server's
    said = {"error.type": str(number) if number is not None else type(error).__qualname__}
    if number is not None:
        said["db.response.status_code"] = str(number)
    span.set_attributes(said)
    span.set_status(Status(StatusCode.ERROR, str(error)))
    return said
