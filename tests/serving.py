"""Real WSGI and ASGI servers, each in a process of its own, and their clients."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import wait_until

ROOT = Path(__file__).parent.parent


class Web:
    """A server that runs, seen by its clients. `process` is the server's, where it is known."""

    def __init__(self, port: int, process: subprocess.Popen[Any] | None = None) -> None:
        self.port = port
        self.process = process

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

    def stop(self, timeout: float = 20) -> int:
        """Ask the server to end, as an administrator does; returns its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


# The handler lets Python's exit handlers run; waitress has none, and the system would end the process as it stands.
WAITRESS = """
import importlib, signal, socket, sys, waitress
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
module, name = sys.argv[3].split(":")
listener = socket.socket(fileno=int(sys.argv[1]))
waitress.serve(
    getattr(importlib.import_module(module), name), sockets=[listener], threads=int(sys.argv[2]), _quiet=True,
    connection_limit=1000,
)
"""

# What python runs, before the application's name. All take over a socket that listens already.
SERVERS = {
    "gunicorn sync": ["-m", "gunicorn", "--bind", "fd://{fd}"],
    "gunicorn gthread": [
        "-m",
        "gunicorn",
        "--worker-class",
        "gthread",
        "--threads",
        "{threads}",
        "--bind",
        "fd://{fd}",
    ],
    "gunicorn gevent": ["-m", "gunicorn", "--worker-class", "gevent", "--bind", "fd://{fd}"],
    "waitress": ["-c", WAITRESS, "{fd}", "{threads}"],
}

ASGI_SERVERS = {
    "uvicorn": ["-m", "uvicorn", "--fd", "{fd}", "--backlog", "512"],
    "hypercorn": ["-m", "hypercorn", "--bind", "fd://{fd}", "--backlog", "512"],
    "daphne": ["-m", "daphne", "--fd", "{fd}"],
}


@contextmanager
def serving(
    server: str,
    application: str,
    environment: dict[str, str],
    *,
    threads: int = 16,
    options: Sequence[str] = (),
    log: IO[str] | None = None,
) -> Iterator[Web]:
    """Run `application` ("module:name") under a server of SERVERS or ASGI_SERVERS until the block ends, or `Web.stop`.

    Args:
        server, application, environment: what runs, and what it finds in its environment beside ours.
        threads: for the servers that have them.
        options: more of the server's own.
        log: an open file for what the server says.
    """
    for needed in server.replace("gthread", "").replace("sync", "").split():
        pytest.importorskip(needed)
    with socket.socket() as listener:
        for port in random.sample(range(15000, 19000), 100):
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                break
        listener.listen(512)
        fd = str(listener.fileno())
        command = [
            word.replace("{fd}", fd).replace("{threads}", str(threads)) for word in {**SERVERS, **ASGI_SERVERS}[server]
        ]
        process = subprocess.Popen(
            [sys.executable, *command, *options, application],
            cwd=ROOT,
            env={**os.environ, **environment},
            pass_fds=[listener.fileno()],
            stdout=log or subprocess.DEVNULL,
            stderr=log or subprocess.DEVNULL,
        )
        web = Web(listener.getsockname()[1], process)
        try:
            wait_until(lambda: process.poll() is not None or _answers(web), f"{server} answers", timeout=30)
            assert process.poll() is None, f"{server} ended by itself"
            yield web
        finally:
            if process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    web.stop()


def _answers(web: Web) -> bool:
    try:
        return web.ask("GET", "/numbers")[0] == 200
    except (OSError, http.client.HTTPException):
        return False
