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

def found_view(request):
    ask()
    raise Http404

async def awaited_view(request):
    await sync_to_async(ask)()
    raise Http404

async def remembered_view(request):
    name = f"lock of {id(request)}"
    await sync_to_async(ask)(f"SELECT GET_LOCK('{name}', 0)")
    await asyncio.sleep(0)
    mine = await sync_to_async(ask)(f"SELECT IS_USED_LOCK('{name}') = CONNECTION_ID()")
    return HttpResponse("1", status=200 if mine else 500)

async def iterated_view(request):
    def begin():
        cursor = connection.cursor()
        cursor.execute("SELECT 1 UNION SELECT 2")
        return cursor
    cursor = await sync_to_async(begin)()
    rows = [await sync_to_async(cursor.fetchone)() for _ in range(3)]
    await sync_to_async(cursor.close)()
    return HttpResponse("1", status=200 if rows == [(1,), (2,), None] else 500)

async def transaction_view(request):
    block = transaction.atomic()
    await sync_to_async(block.__enter__)()
    sessions = {await sync_to_async(ask)("SELECT CONNECTION_ID()") for _ in range(3)}
    await sync_to_async(block.__exit__)(None, None, None)
    return HttpResponse("1", status=200 if len(sessions) == 1 else 500)

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

def asking_middleware(get_response):
    def middleware(request):  # not asynchronous: it waits for an asynchronous view
        ask()
        return get_response(request)
    return middleware

names = ("sync async atomic streaming failing missing found awaited remembered iterated transaction executor late"
         " thread").split()
urlpatterns = [path(name, globals()[name + "_view"]) for name in names]

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
    for _ in range(1000):  # the client may have its answer before the thread that served it is at its end
        if not (out := connection_count()) or name == "thread":  # whose connections nothing returns
            break
        await asyncio.sleep(0.01)
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


def serve(run_site: RunSite, server: DevServer, names: list[str], middleware: tuple[str, ...] = (), **pool: Any) -> Any:
    """For each view: the statuses of 8 requests at once, what is out then, the statuses of 8 plain ones after them."""
    options = {"timeout": 20, **pool}
    code = SITE.replace("asyncio.run(rounds(%r))", f"{{name: asyncio.run(rounds(name)) for name in {names!r}}}")
    # With models, as every site: they load the backend before the first request.
    apps = ["django.contrib.contenttypes", "django.contrib.auth"]
    return run_site(code, {"default": database(server, options)}, INSTALLED_APPS=apps, MIDDLEWARE=middleware)


STATUS = {
    "sync": 200,
    "async": 200,
    "atomic": 200,
    "streaming": 200,
    "failing": 500,
    "missing": 404,
    "found": 404,
    "awaited": 404,
    "remembered": 200,
    "iterated": 200,
    "transaction": 200,
    "executor": 200,
    "late": 200,
}


@pytest.mark.parametrize("release", ["request", "transaction"])
def test_no_view_leaves_a_connection_out_and_2_are_enough(run_site: RunSite, server: DevServer, release: str) -> None:
    """Whatever a view does: error pages that query in threads of their own, executors that live on, late tasks."""
    expected = dict(STATUS)
    if release == "transaction":
        expected["remembered"] = 500  # that is what this release gives up
        expected["thread"] = 200
    told = serve(run_site, server, list(expected), max_size=2, release=release)
    assert told == {name: [[status], 0, [200]] for name, status in expected.items()}


def test_a_middleware_that_waits_for_a_view_with_a_connection_in_its_hand(run_site: RunSite, server: DevServer) -> None:
    """It gives it back early if told so. If not, an error page may wait for a second one in vain; nothing stays out."""
    own = ("site_code.asking_middleware",)
    early = serve(run_site, server, ["awaited", "executor"], own, max_size=2, release="transaction")
    assert early == {"awaited": [[404], 0, [200]], "executor": [[200], 0, [200]]}
    late = serve(run_site, server, ["awaited"], own, max_size=2, timeout=3)
    assert late["awaited"][1:] == [0, [200]]


def test_a_client_that_hangs_up_leaves_no_connection_out(run_site: RunSite, server: DevServer) -> None:
    code = SITE.replace("asyncio.run(rounds(%r))", "[asyncio.run(hang_up()), connection_count()]") + (
        "\nasync def hang_up():\n"
        "    await serve(['sync', 'async', 'streaming', 'atomic'] * 3, disconnect=True)\n"
        "    return sorted(set(await serve(['sync'] * 8)))\n"
    )
    assert run_site(code, {"default": database(server, {"max_size": 10, "timeout": 20})}) == [[200], 0]


def test_what_threads_that_ended_had_borrowed_is_there_again(run_site: RunSite, server: DevServer) -> None:
    """Plain threads that close nothing: with a pool of 3, 8 + 8 requests are answered."""
    first, _, second = serve(run_site, server, ["thread"], max_size=3)["thread"]
    assert (first, second) == ([200], [200])


def test_a_timeout_names_the_threads_that_hold_on(run_site: RunSite, server: DevServer) -> None:
    code = SITE.replace("report(asyncio.run(rounds(%r)))", "starve()") + (
        "\ndef starve():\n"
        "    barrier, over = threading.Barrier(3), threading.Event()\n"
        "    def hold():\n"
        "        ask(); barrier.wait(10); over.wait(10); connection.close()\n"
        "    holders = [threading.Thread(target=hold, name=f'holder {n}') for n in range(2)]\n"
        "    [holder.start() for holder in holders]\n"
        "    barrier.wait(10)\n"
        "    try:\n"
        "        ask()\n"
        "    except OperationalError as error:\n"
        "        report(str(error))\n"
        "    over.set()\n"
        "    [holder.join() for holder in holders]\n"
    )
    told = run_site(code, {"default": database(server, {"max_size": 2, "timeout": 2})})
    assert "2 in use" in told
    assert "holder 0" in told
    assert "holder 1" in told
    assert told.count("held for") == 2
