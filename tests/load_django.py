"""The pages that tests.load asks for, as a Django site: `wsgi` and `asgi`, and `runserver` starts it by itself.

Environment: BOARD, the connection's arguments as JSON, with those of the pool as "pool".
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator
from typing import Any

from django.conf import settings

_board: dict[str, Any] = json.loads(os.environ["BOARD"])
settings.configure(
    ROOT_URLCONF=__name__,
    WSGI_APPLICATION=f"{__name__}.wsgi",
    SECRET_KEY="only for a test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["pymysqlpool_django.middleware.UnavailableMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "pymysqlpool_django",
            "HOST": _board["host"],
            "PORT": _board["port"],
            "USER": _board["user"],
            "PASSWORD": _board["password"],
            "NAME": _board["database"],
            "OPTIONS": {"pool": _board["pool"], "ssl_disabled": True},
        }
    },
)

import django  # noqa: E402

django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.handlers.asgi import ASGIRequest  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse  # noqa: E402
from django.http import StreamingHttpResponse as Stream  # noqa: E402
from django.urls import path  # noqa: E402

from pymysqlpool_django.pools import stats  # noqa: E402


def rows(sql: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def board(request: HttpRequest) -> HttpResponse:
    page = int(request.GET.get("page", 1))
    found = rows("SELECT title FROM notice ORDER BY id DESC LIMIT 20 OFFSET %s", (page - 1) * 20)
    return HttpResponse("".join(f'<li class="card">{html.escape(title)}' for (title,) in found))


def notice(request: HttpRequest, number: int) -> HttpResponse:
    found = rows("SELECT title FROM notice WHERE id = %s", number)
    if not found:
        return HttpResponse("Blown away", status=404)
    return HttpResponse(html.escape(found[0][0], quote=False))


def echo(request: HttpRequest, token: str) -> HttpResponse:
    asked = "SELECT @left, DATABASE(), @@autocommit, @@sql_mode = @@global.sql_mode, %s"
    ((left, database, autocommit, as_new, answer),) = rows(asked, token)
    clean = left is None and database == "board" and bool(autocommit) and bool(as_new)
    return JsonResponse({"clean": clean, "answer": answer})


def people(request: HttpRequest) -> HttpResponse:
    name = request.POST["name"]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO person (name) VALUES (%s)", (name,))
    except IntegrityError:
        return HttpResponse(f"{name} is called {name} already", status=409)
    return HttpResponseRedirect("/people")


def reply(request: HttpRequest, number: int) -> HttpResponse:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO person (name) VALUES (%s) ON DUPLICATE KEY UPDATE id = LAST_INSERT_ID(id)",
            (request.POST["name"],),
        )
        cursor.execute(
            "INSERT INTO reply (notice_id, person_id, body) VALUES (%s, %s, %s)",
            (number, cursor.lastrowid, request.POST["body"]),
        )
    return HttpResponseRedirect("/")


def disorder(request: HttpRequest, token: str) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SET @left = %s, SESSION sql_mode = '', autocommit = 1", (token,))
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO person (name) VALUES (%s)", (f"never {token}",))
        cursor.execute("USE mysql")
    raise LookupError("as the load wants it")


def broken(request: HttpRequest, token: str) -> Stream:
    cursor = connection.cursor()
    cursor.execute("SELECT %s, id FROM notice", (token,))  # before the head, so that a killed session is answered 503

    def lines() -> Iterator[str]:
        with cursor:
            yield f"{cursor.fetchone()[0]}\n"
            raise LookupError("as the load wants it")

    return Stream(lines(), content_type="text/plain")


def export(request: HttpRequest) -> HttpResponse | Stream:
    connection.ensure_connection()  # a refusal is an answer of its own, before the head

    def lines() -> Iterator[str]:
        yield "id\n"
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM notice ORDER BY id")
            while batch := cursor.fetchmany(100):
                yield "".join(f"{number}\n" for (number,) in batch)

    if isinstance(
        request, ASGIRequest
    ):  # Django reads a list of a generator there, after the head; daphne hides a break
        return HttpResponse("".join(lines()), content_type="text/csv")
    return Stream(lines(), content_type="text/csv")


def report(request: HttpRequest) -> HttpResponse:
    counted = rows("SELECT topic_id, COUNT(*) FROM notice GROUP BY topic_id")
    rows("SELECT SLEEP(%s)", min(5.0, float(request.GET["hold"])))
    return JsonResponse({"report": [{"notices": number} for _, number in counted]})


def numbers(request: HttpRequest) -> HttpResponse:
    names = ("in_use", "waiting", "leaked", "closing", "total", "idle", "borrowed", "created", "timeouts", "wait_time")
    several = stats().get("default", [])
    found: dict[str, Any] = {name: sum(getattr(one, name) for one in several) for name in names}
    return JsonResponse(found | {"discarded": [dict(one.discarded) for one in several]})


urlpatterns = [
    path("", board),
    path("notice/<int:number>", notice),
    path("notice/<int:number>/reply", reply),
    path("people", people),
    path("echo/<token>", echo),
    path("disorder/<token>", disorder),
    path("broken/<token>", broken),
    path("export.csv", export),
    path("report", report),
    path("numbers", numbers),
]
wsgi, asgi = get_wsgi_application(), get_asgi_application()
