"""Where pooled connections get lost under ASGI and in threads, and that they come back (research: django.md, 1g)."""

from __future__ import annotations

from typing import Any

import pytest

from pymysqlpool.devserver import DevServer

from .conftest import RunSite, database

SITE = '''
import asyncio, threading
from asgiref.sync import sync_to_async
from django.db import connection, transaction, OperationalError
from django.http import Http404, HttpResponse, HttpResponseNotFound, StreamingHttpResponse
from django.urls import path

def ask(question="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0]

def sync_view(request):
    return HttpResponse(str(ask()))

async def async_view(request):
    return HttpResponse(str(await sync_to_async(ask)()))

def atomic_view(request):
    with transaction.atomic():
        return HttpResponse(str(ask()))

async def streaming_view(request):
    async def rows():
        for _ in range(3):
            yield str(await sync_to_async(ask)())
    return StreamingHttpResponse(rows())

def failing_view(request):
    ask()
    raise ValueError("as planned")

def missing_view(request):
    raise Http404

async def executor_view(request):
    await sync_to_async(ask, thread_sensitive=False)()
    await asyncio.to_thread(ask)
    return HttpResponse("1")

tasks = set()  # as asyncio's documentation wants it: a finished task is let go

async def late_view(request):
    async def later():
        await response_sent.wait()
        await sync_to_async(ask)()
    task = asyncio.create_task(later())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return HttpResponse("1")

def thread_view(request):
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return HttpResponse("1")

def page_with_user(request, exception=None):
    ask()
    return HttpResponseNotFound("no such page")

handler404 = page_with_user
urlpatterns = [path(name, globals()[name + "_view"]) for name in
               "sync async atomic streaming failing missing executor late thread".split()]

async def request(handler, name, disconnect=False):
    """One request; returns the status."""
    inbox = asyncio.Queue()
    await inbox.put({"type": "http.request", "body": b"", "more_body": False})
    status = []
    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])
        if disconnect:
            await inbox.put({"type": "http.disconnect"})
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/" + name,
             "raw_path": b"", "query_string": b"", "headers": [(b"host", b"localhost")], "root_path": "",
             "server": ("localhost", 80), "scheme": "http"}
    await asyncio.wait_for(handler(scope, inbox.get, send), 40)
    return status[0]

async def serve(names, disconnect=False):
    global response_sent
    from django.core.asgi import get_asgi_application
    handler = get_asgi_application()
    response_sent = asyncio.Event()
    answers = await asyncio.gather(*(request(handler, name, disconnect) for name in names))
    response_sent.set()
    while tasks:
        await asyncio.wait(set(tasks), return_when=asyncio.FIRST_COMPLETED)
    return answers

async def rounds(name, number=8):
    """A number of requests at once, and how many connections are out; then as many plain requests again."""
    first = await serve([name] * number)
    out = connection_count()
    second = await serve(["sync"] * number)
    return [sorted(set(first)), out, sorted(set(second))]

def connection_count():
    from pymysqlpool_django import pools
    return sum(one.in_use for several in pools.stats().values() for one in several)

def main():
    import logging
    logging.disable(logging.CRITICAL)
    report(asyncio.run(rounds(%r)))
'''


def serve(run_site: RunSite, server: DevServer, name: str, **pool: Any) -> Any:
    options = {"max_size": 10, "timeout": 20, **pool}
    return run_site(SITE.replace("%r", repr(name)), {"default": database(server, options)})


@pytest.mark.parametrize(
    ("name", "status"), [("sync", 200), ("async", 200), ("atomic", 200), ("streaming", 200), ("failing", 500)]
)
def test_a_view_leaves_no_connection_out(run_site: RunSite, server: DevServer, name: str, status: int) -> None:
    assert serve(run_site, server, name) == [[status], 0, [200]]


def test_a_client_that_hangs_up_leaves_no_connection_out(run_site: RunSite, server: DevServer) -> None:
    code = SITE.replace("asyncio.run(rounds(%r))", "[asyncio.run(hang_up()), connection_count()]") + (
        "\nasync def hang_up():\n"
        "    await serve(['sync', 'async', 'streaming', 'atomic'] * 3, disconnect=True)\n"
        "    return sorted(set(await serve(['sync'] * 8)))\n"
    )
    assert run_site(code, {"default": database(server, {"max_size": 10, "timeout": 20})}) == [[200], 0]


@pytest.mark.parametrize("name", ["late", "thread"])
def test_what_threads_that_ended_had_borrowed_is_there_again(run_site: RunSite, server: DevServer, name: str) -> None:
    """Tasks that outlive their request, and plain threads: with a pool of 3, 8 + 8 requests are answered."""
    first, _, second = serve(run_site, server, name, max_size=3)
    assert (first, second) == ([200], [200])


@pytest.mark.parametrize(("name", "status"), [("missing", 404), ("executor", 200), ("late", 200), ("thread", 200)])
def test_released_early_nothing_is_out_wherever_it_ran(
    run_site: RunSite, server: DevServer, name: str, status: int
) -> None:
    """Error pages, executors that live on, late tasks, plain threads, with a pool of 2."""
    assert serve(run_site, server, name, max_size=2, release="transaction") == [[status], 0, [200]]


def test_a_timeout_names_the_threads_that_hold_on(run_site: RunSite, server: DevServer) -> None:
    """Without it, the threads of an executor keep what an error page borrowed, and the message says who."""
    code = SITE.replace("report(asyncio.run(rounds(%r)))", "asyncio.run(starve())") + (
        "\nasync def starve():\n"
        "    def hold(barrier):\n"
        "        ask(); barrier.wait(10)\n"
        "    barrier = threading.Barrier(2)\n"
        "    holders = [sync_to_async(hold, thread_sensitive=False)(barrier) for _ in range(2)]\n"
        "    await asyncio.gather(*holders)\n"
        "    try:\n"
        "        await sync_to_async(ask)()\n"
        "    except OperationalError as error:\n"
        "        report(str(error))\n"
    )
    told = run_site(code, {"default": database(server, {"max_size": 2, "timeout": 0.2})})
    assert "2 in use" in told
    assert told.count("held for") == 2
