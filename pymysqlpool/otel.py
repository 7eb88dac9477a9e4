"""OpenTelemetry: a span for each statement of a pooled connection.

    from pymysqlpool import otel

    otel.instrument()  # once, at start

Follows the semantic conventions for database client spans
(https://opentelemetry.io/docs/specs/semconv/database/mysql/): `db.system.name`, `db.namespace`, `db.operation.name`,
`db.query.summary`, `server.address`, `server.port`, `error.type`, `db.response.status_code`, and `db.query.text` by
choice. Needs `opentelemetry-api` only (`pip install pymysqlpool-web[otel]`); without an SDK nothing is recorded.

Costs a statement nothing until `instrument` is called, and after `uninstrument`. Never: records a value of a
statement, unless told to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ._driver.observed import End, observe
from ._observe.sqltext import describe, sanitized
from .failures import number_of

# Statements repeat, and most are short.
_describe = lru_cache(maxsize=512)(describe)
_sanitized = lru_cache(maxsize=512)(sanitized)
_PROPAGATOR = TraceContextTextMapPropagator()

QueryText = Literal["none", "sanitized", "full"]


def instrument(*, tracer_provider: Any = None, query_text: QueryText = "sanitized", comment: bool = False) -> None:
    """From now on each statement of a pooled connection, sync or awaited, is a span.

    Args:
        tracer_provider: where spans go; default: OpenTelemetry's global one.
        query_text: what `db.query.text` holds: "sanitized", the statement with `?` for each literal; "full", with its
            values, which may be secret; "none", no such attribute.
        comment: append the span's `traceparent` to each statement as an SQL comment, for the server's own logs
            (sqlcommenter). It makes the text of every statement a new one.
    """
    if query_text not in ("none", "sanitized", "full"):
        raise ValueError(f"query_text={query_text!r} must be 'none', 'sanitized' or 'full'")
    tracer = trace.get_tracer("pymysqlpool", tracer_provider=tracer_provider)

    def observer(connection: Any, sql: str | bytes) -> tuple[str | bytes, End]:
        text = sql if isinstance(sql, str) else bytes(sql).decode(connection.encoding, "replace")
        operation, summary = _describe(text)
        attributes: dict[str, Any] = {
            "db.system.name": "mariadb" if "mariadb" in connection.server_version.lower() else "mysql"
        }
        if operation:
            attributes["db.operation.name"] = operation
            attributes["db.query.summary"] = summary
        if query_text != "none":
            attributes["db.query.text"] = text if query_text == "full" else _sanitized(text)
        namespace = connection.db
        if namespace:
            name = namespace.decode("utf-8", "replace") if isinstance(namespace, bytes) else namespace
            attributes["db.namespace"] = name
        if connection.unix_socket:
            attributes["server.address"] = connection.unix_socket
        else:
            attributes["server.address"] = connection.host
            attributes["server.port"] = connection.port
        span = tracer.start_span(summary or attributes["db.system.name"], kind=SpanKind.CLIENT, attributes=attributes)

        def end(error: BaseException | None) -> None:
            if error is not None:
                number = number_of(error)
                span.set_attribute("error.type", str(number) if number is not None else type(error).__qualname__)
                if number is not None:
                    span.set_attribute("db.response.status_code", str(number))
                span.set_status(Status(StatusCode.ERROR, str(error)))
            span.end()

        if comment:
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
            if carrier:
                remark = ",".join(f"{quote(key)}='{quote(value)}'" for key, value in sorted(carrier.items()))
                sql = f"{text} /*{remark}*/"
        return sql, end

    observe(observer)


def uninstrument() -> None:
    """Record nothing any more."""
    observe(None)
