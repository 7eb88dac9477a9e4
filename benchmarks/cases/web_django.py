"""A Django request end to end: a view that runs one query, through the WSGI callable; each backend in its own process.

Twice: all requests in one thread, and each in a thread of its own, as the development server and ASGI have it. There
Django's persistent connections cannot persist.

Django is configured once per process, and PyMySQL must pose as MySQLdb for Django's own backend, so every backend
has a process; this one tells them in turn to serve so many requests. No TLS: PyMySQL's default would have each
connect read all CA certificates. The server counts what it was asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import pymysql

from ..bench import ROOT, Bench
from ..measure import OURS, Cell, Segment, Table, Took, compare, interleave, timed
from ..peers import NotInstalled, load, query
from .web_flask import requests

PER_REQUEST = "Django, connect per request"
PERSISTENT = "Django, CONN_MAX_AGE"
DJ_POOL = "django-db-connection-pool"
C_PER_REQUEST = "mysqlclient, connect per request"
C_PERSISTENT = "mysqlclient, CONN_MAX_AGE"
BACKENDS = (OURS, PER_REQUEST, PERSISTENT, DJ_POOL, C_PER_REQUEST, C_PERSISTENT)
COUNTED = 100  # requests


def database(backend: str, connect: dict[str, Any]) -> dict[str, Any]:
    settings = {
        "NAME": connect["database"],
        "USER": connect["user"],
        "PASSWORD": connect["password"],
        "HOST": connect["host"],
        "PORT": connect["port"],
    }
    if backend == OURS:
        options = {"ssl_disabled": True, "pool": {"size": 4, "maxsize": 4}}
        return settings | {"ENGINE": "pymysqlpool_django", "OPTIONS": options}
    if backend in (C_PER_REQUEST, C_PERSISTENT):
        load("MySQLdb", "mysqlclient")
        settings["OPTIONS"] = {"ssl_mode": "DISABLED"}
    else:
        pymysql.install_as_MySQLdb()
        settings["OPTIONS"] = {"ssl_disabled": True}
    if backend == DJ_POOL:
        load("dj_db_conn_pool.backends.mysql.base", "django-db-connection-pool")
        return settings | {"ENGINE": "dj_db_conn_pool.backends.mysql", "POOL_OPTIONS": {"POOL_SIZE": 4}}
    age = 600 if backend in (PERSISTENT, C_PERSISTENT) else 0
    return settings | {"ENGINE": "django.db.backends.mysql", "CONN_MAX_AGE": age}


def application(backend: str, connect: dict[str, Any]) -> Any:
    conf = load("django.conf", "Django")
    from django.core.wsgi import get_wsgi_application
    from django.db import connection
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(query(connection)))

    urls = type(sys)("benchmark_urls")
    urls.urlpatterns = [path("", page)]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    conf.settings.configure(
        ALLOWED_HOSTS=["localhost"],
        DATABASES={"default": database(backend, connect)},
        ROOT_URLCONF=urls.__name__,
        SECRET_KEY="not secret",
        USE_TZ=True,
    )
    return get_wsgi_application()


class Child:
    """A backend in its process."""

    def __init__(self, backend: str, connect: dict[str, Any]) -> None:
        command = [sys.executable, "-m", __name__, backend, json.dumps(connect)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self._read()
        self.missing = None if ready == "ready" else str(ready)

    def serve(self, operations: int) -> Took:
        """So many requests in one thread."""
        return self._serve("one", operations)

    def serve_each(self, operations: int) -> Took:
        """So many requests, each in a thread of its own."""
        return self._serve("each", operations)

    def _serve(self, threads: str, operations: int) -> Took:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{threads} {operations}\n")
        self.process.stdin.flush()
        return Took(*self._read())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a Django process ended with status {self.process.wait(10)}")
        return json.loads(line)


def asked(bench: Bench, serve: Segment) -> tuple[float, float]:
    """Statements and new connections per request, as the server counts them."""
    with pymysql.connect(**bench.tcp) as connection, connection.cursor() as cursor:

        def counts() -> list[int]:
            cursor.execute("SHOW GLOBAL STATUS WHERE Variable_name IN ('Connections', 'Questions')")
            return [int(value) for _, value in sorted(cursor.fetchall())]

        serve(COUNTED)
        before = counts()
        serve(COUNTED)
        connections, questions = (after - earlier for after, earlier in zip(counts(), before, strict=True))
    return (questions - 1) / COUNTED, connections / COUNTED  # the look at the end counts itself


def run(bench: Bench) -> list[Table]:
    children = {backend: Child(backend, bench.tcp) for backend in BACKENDS}
    tables = []
    try:
        missing = {name: child.missing for name, child in children.items() if child.missing}
        if OURS in missing:
            return [Table("web_django", f"Django: {missing[OURS]}", [""])]
        there = {name: child for name, child in children.items() if name not in missing}
        for key, title, segments in (
            ("web_django", "A Django request with one query", {name: one.serve for name, one in there.items()}),
            (
                "web_django_threads",
                "A Django request with one query, in a thread of its own",
                {name: one.serve_each for name, one in there.items()},
            ),
        ):
            counted = {name: asked(bench, segment) for name, segment in segments.items()}
            with bench.pinned(bench.server.pid, *(child.process.pid for child in children.values())):
                taken = interleave(segments, bench.pick(120, 15), seconds=0.01)
            extra: dict[str, dict[str, Cell]] = {
                "statements": {name: statements for name, (statements, _) in counted.items()},
                "connects": {name: connects for name, (_, connects) in counted.items()},
            }
            tables.append(compare(key, title, taken, missing, bare=PERSISTENT, extra=extra))
    finally:
        for child in children.values():
            child.close()
    return tables


def in_threads(app: Any) -> Segment:
    """Each request in a new thread; the CPU time is the process's, which serves nothing else."""
    one = requests(app)

    def segment(operations: int) -> Took:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(operations):
            thread = threading.Thread(target=one, args=(1,))
            thread.start()
            thread.join()
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        return Took(wall / operations, cpu / operations)

    return segment


def _child(backend: str, connect: str) -> None:
    def reply(what: object) -> None:
        print(json.dumps(what), flush=True)

    try:
        app = application(backend, json.loads(connect))
        segments = {"one": timed(requests(app)), "each": in_threads(app)}
    except NotInstalled as error:
        reply(str(error))
        return
    reply("ready")
    for line in sys.stdin:
        threads, operations = line.split()
        took = segments[threads](int(operations))
        reply((took.wall, took.cpu))


if __name__ == "__main__":
    _child(*sys.argv[1:])
