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

Never: records a value of a statement, unless query_text="full" (the server's error texts repeat values, so they are not
recorded either); changes what a statement sends or returns, or fails it, when a tracer raises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from time import monotonic, perf_counter, time_ns
from typing import Any, Literal
from urllib.parse import quote
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pymysql.constants import SERVER_STATUS

from ._driver import observed as statements
from ._driver.observed import End
from ._observe.otel_metrics import POOL, ConnectionMetrics
from ._observe.sqltext import LOOKED_AT, describe, sanitized
from ._pool import observed as borrows
from ._util.log import logger
from .errors import PoolError
from .failures import number_of

# Statements repeat. The keys are no longer than what is looked at.
_describe = lru_cache(maxsize=512)(describe)
_sanitized = lru_cache(maxsize=512)(sanitized)
_PAUSE = 60.0  # seconds between two reports of a tracer that raises
_told_at = -_PAUSE  # monotonic
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
        text = _text(connection, sql[: LOOKED_AT + 1])  # one more tells that there is more
        quotes = not connection.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
        operation, summary = _describe(text, quotes)
        attributes = _where(connection)
        if operation:
            attributes["db.operation.name"] = operation
            attributes["db.query.summary"] = summary
        measured = dict(attributes)
        if query_text == "full":
            attributes["db.query.text"] = _text(connection, sql)
        elif query_text == "sanitized":
            attributes["db.query.text"] = _sanitized(text, quotes)
        span = tracer.start_span(summary or attributes["db.system.name"], kind=SpanKind.CLIENT, attributes=attributes)
        began = perf_counter()

        def end(error: BaseException | None) -> None:
            took = perf_counter() - began
            if error is not None:
                measured.update(_fail(span, error, str(error) if query_text == "full" else None))
            span.end()
            duration.record(took, measured, context=trace.set_span_in_context(span))

        if comment:
            sql = _commented(sql, span)
        return sql, partial(_safely, end)

    def borrow_observer(pool: Any, began: float, connects: bool, error: BaseException | None) -> None:
        start = time_ns() - int((monotonic() - began) * 1e9)
        attributes = {POOL: pool.label, "pymysqlpool.connected": connects}
        span = tracer.start_span("pool.get_connection", attributes=attributes, start_time=start)
        if error is not None:
            # The text repeats the server's, which names the user.
            _fail(span, error, str(error) if query_text == "full" else None)
        span.end()

    def safe_observer(connection: Any, sql: str | bytes) -> tuple[str | bytes, End]:
        return _safely(observer, connection, sql) or (sql, _ignore)

    statements.observe(safe_observer)
    borrows.observe(partial(_safely, borrow_observer))


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


def _safely(call: Callable[..., Any], *args: Any) -> Any:
    """Return what `call` returns; None after an error, as of a sampler or a span processor. Logged once a minute at
    most."""
    global _told_at
    try:
        return call(*args)
    except Exception:  # noqa: BLE001 - whatever a tracer raises, the statement must go on
        if monotonic() - _told_at >= _PAUSE:
            _told_at = monotonic()
            logger.warning(
                "A statement or a borrow is not traced, since the tracer raised",
                exc_info=True,
                extra={"event": "tracing failed"},
            )
        return None


def _ignore(error: BaseException | None) -> None:
    """End a statement that is not traced."""


def _text(connection: Any, sql: str | bytes) -> str:
    """Return a text that can be exported: PyMySQL writes bytes in a statement as lone surrogates."""
    if isinstance(sql, str):
        return sql if sql.isascii() else sql.encode("utf-8", "replace").decode("utf-8")
    return bytes(sql).decode(connection.encoding, "replace")


def _commented(sql: str | bytes, span: trace.Span) -> str | bytes:
    """Return the statement with the span's context in a comment at its end; its own bytes stay as they are."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    if not carrier:
        return sql
    remark = " /*" + ",".join(f"{quote(key)}='{quote(value)}'" for key, value in sorted(carrier.items())) + "*/"
    return sql + remark if isinstance(sql, str) else bytes(sql) + remark.encode()


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


def _fail(span: trace.Span, error: BaseException, text: str | None) -> dict[str, str]:
    """Record `error` on `span`, with `text` as its description, and return the attributes of the error for metrics."""
    number = None if isinstance(error, PoolError) else number_of(error)  # that one is no server's
    said = {"error.type": str(number) if number is not None else type(error).__qualname__}
    if number is not None:
        said["db.response.status_code"] = str(number)
    span.set_attributes(said)
    span.set_status(Status(StatusCode.ERROR, text))
    return said
