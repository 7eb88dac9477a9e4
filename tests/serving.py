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
    "uvicorn": ["-m", "uvicorn", "--fd", "{fd}", "--backlog", "512", "--no-access-log"],
    "hypercorn": ["-m", "hypercorn", "--bind", "fd://{fd}", "--backlog", "512"],
    "daphne": ["-m", "daphne", "--fd", "{fd}"],
}

# Django's development server takes over no socket. Its application is WSGI_APPLICATION in the module's settings. Its
# queue of ten is for one visitor: when it is full, the system resets connections whose first packet it had dropped.
RUNSERVER = """
import importlib, sys
from django.core.management import call_command
from django.core.servers.basehttp import WSGIServer
WSGIServer.request_queue_size = 512
importlib.import_module(sys.argv[2].partition(":")[0])
call_command("runserver", f"127.0.0.1:{sys.argv[1]}", use_reloader=False, skip_checks=True, verbosity=0)
"""
# uWSGI forks after the application was loaded, without Python's hooks, and runs no threads of Python's unless asked.
UWSGI = """
import pyuwsgi, sys
command = ["--http-socket", f"127.0.0.1:{sys.argv[1]}", "--home", sys.prefix, "--master", "--die-on-term", "--need-app"]
pyuwsgi.run([*command, *sys.argv[2:-1], "--module", sys.argv[-1]])
"""
# These take over no socket.
BINDING_SERVERS = {"runserver": ["-c", RUNSERVER, "{port}"], "uwsgi": ["-c", UWSGI, "{port}"]}
ALL_SERVERS = {**SERVERS, **ASGI_SERVERS, **BINDING_SERVERS}
NEEDED = {"runserver": ["django"], "uwsgi": ["pyuwsgi"]}


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
    """Run `application` ("module:name") under one of ALL_SERVERS until the block ends, or `Web.stop`.

    Args:
        server, application, environment: what runs, and what it finds in its environment beside ours.
        threads: for the servers that have them.
        options: more of the server's own.
        log: an open file for what the server says.
    """
    for needed in NEEDED.get(server) or server.replace("gthread", "").replace("sync", "").split():
        pytest.importorskip(needed)
    with socket.socket() as listener:
        for port in random.sample(range(15000, 19000), 100):
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                break
        listener.listen(512)
        given = {"{fd}": str(listener.fileno()), "{threads}": str(threads), "{port}": str(port)}
        command = [given.get(word, word.replace("{fd}", given["{fd}"])) for word in ALL_SERVERS[server]]
        web_port, handed_over = listener.getsockname()[1], [listener.fileno()]
        if server in BINDING_SERVERS:
            listener.close()
            handed_over = []
        process = subprocess.Popen(
            [sys.executable, *command, *options, application],
            cwd=ROOT,
            env={**os.environ, **environment},
            pass_fds=handed_over,
            stdout=log or subprocess.DEVNULL,
            stderr=log or subprocess.DEVNULL,
        )
        web = Web(web_port, process)
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
