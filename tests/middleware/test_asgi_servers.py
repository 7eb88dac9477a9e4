"""Real servers: clients that hang up, crowds of sync endpoints, shutdown (behaviours 20, 30, 32, 38, 42).

Every test runs on every server, where it is installed; Starlette, FastAPI and Quart are the frameworks.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.support import run_threads, wait_until

from .conftest import ROOT, Web

SERVERS = {
    "uvicorn": ["uvicorn", "--factory", "--fd", "{fd}", "--timeout-graceful-shutdown", "1"],
    "hypercorn": ["hypercorn", "--bind", "fd://{fd}", "--graceful-timeout", "1"],
    "gunicorn": [
        *("gunicorn", "--worker-class", "asgi", "--bind", "fd://{fd}"),
        *("--asgi-disconnect-grace-period", "0", "--graceful-timeout", "1"),
    ],
    "uvicorn_worker": [
        *("gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker", "--bind", "fd://{fd}"),
        *("--graceful-timeout", "1"),
    ],
    "hypercorn on trio": ["hypercorn", "--worker-class", "trio", "--bind", "fd://{fd}", "--graceful-timeout", "1"],
}
ON_ASYNCIO = [name for name in SERVERS if "trio" not in name]
# Each server with one framework and each framework with one server; the other pairs with --all.
PAIRS = [
    pytest.param(
        server, framework, marks=[pytest.mark.slow] if server != "uvicorn" and framework != "starlette" else []
    )
    for server in ON_ASYNCIO
    for framework in ("starlette", "quart")
]


@contextmanager
def serving(server: str, framework: str, environment: dict[str, str]) -> Iterator[tuple[Web, subprocess.Popen[bytes]]]:
    """Run an application of `asgi_application` under `server` until the block ends."""
    for needed in (*server.split(" on "), framework):
        pytest.importorskip(needed)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in range(15500, 16000):
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            break
        listener.listen(256)
        application = f"tests.middleware.asgi_application:{framework}{'' if server == 'uvicorn' else '()'}"
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=listener.fileno()) for word in SERVERS[server]), application],
            cwd=ROOT,
            env={**os.environ, **environment},
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        web = Web(listener.getsockname()[1])
        try:
            wait_until(lambda: process.poll() is not None or _answers(web), f"{server} answers", timeout=30)
            assert process.poll() is None, f"{server} ended by itself"
            yield web, process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(web: Web) -> bool:
    try:
        return web.ask("GET", "/numbers")[0] == 200
    except OSError:
        return False


def numbers(web: Web) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(web.ask("GET", "/numbers")[1])
    return found


def hang_up(web: Web, path: str, lent: int) -> None:
    """Ask, wait until the request has its connection, and be gone at once, without closing in order. On a busy machine
    an answer may be complete before the connection was seen: then ask again. A stream has no end."""
    is_gone = False
    while not is_gone:
        with web.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            what = "the request has a connection"
            wait_until(lambda: has_answer(client) or numbers(web)["in_use"] >= lent, what)
            is_gone = path == "/stream" or not has_answer(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def has_answer(client: socket.socket) -> bool:
    return bool(select.select([client], [], [], 0)[0])


def environment(connect_args: dict[str, Any]) -> dict[str, str]:
    return {
        "DB_PORT": str(connect_args["port"]),
        "DB_NAME": connect_args["database"],
        "DB_PASSWORD": connect_args.get("password", ""),
        "DB_POOL": "3",
        "DB_TIMEOUT": "20",
    }


@pytest.mark.parametrize(("web_server", "framework"), PAIRS)
def test_clients_that_hang_up_cost_no_other_an_answer(
    web_server: str, framework: str, connect_args: dict[str, Any]
) -> None:
    with serving(web_server, framework, environment(connect_args)) as (web, _):
        paths = ["/slow", "/slow_in_a_thread"] + ["/stream"] * (framework == "starlette")
        wrong: list[object] = []

        def ask(first: int) -> None:
            for number in range(first, first + 20):
                answer = web.ask("GET", f"/one/{number}")
                if answer != (200, str(number)):
                    wrong.append(answer)

        for path in paths:
            hang_up(web, path, 1)
            crowd = [threading.Thread(target=ask, args=(first,)) for first in (100, 200, 300)]
            for thread in crowd:
                thread.start()
            for thread in crowd:
                thread.join(30)
        now = wait_until(lambda: (now := numbers(web))["in_use"] == 0 and now, "all connections are home", timeout=15)
        assert (now["waiting"], now["leaked"], wrong) == (0, 0, [])
        assert now["total"] <= now["maxsize"]


@pytest.mark.parametrize("web_server", ON_ASYNCIO)
def test_a_server_that_ends_closes_its_connections_politely(
    web_server: str, connect_args: dict[str, Any], admin: Any
) -> None:
    """42: Aborted_clients does not change."""

    def status(name: str) -> int:
        with admin.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
            return int(cursor.fetchone()[1])

    wait_until(lambda: status("Threads_connected") == 1, "only we are connected", timeout=20)
    aborted = status("Aborted_clients")
    with serving(web_server, "starlette", environment(connect_args)) as (web, process):
        assert web.ask("GET", "/one/5") == (200, "5")
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        wait_until(lambda: status("Threads_connected") == 1, "its connections are gone")
        assert status("Aborted_clients") == aborted


@pytest.mark.parametrize("web_server", ON_ASYNCIO)
def test_a_statement_under_way_does_not_keep_a_server_from_ending(
    web_server: str, connect_args: dict[str, Any]
) -> None:
    """42: the servers cancel what is left after their graceful second."""
    with (
        serving(web_server, "starlette", environment(connect_args)) as (web, process),
        web.connect() as client,
    ):
        client.sendall(b"GET /weather?seconds=50&patience=50 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: numbers(web)["in_use"] == 1, "the statement runs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) is not None


@pytest.mark.parametrize(
    ("web_server", "threads"),
    [
        pytest.param(server, threads, marks=[pytest.mark.slow] if server != "uvicorn" and threads == 40 else [])
        for server in ON_ASYNCIO
        for threads in (4, 40)
    ],
)
def test_sixty_sync_requests_on_a_pool_of_two_get_sixty_good_answers(
    web_server: str, threads: int, connect_args: dict[str, Any]
) -> None:
    """32: however they borrow. A request that has a connection always finds a thread, though all may wait for one."""
    pooled = {**environment(connect_args), "DB_POOL": "2", "WORKER_THREADS": str(threads)}
    with serving(web_server, "fastapi", pooled) as (web, _):
        for path in ("lazily", "handed", "usual"):

            def ask(number: int, path: str = path) -> tuple[int, str]:
                return web.ask("GET", f"/{path}/{number}")

            answers = run_threads(60, ask)
            assert answers == [(200, str(number)) for number in range(60)], path
        now = wait_until(lambda: (now := numbers(web))["in_use"] == 0 and now, "all connections are home")
        assert (now["timeouts"], now["leaked"], now["created"], now["threads"]) == (0, 0, 2, threads)


@pytest.mark.parametrize("web_server", ON_ASYNCIO)
def test_idle_websockets_hold_no_connection(web_server: str, connect_args: dict[str, Any]) -> None:
    """38: twenty of them on a pool of three; some clients are gone before their answer."""
    client = pytest.importorskip("websockets.sync.client")
    with (
        serving(web_server, "starlette", environment(connect_args)) as (web, _),
        ExitStack() as stack,
    ):
        address = f"ws://127.0.0.1:{web.port}/websocket"
        sockets = [stack.enter_context(client.connect(address, open_timeout=30)) for _ in range(20)]
        for number in range(3):
            for one in sockets:
                one.send(str(number))
            assert {one.recv(timeout=30) for one in sockets} == {str(number)}
            now = wait_until(lambda: (now := numbers(web))["in_use"] == 0 and now, "they hold nothing")
        assert now["total"] <= 3
        for one in sockets[:3]:
            one.send("666")
        wait_until(lambda: numbers(web)["in_use"] == 3, "their statements run")
        for one in sockets[:3]:
            one.socket.close()
        for one in sockets[3:]:
            one.send("5")
        assert {one.recv(timeout=30) for one in sockets[3:]} == {"5"}
        wait_until(lambda: numbers(web)["in_use"] == 0, "all connections are home")


def test_sync_endpoints_work_on_trio_and_the_awaited_pool_says_that_it_does_not(connect_args: dict[str, Any]) -> None:
    pooled = {**environment(connect_args), "DB_POOL": "2"}
    with serving("hypercorn on trio", "trio", pooled) as (web, _):
        answers = run_threads(30, lambda number: web.ask("GET", f"/one/{number}"))
        assert answers == [(200, str(number)) for number in range(30)]
        assert "works on asyncio" in web.ask("GET", "/awaited")[1]
        now = wait_until(lambda: (now := numbers(web))["in_use"] == 0 and now, "all connections are home")
        assert (now["timeouts"], now["leaked"], now["created"]) == (0, 0, 2)
