"""A Django request end to end: a view that runs one query, through the WSGI callable; each backend in its own process.

Django is configured once per process, and PyMySQL must pose as MySQLdb for Django's own backend, so every backend
has a process; this one tells them in turn to serve so many requests. No TLS: PyMySQL's default would have each
connect read all CA certificates.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ..bench import ROOT, Bench
from ..measure import OURS, Segment, Table, Took, compare, interleave, timed
from ..peers import NotInstalled, load, query
from .web_flask import requests

PER_REQUEST = "Django, connect per request"
PERSISTENT = "Django, CONN_MAX_AGE"
DJ_POOL = "django-db-connection-pool"
BACKENDS = (OURS, PER_REQUEST, PERSISTENT, DJ_POOL)


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
    import pymysql

    pymysql.install_as_MySQLdb()
    settings["OPTIONS"] = {"ssl_disabled": True}
    if backend == DJ_POOL:
        load("dj_db_conn_pool.backends.mysql.base", "django-db-connection-pool")
        return settings | {"ENGINE": "dj_db_conn_pool.backends.mysql", "POOL_OPTIONS": {"POOL_SIZE": 4}}
    age = 600 if backend == PERSISTENT else 0
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
        assert self.process.stdin is not None
        self.process.stdin.write(f"{operations}\n")
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


def run(bench: Bench) -> list[Table]:
    children = {backend: Child(backend, bench.tcp) for backend in BACKENDS}
    try:
        missing = {name: child.missing for name, child in children.items() if child.missing}
        if OURS in missing:
            return [Table("web_django", f"Django: {missing[OURS]}", [""])]
        segments: dict[str, Segment] = {name: child.serve for name, child in children.items() if name not in missing}
        with bench.pinned(bench.server.pid, *(child.process.pid for child in children.values())):
            taken = interleave(segments, bench.pick(120, 15), seconds=0.01)
    finally:
        for child in children.values():
            child.close()
    return [compare("web_django", "A Django request with one query", taken, missing, bare=PERSISTENT)]


def _child(backend: str, connect: str) -> None:
    def say(what: object) -> None:
        print(json.dumps(what), flush=True)

    try:
        segment = timed(requests(application(backend, json.loads(connect))))
    except NotInstalled as error:
        say(str(error))
        return
    say("ready")
    for line in sys.stdin:
        took = segment(int(line))
        say((took.wall, took.cpu))


if __name__ == "__main__":
    _child(*sys.argv[1:])
