"""Spans of statements, as the semantic conventions want them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pymysqlpool import PoolTimeout, otel
from pymysqlpool._async import exchanges
from pymysqlpool._driver.exchange import WireConnection
from pymysqlpool.aio import AsyncConnectionPool
from pymysqlpool.devserver import DevServer
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
    pool = make_pool(pre_create_num=1, autocommit=True)  # in MySQL this statement begins a transaction
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
    pool = make_pool(pre_create_num=1)
    with pytest.raises(pymysql.err.ProgrammingError), pool.get_connection() as connection:
        connection.cursor().execute("SELECT * FROM no_such_table")
    (span,) = exporter.get_finished_spans()
    assert span.attributes["error.type"] == span.attributes["db.response.status_code"] == "1146"
    assert span.status.status_code.name == "ERROR"
    assert "db.query.text" not in span.attributes


def test_the_pools_own_statements_are_no_spans_of_a_request(spans: Any, make_pool: MakePool) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    pool = make_pool(pre_create_num=1, init_command="SET @a = 1", reset="always", pre_ping=True)
    for _ in range(2):
        with pool.get_connection() as connection:
            connection.cursor().execute("SELECT 1")
    assert [span.name for span in exporter.get_finished_spans()] == ["SELECT", "SELECT"]


def calls_of(work: Any) -> Counter[str]:
    """The Python functions that `work` calls, each time it does."""
    seen: Counter[str] = Counter()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            seen[f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def test_a_statement_makes_not_one_call_more_before_it_is_asked_for_and_after(
    spans: Any, make_pool: MakePool, server: DevServer, connect_args: dict[str, Any]
) -> None:
    _, provider = spans
    pool = make_pool(pre_create_num=1)
    code = exchanges.Exchanges.query_on.__code__.co_filename

    def work() -> None:
        with pool.get_connection() as connection:
            connection.cursor().execute("SELECT 1")

    async def awaited() -> None:
        async with AsyncConnectionPool(**connect_args) as pool, pool.get_connection() as connection:
            await connection.cursor().execute("SELECT 1")

    def on_a_loop() -> None:
        asyncio.run(awaited())

    def from_ours(calls: Counter[str]) -> set[str]:
        return {name for name in calls if name.startswith(otel.__file__) or "observed.py" in name}

    for _ in range(3):
        work()  # what is learnt at first
    assert WireConnection.query is pymysql.connections.Connection.query
    before = calls_of(work)
    awaited_before = calls_of(on_a_loop)
    assert not from_ours(before)
    assert not from_ours(awaited_before)
    assert any(name.startswith(f"{code}:Exchanges.query_on") for name in awaited_before)
    otel.instrument(tracer_provider=provider)
    assert from_ours(calls_of(work))
    assert from_ours(calls_of(on_a_loop))
    otel.uninstrument()
    assert WireConnection.query is pymysql.connections.Connection.query
    assert WireConnection.commit is pymysql.connections.Connection.commit
    work()  # a cache of decoders has seen other connections meanwhile
    assert calls_of(work) == before
    assert not from_ours(calls_of(on_a_loop))


def test_an_awaited_statement_is_the_same_span_as_a_blocking_one(
    spans: Any, make_pool: MakePool, connect_args: dict[str, Any]
) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    tracer = provider.get_tracer("test")
    good, bad = "SELECT 1 FROM dual WHERE 2 = %s", "SELECT * FROM no_such_table"

    async def awaited() -> None:
        async with AsyncConnectionPool(**connect_args, pre_create_num=1) as pool:
            with tracer.start_as_current_span("request"):
                async with pool.get_connection() as connection:
                    await connection.cursor().execute(good, (2,))
                    with pytest.raises(pymysql.err.ProgrammingError):
                        await connection.cursor().execute(bad)
                    await connection.rollback()

    def blocking() -> None:
        pool = make_pool(pre_create_num=1)
        with tracer.start_as_current_span("request"), pool.get_connection() as connection:
            connection.execute(good, (2,))
            with pytest.raises(pymysql.err.ProgrammingError):
                connection.execute(bad)
            connection.rollback()

    def recorded() -> list[Any]:
        *statements, request = exporter.get_finished_spans()
        exporter.clear()
        assert request.name == "request"
        return [
            (s.name, dict(s.attributes), s.status.status_code, s.parent.span_id == request.context.span_id)
            for s in statements
        ]

    blocking()
    expected = recorded()
    asyncio.run(awaited())
    assert recorded() == expected
    assert [name for name, *_ in expected] == ["SELECT", "SELECT no_such_table", "ROLLBACK"]
    assert all(is_child for *_, is_child in expected)


@pytest.mark.parametrize("awaits", [False, True])
def test_a_borrow_that_connects_or_waits_is_a_span_and_one_that_is_served_at_once_is_none(
    awaits: bool, spans: Any, make_pool: MakePool
) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    pool = make_pool(name="shop", size=1, maxsize=1)

    def borrow() -> None:
        pool.get_connection().close()

    def wait_in_vain() -> None:
        with pool.get_connection(), pytest.raises(PoolTimeout):
            pool.get_connection(timeout=0.01)

    async def borrow_awaited(timeout: float | None = None) -> None:
        face = AsyncConnectionPool(pool=pool)
        async with face.get_connection(timeout=timeout):
            pass

    def wait_in_vain_awaited() -> None:
        with pool.get_connection(), pytest.raises(PoolTimeout):
            asyncio.run(borrow_awaited(0.01))

    for _ in range(2):
        asyncio.run(borrow_awaited()) if awaits else borrow()
    (connected,) = exporter.get_finished_spans()
    assert connected.name == "pool.get_connection"
    assert dict(connected.attributes) == {"db.client.connection.pool.name": "shop", "pymysqlpool.connected": True}
    exporter.clear()
    wait_in_vain_awaited() if awaits else wait_in_vain()
    (waited,) = exporter.get_finished_spans()
    assert waited.attributes["error.type"] == "PoolTimeout"
    assert not waited.attributes["pymysqlpool.connected"]
    assert waited.end_time - waited.start_time >= 10_000_000


@pytest.mark.parametrize("awaits", [False, True])
def test_a_borrow_whose_login_is_refused_is_a_span_with_the_servers_error(
    awaits: bool, spans: Any, make_pool: MakePool
) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    pool = make_pool(user="no_such_user", password="secret")

    async def borrow_awaited() -> None:
        async with AsyncConnectionPool(pool=pool) as face:
            await face.get_connection()

    with pytest.raises(pymysql.err.OperationalError):
        asyncio.run(borrow_awaited()) if awaits else pool.get_connection()
    (span,) = exporter.get_finished_spans()
    assert span.attributes["db.response.status_code"] in ("1045", "1698")
    assert "no_such_user" not in span.to_json()


def test_the_servers_log_can_be_joined_with_the_trace(spans: Any, make_pool: MakePool) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider, comment=True)
    pool = make_pool(pre_create_num=1)
    with pool.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW FULL PROCESSLIST")
        (text,) = (row[7] for row in cursor.fetchall() if row[0] == connection.thread_id())
    (span,) = exporter.get_finished_spans()
    assert text.endswith(
        f"/*traceparent='00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}'*/"
    )
    resets = pool.stats().reset  # MySQL warns of the question above
    with pool.get_connection() as connection:
        connection.execute("SELECT 1")
    assert pool.stats().reset == resets, "a comment is no reason for a reset"


BLOB = bytes(range(256))


@pytest.mark.parametrize("comment", [False, True])
@pytest.mark.parametrize("query_text", ["none", "sanitized", "full"])
@pytest.mark.parametrize("awaits", [False, True])
def test_tracing_changes_no_byte_of_a_statement_and_its_text_can_be_exported(
    awaits: bool, query_text: Any, comment: bool, spans: Any, make_pool: MakePool
) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider, query_text=query_text, comment=comment)
    pool = make_pool(size=1, maxsize=1)
    raw = b"INSERT INTO kept VALUES (1, _binary'" + BLOB[128:] + b"')"
    many = "INSERT INTO kept VALUES (%s, %s)"

    def block() -> Any:
        with pool.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE kept (id INT, x BLOB)")
            cursor.execute(raw)
            cursor.executemany(many, [(2, BLOB), (3, BLOB)])
            connection.query(raw)
            cursor.execute(many, (4, BLOB))
            cursor.execute("SELECT x FROM kept ORDER BY id")
            return cursor.fetchall()

    async def awaited() -> Any:
        async with AsyncConnectionPool(pool=pool) as face, face.get_connection() as connection:
            cursor = connection.cursor()
            await cursor.execute("CREATE TEMPORARY TABLE kept (id INT, x BLOB)")
            await cursor.execute(raw)
            await cursor.executemany(many, [(2, BLOB), (3, BLOB)])
            await cursor.execute(raw)
            await cursor.execute(many, (4, BLOB))
            await cursor.execute("SELECT x FROM kept ORDER BY id")
            return await cursor.fetchall()

    rows = asyncio.run(awaited()) if awaits else block()
    assert [value for (value,) in rows] == [BLOB[128:], BLOB[128:], BLOB, BLOB, BLOB]
    for span in exporter.get_finished_spans():
        for value in span.attributes.values():
            str(value).encode()  # what OTLP does


@pytest.mark.parametrize(
    ("sql_mode", "arguments"),
    [
        ("", ("dir\\", "geheim FROM geheim")),
        ("NO_BACKSLASH_ESCAPES", ("dir\\", "geheim FROM geheim")),
        ("NO_BACKSLASH_ESCAPES", ("it's \\", 'geheim "geheim" \\')),
        ("ANSI_QUOTES", ("dir'", "geheim' FROM geheim")),
    ],
)
def test_no_value_is_recorded_whatever_the_sql_mode_and_the_error(
    sql_mode: str, arguments: tuple[str, str], spans: Any, make_pool: MakePool
) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    pool = make_pool(size=1, maxsize=1, pre_create_num=1)
    with pool.get_connection() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = %s", (sql_mode,))
        cursor.execute("CREATE TEMPORARY TABLE people (mail VARCHAR(30) UNIQUE)")
        cursor.execute("INSERT INTO people VALUES (%s)", ("geheim",))
        cursor.execute("SELECT %s, %s", arguments)
        assert cursor.fetchone() == arguments
        with pytest.raises(pymysql.err.IntegrityError, match="geheim"):
            cursor.execute("INSERT INTO people VALUES (%s)", ("geheim",))
        with pytest.raises(pymysql.err.ProgrammingError, match="geheim"):
            cursor.execute("SELECT FROM people WHERE mail = %s", ("geheim",))
    found = exporter.get_finished_spans()
    assert len(found) == 7
    assert "geheim" not in "".join(span.to_json() for span in found)


def test_a_long_statement_is_read_at_its_beginning_only_and_not_kept(spans: Any, make_pool: MakePool) -> None:
    exporter, provider = spans
    otel.instrument(tracer_provider=provider)
    pool = make_pool(size=1, maxsize=1, pre_create_num=1)
    with pool.get_connection() as connection:
        for number in range(3):
            text = f"SELECT {number} IN (" + "'geheim', " * 100_000 + "'geheim')"
            before = sys.getrefcount(text)
            connection.query(text)
            connection.query("DO 1")
            assert sys.getrefcount(text) == before
    found = [span for span in exporter.get_finished_spans() if span.name == "SELECT"]
    assert len(found) == 3
    for span in found:
        shown = span.attributes["db.query.text"]
        assert shown.startswith("SELECT ? IN (?, ?, ")
        assert shown.endswith(" ...")
        assert len(shown) < 4200


class Broken(SpanProcessor):
    def __init__(self, at: str) -> None:
        setattr(self, f"on_{at}", self._raise)

    def _raise(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("the tracer is broken")


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("awaits", [False, True])
def test_a_tracer_that_raises_fails_no_borrow_and_no_statement(
    awaits: bool, at: str, make_pool: MakePool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(Broken(at))
    monkeypatch.setattr(otel, "_told_at", -otel._PAUSE)
    pool = make_pool(size=1, maxsize=1)

    async def awaited() -> Any:
        async with AsyncConnectionPool(pool=pool) as face, face.get_connection() as connection:
            cursor = connection.cursor()
            await cursor.execute("SELECT 1")
            with pytest.raises(pymysql.err.ProgrammingError):
                await cursor.execute("SELECT 1 FROM no_such_table")
            return await cursor.execute("SELECT 1"), await cursor.fetchone()

    otel.instrument(tracer_provider=provider)
    try:
        if awaits:
            assert asyncio.run(awaited()) == (1, (1,))
        else:
            with pool.get_connection() as connection, connection.cursor() as cursor:
                with pytest.raises(pymysql.err.ProgrammingError):
                    cursor.execute("SELECT 1 FROM no_such_table")
                assert cursor.execute("SELECT 1") == 1
                assert cursor.fetchone() == (1,)
                connection.rollback()
    finally:
        otel.uninstrument()
    assert pool.stats().in_use == 0
    told = [record for record in caplog.records if getattr(record, "event", "") == "tracing failed"]
    assert len(told) == 1, "once a minute, not for each statement"
    assert told[0].exc_info
