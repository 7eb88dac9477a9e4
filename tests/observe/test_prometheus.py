"""What Prometheus scrapes: of one process, and of the workers of a real server, one of which is killed."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pymysqlpool import ConnectionPool, status
from pymysqlpool._observe.board import all_processes
from pymysqlpool._observe.status_text import describe
from pymysqlpool.metrics import pools
from pymysqlpool.prometheus import PoolCollector, metrics_page
from tests.conftest import MakePool
from tests.serving import ROOT, serving
from tests.support import wait_until

POOL = "db_client_connection_pool_name"


def scraped(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(collector: PoolCollector) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(collector)
    return scraped(generate_latest(registry).decode())


def test_the_metrics_are_those_of_the_convention_and_equal_what_was_done(make_pool: MakePool) -> None:
    pool = make_pool(name="shop", size=2, maxsize=3)
    with pool.get_connection() as held:
        for _ in range(4):
            with pool.get_connection() as connection:
                connection.cursor().execute("SELECT 1")
        held.cursor().execute("SELECT 1")
        seen = scrape(PoolCollector())
    assert seen["db_client_connection_count", "shop", "used"] == 1
    assert seen["db_client_connection_count", "shop", "idle"] == 1
    assert seen["db_client_connection_max", "shop"] == 3
    assert seen["db_client_connection_idle_min", "shop"] == 2
    assert seen["db_client_connection_pending_requests", "shop"] == 0
    assert seen["db_client_connection_timeouts_total", "shop"] == 0
    assert seen["pymysqlpool_borrowed_total", "shop"] == 5
    assert seen["db_client_connection_create_time_seconds_count", "shop"] == 2
    assert seen["db_client_connection_use_time_seconds_count", "shop"] == 4
    assert seen["db_client_connection_use_time_seconds_bucket", "shop", "+Inf"] == 4


def test_a_label_has_neither_a_user_nor_a_path(make_pool: MakePool, connect_args: dict[str, Any]) -> None:
    pool = make_pool(user="root")
    assert pool.label == f"{connect_args['host']}:{connect_args['port']}/{connect_args['database']}"
    assert pool in pools()
    by_socket = make_pool(unix_socket="/home/me/mysql.sock")
    assert by_socket.label == f"localhost/{connect_args['database']}"
    pool.close()
    assert pool not in pools()


HARMLESS = ["<script>", "{{7*7}}", "x" * 5000]
STRANGE = ['a"b\\c\nd', "\x1b[31mred", "\u202e"]


@pytest.mark.parametrize("name", [*HARMLESS, *STRANGE])
def test_a_strange_name_of_a_pool_breaks_no_page_and_no_terminal(
    name: str, make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(name=name)
    with pool.get_connection():
        seen = scraped(metrics_page()[1].decode())
        assert seen["db_client_connection_count", pool.label, "used"] == 1
        assert b"<script>" not in status.page()[1]
        monkeypatch.setattr(threading.current_thread(), "name", name + "\0\ud800")
        assert name in HARMLESS or name not in describe(all_processes())
        status.page()
        describe(all_processes()).encode()


def test_the_counts_of_a_pool_that_has_ended_stay_also_without_a_folder(
    make_pool: MakePool, connect_args: dict[str, Any]
) -> None:
    collector = PoolCollector()
    for pool in (make_pool(name="shop"), ConnectionPool(**connect_args, name="shop")):
        pool.get_connection().close()
    assert scrape(collector)["pymysqlpool_borrowed_total", "shop"] == 2
    pool.close()
    assert scrape(collector)["pymysqlpool_borrowed_total", "shop"] == 2
    del pool
    gc.collect()
    seen = scrape(collector)
    assert seen["pymysqlpool_borrowed_total", "shop"] == 2
    assert seen["db_client_connection_count", "shop", "idle"] == 1


def test_a_wait_and_a_timeout_are_counted(make_pool: MakePool) -> None:
    pool = make_pool(name="small", size=1, maxsize=1)
    with pool.get_connection(), pytest.raises(Exception, match="can't get connection"):
        pool.get_connection(timeout=0.02)
    seen = scrape(PoolCollector())
    assert seen["db_client_connection_timeouts_total", "small"] == 1
    assert seen["db_client_connection_wait_time_seconds_count", "small"] == 1
    assert seen["db_client_connection_wait_time_seconds_bucket", "small", "0.01"] == 0


APPLICATION = """
import os
from flask import Flask, g
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from pymysqlpool.prometheus import PoolCollector
from pymysqlpool_flask import PyMySQLPool

visits = Counter("visits", "The application's own.")
app = Flask(__name__)
app.config.from_prefixed_env()
PyMySQLPool(app)
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
registry.register(PoolCollector())

@app.get("/numbers")
def numbers():
    return {}

@app.get("/one")
def one():
    visits.inc()
    with g.db.cursor() as cursor:
        cursor.execute("SELECT 1")
    return str(os.getpid())

@app.get("/metrics")
def metrics():
    return generate_latest(registry).decode()
"""


def test_the_sums_are_those_of_all_workers_also_when_one_was_killed(
    tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    (tmp_path / "counted.py").write_text(APPLICATION)
    (tmp_path / "shared").mkdir()
    environment = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared"),
        "FLASK_PYMYSQLPOOL": json.dumps({**connect_args, "name": "shop", "size": 2, "maxsize": 2}),
    }
    with serving("gunicorn sync", "counted:app", environment, options=["--workers", "2"]) as web:

        def sums() -> dict[tuple[str, ...], float]:
            return scraped(web.ask("GET", "/metrics")[1])

        asked = 40
        workers = {web.ask("GET", "/one")[1] for _ in range(asked)}
        wait_until(lambda: sums().get(("pymysqlpool_borrowed_total", "shop")) == asked, "the sum of both workers")
        os.kill(int(workers.pop()), signal.SIGKILL)
        wait_until(lambda: web.ask("GET", "/one")[0] == 200, "another worker")
        wait_until(lambda: sums()["pymysqlpool_borrowed_total", "shop"] > asked, "what it counted still counts")
        seen = sums()
        assert seen["visits_total",] == seen["pymysqlpool_borrowed_total", "shop"], (
            "beside the application's own metrics"
        )
        assert seen["db_client_connection_count", "shop", "used"] == 0
        assert seen["db_client_connection_max", "shop"] <= 4
