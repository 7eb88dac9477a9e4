"""A pool whose every lease must be back at the end, and real WSGI servers in processes of their own."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool import ConnectionPool
from tests.support import wait_until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def pool(make_pool: Callable[..., ConnectionPool]) -> Iterator[ConnectionPool]:
    pool = make_pool(size=2, maxsize=2, timeout=2)
    yield pool
    assert pool.stats().in_use == 0, "a lease was left behind"


@pytest.fixture
def table(admin: Any) -> Iterator[Callable[[], list[int]]]:
    """An empty table `item (id)`; returns what is committed in it."""
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS item")
        cursor.execute("CREATE TABLE item (id INT PRIMARY KEY) ENGINE=InnoDB")

    def committed() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("SELECT id FROM item ORDER BY id")
            return [number for (number,) in cursor.fetchall()]

    yield committed
    with admin.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS item")


class Web:
    """A server that runs, seen by its clients."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


WAITRESS = """
import importlib, socket, sys, waitress
module, name = sys.argv[2].split(":")
listener = socket.socket(fileno=int(sys.argv[1]))
waitress.serve(getattr(importlib.import_module(module), name), sockets=[listener], threads=16, _quiet=True)
"""

# What python runs, before the application's name. All take over a socket that listens already.
SERVERS = {
    "gunicorn sync": ["-m", "gunicorn", "--workers", "1", "--bind", "fd://{fd}"],
    "gunicorn gthread": ["-m", "gunicorn", "--worker-class", "gthread", "--threads", "16", "--bind", "fd://{fd}"],
    "gunicorn gevent": ["-m", "gunicorn", "--worker-class", "gevent", "--bind", "fd://{fd}"],
    "waitress": ["-c", WAITRESS, "{fd}"],
}


@contextmanager
def serving(server: str, application: str, environment: dict[str, str]) -> Iterator[Web]:
    """Run `application` ("module:name") under one of SERVERS until the block ends."""
    for needed in {"waitress": ["waitress"], "gunicorn gevent": ["gunicorn", "gevent"]}.get(server, ["gunicorn"]):
        pytest.importorskip(needed)
    with socket.socket() as listener:
        for port in random.sample(range(15000, 19000), 100):
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                break
        listener.listen(256)
        process = subprocess.Popen(
            [sys.executable, *(part.replace("{fd}", str(listener.fileno())) for part in SERVERS[server]), application],
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
            yield web
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
    except (OSError, http.client.HTTPException):
        return False
