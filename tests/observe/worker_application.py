"""What test_workers runs under gunicorn and uvicorn: one application, in the framework that FRAMEWORK names.

    /one/N    one statement, SELECT N; answers "PID N"
    /metrics  the pools' metrics, of all workers
    /numbers  answers at once

Every request is a span, as an instrumentation of the framework would make it. Each worker appends its finished spans to
a file of its own in the folder SPANS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from pymysqlpool import otel


class FileExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(
            json.dumps(
                {
                    "name": span.name,
                    "id": span.context.span_id,
                    "trace": span.context.trace_id,
                    "parent": span.parent.span_id if span.parent else None,
                    "text": (span.attributes or {}).get("db.query.text"),
                }
            )
            + "\n"
            for span in spans
            if span.context
        )
        handle = os.open(Path(os.environ["SPANS"], f"{os.getpid()}"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, lines.encode())
        finally:
            os.close(handle)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
tracer = provider.get_tracer("worker")
otel.instrument(tracer_provider=provider, query_text="full")
arguments: dict[str, Any] = json.loads(os.environ["CONNECT_ARGS"])


def traced_wsgi(application: Any) -> Any:
    def traced(environ: dict[str, Any], start_response: Any) -> Any:
        with tracer.start_as_current_span(environ["PATH_INFO"], kind=trace.SpanKind.SERVER):
            return application(environ, start_response)

    return traced


def traced_asgi(application: Any) -> Any:
    async def traced(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        with tracer.start_as_current_span(scope["path"], kind=trace.SpanKind.SERVER):
            await application(scope, receive, send)

    return traced


def flask() -> Any:
    from flask import Flask

    from pymysqlpool_flask import PyMySQLPool, g
    from pymysqlpool_flask.observe import blueprint

    app = Flask(__name__)
    app.config["PYMYSQLPOOL"] = {**arguments, "name": "shop"}
    PyMySQLPool(app)
    app.register_blueprint(blueprint(metrics=True), url_prefix="/pools")
    app.add_url_rule("/numbers", view_func=dict, endpoint="numbers")

    @app.get("/one/<int:number>")
    def one(number: int) -> str:
        with g.db.cursor() as cursor:
            cursor.execute("SELECT %s", (number,))
            return f"{os.getpid()} {cursor.fetchone()[0]}"

    return traced_wsgi(app)


def _django() -> Any:
    from django.conf import settings

    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY="only for a test",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.admin"],
        DATABASES={
            "default": {
                "ENGINE": "pymysqlpool_django",
                "HOST": arguments["host"],
                "PORT": arguments["port"],
                "USER": arguments["user"],
                "PASSWORD": arguments["password"],
                "NAME": arguments["database"],
                "OPTIONS": {"pool": {"max_size": 4}},
            }
        },
    )
    import django

    django.setup()
    from django.db import connection
    from django.http import HttpRequest, HttpResponse, JsonResponse
    from django.urls import path

    from pymysqlpool_django import views

    def one(request: HttpRequest, number: int) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s", (number,))
            return HttpResponse(f"{os.getpid()} {cursor.fetchone()[0]}")

    globals()["urlpatterns"] = [
        path("one/<int:number>", one),
        path("pools/metrics", views.metrics),
        path("numbers", lambda request: JsonResponse({})),
    ]


def django() -> Any:
    _django()
    from django.core.wsgi import get_wsgi_application

    return traced_wsgi(get_wsgi_application())


def django_asgi() -> Any:
    _django()
    from django.core.asgi import get_asgi_application

    return traced_asgi(get_asgi_application())


def fastapi() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    from pymysqlpool import prometheus
    from pymysqlpool.aio import AsyncConnectionPool
    from pymysqlpool.asgi import PoolMiddleware, current_async_connection
    from pymysqlpool.request_scope import current_connection

    app = FastAPI()

    @app.get("/numbers")
    async def numbers() -> dict[str, int]:
        return {}

    @app.get("/one/{number}", response_class=PlainTextResponse)
    async def one(number: int) -> str:
        cursor = (await current_async_connection()).cursor()
        await cursor.execute("SELECT %s", (number,))
        return f"{os.getpid()} {(await cursor.fetchone())[0]}"

    @app.get("/sync/{number}", response_class=PlainTextResponse)
    def sync(number: int) -> str:
        with current_connection().cursor() as cursor:
            cursor.execute("SELECT %s", (number,))
            return f"{os.getpid()} {cursor.fetchone()[0]}"

    app.mount("/pools", prometheus.asgi_app())
    app.add_middleware(PoolMiddleware, pool=AsyncConnectionPool(**arguments, name="shop"), owns_pool=True)
    return traced_asgi(app)


app = {"flask": flask, "django": django, "django_asgi": django_asgi, "fastapi": fastapi}[os.environ["FRAMEWORK"]]()
