"""A Flask application for real servers (`test_servers.py`): it sleeps, waits, is killed, and tells how it ended."""

from __future__ import annotations

import atexit
import json
import os
import time
from typing import Any

from flask import Flask, g

from pymysqlpool_flask import PyMySQLPool

app = Flask(__name__)
app.config["PROPAGATE_EXCEPTIONS"] = False
app.config.from_prefixed_env()
db = PyMySQLPool(app)
held: list[Any] = []


def ask(sql: str, *values: Any) -> Any:
    with g.db.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0]


@app.get("/numbers")
def numbers() -> dict[str, Any]:
    stats = db.pool.stats()
    gauges = {name: getattr(stats, name) for name in ("in_use", "idle", "waiting", "total")}
    return {**gauges, "pid": os.getpid()}


@app.get("/echo/<token>")
def echo(token: str) -> str:
    return str(ask("SELECT CONCAT(%s, LEFT(SLEEP(%s), 0))", token, 0.01))


@app.get("/sleep/<seconds>")
def sleep(seconds: str) -> str:
    return f"slept {ask('SELECT SLEEP(%s)', float(seconds))}"


@app.get("/wait")
def wait() -> str:
    """Stand in the queue of a pool that never has a free connection again."""
    held.extend(db.pool.get_connection() for _ in range(db.pool.stats().maxsize - len(held)))
    return str(g.db)


@app.get("/patience/<seconds>")
def patience(seconds: str) -> str:
    """gevent's own timeout, at any moment of an exchange."""
    import gevent

    try:
        with gevent.Timeout(float(seconds)):
            return str(ask("SELECT CONCAT('whole', LEFT(SLEEP(0.005), 0))"))
    except gevent.Timeout:
        return "timed out"


@app.get("/killed/<seconds>")
def killed(seconds: str) -> str:
    """The greenlet of this request is killed at any moment of an exchange."""
    import gevent

    gevent.spawn_later(float(seconds), gevent.getcurrent().kill)
    while True:
        ask("SELECT SLEEP(0.002)")


@app.get("/spawned")
def spawned() -> dict[str, Any]:
    """A greenlet that the view has spawned has no lease, until it opens a scope of its own."""
    import gevent

    own = g.db.thread_id()

    def without() -> str:
        try:
            return f"has {db.connection}"
        except RuntimeError as error:
            return type(error).__name__

    def with_scope() -> int:
        with db.get_pool(app=app).scope() as scope:
            return int(scope.connection().thread_id())

    other = gevent.spawn(with_scope).get()
    return {"without": gevent.spawn(without).get(), "another": other != own, "still": g.db.thread_id() == own}


def tell_the_end() -> None:
    stats = db.get_pool(app=app).stats()
    end = {"in_use": stats.in_use, "discarded": dict(stats.discarded), "at": time.time()}
    with open(os.environ["TELL_THE_END"], "a") as file:
        file.write(json.dumps(end) + "\n")


if "TELL_THE_END" in os.environ:
    atexit.register(tell_the_end)
