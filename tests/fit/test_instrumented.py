"""Each instrumentation that people run sees the pool's statements as it sees those of `pymysql.connect`.

The real packages, each in a process of its own, since they change PyMySQL for good. Each program runs one statement on
a plain connection and one on a pooled one, and prints what the package recorded of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

BODY = """
import json, os, sys
import pymysql
from pymysqlpool import ConnectionPool

where = json.loads(sys.argv[1])

def work(connection):
    cursor = connection.cursor()  # Elastic's agent does not see what a with-block of a cursor executes
    assert isinstance(connection, pymysql.connections.Connection)
    assert isinstance(cursor, pymysql.cursors.Cursor)
    cursor.execute("SELECT 1 + 1")
    assert cursor.fetchone() == (2,)
    cursor.executemany("DO %s", [(1,), (2,)])
    cursor.close()

def plain():
    connection = pymysql.connect(**where)
    work(connection)
    connection.close()

pool = ConnectionPool(size=1, maxsize=1, **where)

def pooled():
    with pool.get_connection() as connection:
        work(connection)
"""

OPENTELEMETRY = f"""
from opentelemetry import trace
from opentelemetry.instrumentation.pymysql import PyMySQLInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
PyMySQLInstrumentor().instrument()
{BODY}
def seen(work):
    spans.clear()
    work()
    return [
        (span.name, span.attributes["db.statement"], span.attributes.get("net.peer.name"), span.attributes["db.name"])
        for span in spans.get_finished_spans()
    ]

print(json.dumps([seen(plain), seen(pooled), seen(pooled)]))
PyMySQLInstrumentor().uninstrument()
assert seen(pooled) == []
"""

ELASTIC = f"""
import elasticapm
from elasticapm.conf.constants import SPAN

client = elasticapm.Client(
    service_name="x", disable_send=True, cloud_provider="none", central_config=False, span_compression_enabled=False
)
elasticapm.instrument()
{BODY}
recorded = []
client.tracer.queue_func = lambda kind, data, **options: recorded.append(data) if kind == SPAN else None

def seen(work):
    del recorded[:]
    client.begin_transaction("request")
    work()
    client.end_transaction("t", "ok")
    statements = [s for s in recorded if s["type"].startswith("db") and "statement" in s["context"].get("db", {{}})]
    return [(s["name"], s["context"]["db"]["statement"]) for s in statements]

print(json.dumps([seen(plain), seen(pooled), seen(pooled)]))
sys.stdout.flush()
os._exit(0)
"""

NEW_RELIC = f"""
import newrelic.agent
from newrelic.hooks.database_pymysql import instrument_pymysql
import pymysql

instrument_pymysql(pymysql)
{BODY}
from newrelic.api import database_trace

recorded = []
usual = database_trace.DatabaseTrace.__init__

def note(self, sql, *args, **kwargs):
    recorded.append(sql)
    usual(self, sql, *args, **kwargs)

database_trace.DatabaseTrace.__init__ = note

def seen(work):
    del recorded[:]
    work()
    return [sql for sql in recorded if isinstance(sql, str)]

print(json.dumps([seen(plain), seen(pooled), seen(pooled)]))
sys.stdout.flush()
os._exit(0)
"""

DATADOG = f"""
import ddtrace
from ddtrace import patch
from ddtrace.trace import tracer

patch(pymysql=True)
{BODY}
recorded = []

from ddtrace.trace import TraceFilter

class Keep(TraceFilter):
    def process_trace(self, trace):
        recorded.extend(trace)
        return None

tracer.configure(trace_processors=[Keep()])

def seen(work):
    del recorded[:]
    work()
    tracer.flush()
    return [(span.name, span.resource) for span in recorded if span.resource != "pymysql.connection.connect"]

print(json.dumps([seen(plain), seen(pooled), seen(pooled)]))
sys.stdout.flush()
os._exit(0)
"""

PROGRAMS = {
    "opentelemetry.instrumentation.pymysql": OPENTELEMETRY,
    "elasticapm": ELASTIC,
    "newrelic": NEW_RELIC,
    "ddtrace": DATADOG,
}


@pytest.mark.parametrize("package", PROGRAMS)
def test_an_instrumentation_records_of_a_pooled_statement_what_it_records_of_a_plain_one(
    package: str, connect_args: dict[str, Any]
) -> None:
    program = PROGRAMS[package]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, json.dumps(connect_args)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain, first, second = json.loads(done.stdout.splitlines()[-1])
    assert plain, "the package recorded nothing of a plain connection"
    assert first == second == plain
