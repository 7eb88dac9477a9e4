"""503 with Retry-After where no database could be had, and only there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path

from tests.support import run_threads

from .conftest import Connect
from .test_identity import ask

MIDDLEWARE = "pymysqlpool_django.middleware.UnavailableMiddleware"
HERE = __name__
_alias = ""


def view(request: HttpRequest) -> HttpResponse:
    """One query, on whatever database the test is about."""
    return HttpResponse(ask(connections[_alias], request.GET.get("sql", "SELECT 1")))


async def async_view(request: HttpRequest) -> HttpResponse:
    from asgiref.sync import sync_to_async

    return await sync_to_async(view)(request)


def raising(request: HttpRequest) -> HttpResponse:
    number, _, text = request.GET["error"].partition(" ")
    raise pymysql.err.OperationalError(int(number), text)


def own_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page of the site's own", status=503)


class Inner:
    """A middleware that asks the database before the view, as that of sessions does."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "inner" in request.GET:
            view(request)
        response: HttpResponse = self.get_response(request)
        return response


class HasAPage(Inner):
    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return own_page(request) if "page" in request.GET else None


urlpatterns = [path("", view), path("async/", async_view), path("raising/", raising)]
ON = override_settings(
    ROOT_URLCONF=HERE, MIDDLEWARE=[MIDDLEWARE, f"{HERE}.Inner", f"{HERE}.HasAPage"], ALLOWED_HOSTS=["*"]
)


@pytest.fixture(autouse=True)
def site(alias: str) -> Iterator[None]:
    global _alias
    _alias = alias
    with ON:
        yield
    connections.settings.pop(alias, None)
    if hasattr(connections._connections, alias):
        del connections[alias]


@pytest.fixture
def exhausted(connect: Connect, alias: str) -> Iterator[Any]:
    """The only connection of the pool is lent."""
    holder = connect({"max_size": 1, "timeout": 0.1})
    holder.ensure_connection()
    connections.settings[alias] = holder.settings_dict
    yield holder
    holder.close()


def get(url: str) -> HttpResponse:
    """Through all of Django, as a server would."""
    request = RequestFactory().get(url)
    handler = WSGIHandler()
    return handler.get_response(request)  # type: ignore[return-value]


@pytest.mark.parametrize("url", ["/", "/?inner=1"], ids=["in the view", "in a middleware"])
def test_an_exhausted_pool_is_503(exhausted: Any, url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pymysqlpool"):
        refused = get(url)
    assert refused.status_code == 503
    assert int(refused["Retry-After"]) >= 1
    assert "was answered 503" in caplog.text
    exhausted.close()
    assert get(url).status_code == 200


def test_a_site_that_has_a_page_of_its_own_keeps_it(exhausted: Any) -> None:
    answer = get("/?page=1")
    assert (answer.status_code, answer.content) == (503, b"a page of the site's own")
    assert "Retry-After" not in answer


def test_the_page_is_the_sites_template_where_there_is_one(exhausted: Any, tmp_path: Path) -> None:
    (tmp_path / "503.html").write_text("<h1>Tea break</h1>")
    templates = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [str(tmp_path)]}]
    with override_settings(TEMPLATES=templates):
        assert b"Tea break" in get("/").content


def test_a_server_out_of_reach_is_503(connect: Connect, alias: str) -> None:
    connections.settings[alias] = connect({"timeout": 0.1}, PORT=1).settings_dict
    assert get("/").status_code == 503


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("2013 Lost connection to MySQL server during query", 503),
        ("1290 The MariaDB server is running with the --read-only option", 503),
        ("1047 WSREP has not yet prepared node for application use", 503),
        ("1792 Cannot execute statement in a READ ONLY transaction", 503),
        ("1153 Got a packet bigger than 'max_allowed_packet' bytes", 500),
        ("1045 Access denied", 500),
        ("1054 Unknown column", 500),
    ],
)
def test_what_passes_is_503_and_what_would_fail_again_is_500(error: str, status: int) -> None:
    assert get(f"/raising/?error={error}").status_code == status


def test_a_lost_connection_is_503(connect: Connect, alias: str) -> None:
    connections.settings[alias] = connect().settings_dict
    assert get("/?sql=SELECT 1").status_code == 200
    assert get("/?sql=KILL CONNECTION_ID()").status_code in (500, 503)
    assert get("/?sql=SELECT nothing_like_it").status_code == 500


@pytest.mark.parametrize("url", ["/", "/async/", "/?inner=1"])
def test_asynchronous_sites_have_it_too(exhausted: Any, url: str) -> None:
    sent: list[Any] = []

    async def talk() -> None:
        path, _, query = url.partition("?")
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": []}
        gone = asyncio.Event()

        async def receive() -> Any:
            if sent or gone.is_set():
                await asyncio.sleep(3600)
            gone.set()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await ASGIHandler()(scope, receive, send)

    asyncio.run(talk())
    assert sent[0]["status"] == 503
    assert b"retry-after" in {name.lower() for name, _ in sent[0]["headers"]}


def test_many_requests_on_few_connections_are_served_or_refused_and_nothing_stays_out(
    connect: Connect, alias: str
) -> None:
    first = connect({"max_size": 2, "timeout": 0.2})
    connections.settings[alias] = first.settings_dict

    def visit(index: int) -> int:
        try:
            return get(f"/?sql=SELECT SLEEP(0.15)&n={index}").status_code
        finally:
            connections[alias].close()

    answers = run_threads(12, visit)
    assert set(answers) == {200, 503}
    assert first.pool.stats().in_use == 0
