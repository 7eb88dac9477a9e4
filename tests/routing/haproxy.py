"""HAProxy in front of servers, as one runs it: health checks over HTTP that ask each server whether it takes writes.

Owns: the processes of HAProxy, and the small HTTP server that it asks. Never: listens beyond 127.0.0.1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pymysql

from pymysqlpool.devserver import DevServer, _free_port
from tests.routing.servers import APP, CACHE
from tests.support import wait_until

HOST = "127.0.0.1"
UNPACKED = CACHE / "haproxy"
CONFIGURATION = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 1s
    timeout client 60s
    timeout server 60s
listen database
    bind {host}:{port}
    option httpchk GET /
    http-check expect status 200
    default-server inter 200ms fall 2 rise 1
{servers}
"""


def program() -> str | None:
    """HAProxy's program, where there is one."""
    unpacked = UNPACKED / "usr/sbin/haproxy"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("haproxy", path=path) or (str(unpacked) if unpacked.exists() else None)


def libraries() -> str:
    """The folders of its shared libraries, where it was unpacked."""
    return os.pathsep.join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu")))


@contextmanager
def haproxy(servers: Sequence[DevServer]) -> Iterator[int]:
    """The port of a HAProxy that forwards new connections to the first of the servers that takes writes. It leaves
    those that there are on the old one, its default."""
    agents = [_Agent(server) for server in servers]
    port = _free_port()
    lines = [
        f"    server db{index} {server.host}:{server.port} check port {agent.port}{' backup' if index else ''}"
        for index, (server, agent) in enumerate(zip(servers, agents, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="pymysqlpool-") as folder, Path(folder, "log").open("wb") as log:
        file = Path(folder, "haproxy.cfg")
        text = CONFIGURATION.format(host=HOST, port=port, servers="\n".join(lines))
        file.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [program() or "haproxy", "-db", "-f", str(file)],
            env={**os.environ, "LD_LIBRARY_PATH": libraries()},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            wait_until(lambda: _is_there(port, process, folder), "HAProxy forwards")
            yield port
        finally:
            process.kill()
            process.wait(10)
            for agent in agents:
                agent.end()


def _is_there(port: int, process: subprocess.Popen[bytes], folder: str) -> bool:
    assert process.poll() is None, Path(folder, "log").read_text(encoding="utf-8")
    try:
        pymysql.connect(host=HOST, port=port, connect_timeout=1, **APP).close()
    except pymysql.err.MySQLError:
        return False
    return True


class _Agent:
    """Answers 200 while its server takes writes."""

    def __init__(self, server: DevServer) -> None:
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if agent.is_writable() else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = server
        self._http = ThreadingHTTPServer((HOST, 0), Handler)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    def is_writable(self) -> bool:
        try:
            with (
                pymysql.connect(host=HOST, port=self._server.port, connect_timeout=1, **APP) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute("SELECT @@read_only")
                return cursor.fetchone() == (0,)
        except (pymysql.err.MySQLError, OSError):
            return False

    def end(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)
