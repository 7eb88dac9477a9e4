"""500 mixed requests at once under real servers with a pool of 10: none is refused, and nothing stays out.

Sync and async views, streams, transactions, errors, error pages that query, work in executors, tasks that outlive
their request, clients that hang up. The servers are not among this project's requirements; without them these tests
are skipped.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool.devserver import DevServer
from tests.support import wait_until

from .conftest import ROOT, database

REQUESTS = 500
POOL = 10
EXPECTED = {
    "sync": 200,
    "async": 200,
    "stream": 200,
    "atomic": 200,
    "failing": 500,
    "awaited": 500,
    "missing": 404,
    "found": 404,
    "executor": 200,
}

SITE = """
import asyncio, os
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.http import (
    Http404, HttpResponse, HttpResponseNotFound, HttpResponseServerError, JsonResponse, StreamingHttpResponse)
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "storm_settings")

def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM information_schema.tables LIMIT 1")
        return str(cursor.fetchone()[0])

def sync_view(request):
    return HttpResponse(ask())

async def async_view(request):
    return HttpResponse(await sync_to_async(ask)())

async def later():
    for _ in range(3):
        yield await sync_to_async(ask)()

def stream_view(request):
    return StreamingHttpResponse(later() if hasattr(request, "scope") else (ask() for _ in range(3)))

@transaction.atomic
def atomic_view(request):
    return HttpResponse(ask())

def failing_view(request):
    ask()
    raise ValueError("as planned")

async def awaited_view(request):
    await sync_to_async(ask)()
    raise ValueError("as planned")

def missing_view(request):
    raise Http404

def found_view(request):
    ask()
    raise Http404

async def executor_view(request):
    await asyncio.to_thread(ask)
    return HttpResponse(await sync_to_async(ask, thread_sensitive=False)())

tasks = set()

async def late_view(request):
    async def later():
        await asyncio.sleep(0.01)
        await sync_to_async(ask)()
    task = asyncio.create_task(later())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return HttpResponse("1")

def status_view(request):
    from pymysqlpool_django import pools
    from pymysqlpool_django.views import as_dict
    return JsonResponse({"pools": [as_dict(one) for one in pools.stats().get("default", [])]})

def page_with_user(request, exception=None):
    return HttpResponseNotFound(ask())

def broken_page(request):
    return HttpResponseServerError(ask())

handler404, handler500 = page_with_user, broken_page
urlpatterns = [path(name, globals()[name + "_view"])
               for name in "sync async stream atomic failing awaited missing found executor late status".split()]
if os.environ.get("STORM") == "asgi":
    application = get_asgi_application()
elif os.environ.get("STORM"):
    application = get_wsgi_application()
"""

SERVERS = {
    "uvicorn": ("asgi", ["uvicorn", "storm_site:application", "--log-level", "critical", "--port"]),
    "gunicorn": (
        "wsgi",
        [
            "gunicorn",
            "storm_site:application",
            "--worker-class",
            "gthread",
            "--threads",
            "40",
            "--log-level",
            "critical",
            "--bind",
        ],
    ),
}


@contextmanager
def serving(kind: str, folder: Path, databases: dict[str, Any]) -> Iterator[int]:
    (folder / "storm_site.py").write_text(SITE)
    (folder / "storm_settings.py").write_text(
        "SECRET_KEY = 'x'\nUSE_TZ = True\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'storm_site'\n"
        f"DATABASES = {databases!r}\nLOGGING_CONFIG = None\n"
    )
    interface, command = SERVERS[kind]
    port = free_port()
    where = f"127.0.0.1:{port}" if kind == "gunicorn" else str(port)
    environment = {**os.environ, "STORM": interface, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    process = subprocess.Popen(
        [sys.executable, "-m", *command, where], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: process.poll() is not None or answers(port), "the server answers", 30)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """One below those that outgoing connections get, at random: other tests look for one at the same time."""
    for port in random.sample(range(15000, 32000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def request(port: int, name: str, hang_up: bool = False) -> tuple[int, bytes]:
    """One request on a connection of its own; with `hang_up` the client leaves before the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        if hang_up:
            return 0, b""
        answer = await reader.read()
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


async def storm(port: int, kinds: list[str]) -> Counter[tuple[str, int]]:
    names = [kinds[number % len(kinds)] for number in range(REQUESTS)]
    answers = await asyncio.gather(
        *(request(port, name, hang_up=number % 10 == 9) for number, name in enumerate(names))
    )
    return Counter((name, status) for name, (status, _) in zip(names, answers, strict=True) if status)


def status(port: int) -> dict[str, Any]:
    _, body = asyncio.run(request(port, "status"))
    (numbers,) = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["pools"]
    return dict(numbers)


def check(port: int, expected: dict[str, int]) -> dict[str, Any]:
    """The storm, and what the pool says after it."""
    answered = asyncio.run(storm(port, list(expected)))
    assert not [(name, code) for name, code in answered if code != expected[name]], answered
    wait_until(lambda: status(port)["in_use"] == 0, "nothing is in use any more", 20)
    numbers = status(port)
    assert numbers["timeouts"] == 0
    assert numbers["leaked"] == 0
    return numbers


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("release", ["request", "transaction"])
def test_500_requests_at_once_on_10_connections(server: DevServer, tmp_path: Path, kind: str, release: str) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    # Under WSGI a view's tasks end with it: there is no loop that goes on.
    expected = EXPECTED | ({"late": 200} if kind == "uvicorn" else {})
    options = {"max_size": POOL, "timeout": 30, "release": release}
    with serving(kind, tmp_path, {"default": database(server, options)}) as port:
        numbers = check(port, expected)
    assert numbers["created"] <= POOL + sum(numbers["discarded"].values())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", SERVERS)
def test_500_error_pages_that_query_get_along_with_2_connections(server: DevServer, tmp_path: Path, kind: str) -> None:
    """Before Django 6.2 an error page under ASGI is rendered in another thread than its request."""
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    errors = {name: status for name, status in EXPECTED.items() if status >= 400}
    with serving(kind, tmp_path, {"default": database(server, {"max_size": 2, "timeout": 30})}) as port:
        check(port, errors)
