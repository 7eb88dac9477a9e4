"""Two workers of a real server: the span tree request -> statement, and metrics that equal what the workers did."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pymysqlpool._observe.board import Board
from tests.serving import Web, serving
from tests.support import wait_until

from .test_prometheus import scraped

REQUESTS = 60


def spans_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


def sums(web: Web) -> Counter[str]:
    """The samples of the only pool, by name."""
    status, text = web.ask("GET", "/pools/metrics")
    assert status == 200
    found: Counter[str] = Counter()
    for (name, *_), value in scraped(text).items():
        found[name] += int(value)
    return found


@pytest.mark.parametrize(
    ("web_server", "framework", "paths"),
    [
        ("gunicorn sync", "flask", ["/one/"]),
        ("gunicorn gthread", "django", ["/one/"]),
        ("uwsgi", "flask", ["/one/"]),
        ("uvicorn", "django_asgi", ["/one/"]),
        ("uvicorn", "fastapi", ["/one/", "/sync/"]),
    ],
)
def test_each_request_is_a_tree_of_spans_and_the_sums_are_those_of_all_workers_also_after_a_kill(
    web_server: str, framework: str, paths: list[str], tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    pytest.importorskip({"django_asgi": "django"}.get(framework, framework))
    spans = tmp_path / "spans"
    spans.mkdir()
    environment = {
        "FRAMEWORK": framework,
        "CONNECT_ARGS": json.dumps(connect_args),
        "SPANS": str(spans),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared"),
    }
    application = "tests.observe.worker_application:app"
    with serving(web_server, application, environment, threads=4, options=["--workers", "2"]) as web:
        asked: list[str] = []
        workers: Counter[str] = Counter()

        def ask_many() -> None:
            urls = [f"{paths[n % len(paths)]}{n}" for n in range(len(asked), len(asked) + REQUESTS)]
            asked.extend(urls)
            with ThreadPoolExecutor(6) as crowd:
                for url, (status, body) in zip(urls, crowd.map(lambda url: web.ask("GET", url), urls), strict=True):
                    assert (status, body.split()[1]) == (200, url.rpartition("/")[2])
                    workers[body.split()[0]] += 1

        ask_many()
        while len(workers) < 2:
            ask_many()
        wait_until(lambda: sums(web)["pymysqlpool_borrowed_total"] == len(asked), "the sum of both workers")
        before = sums(web)
        assert before["db_client_connection_use_time_seconds_count"] == len(asked)
        assert before["db_client_connection_create_time_seconds_count"] == before["pymysqlpool_created_total"]

        os.kill(int(next(iter(workers))), signal.SIGKILL)
        wait_until(lambda: _answers(web), "the other worker")
        ask_many()
        wait_until(lambda: sums(web)["pymysqlpool_borrowed_total"] == len(asked), "the sums after a kill")
        after = sums(web)
        assert after["pymysqlpool_created_total"] >= before["pymysqlpool_created_total"]
        assert after["db_client_connection_count"] <= after["db_client_connection_max"]

        def trees() -> Counter[tuple[str, ...]]:
            found = spans_in(spans)
            by_id = {span["id"]: span for span in found}
            return Counter(
                (by_id[span["parent"]]["name"], span["text"])
                for span in found
                # Django itself asks the server for its version, once in each worker
                if span["name"].startswith("SELECT") and "VERSION()" not in span["text"] and span["parent"] in by_id
            )

        expected = Counter((url, f"SELECT {url.rpartition('/')[2]}") for url in asked)
        wait_until(lambda: trees() == expected, "each statement below its request")
        assert [span for span in spans_in(spans) if span["parent"] is None and span["name"] not in _paths(asked)] == []


@pytest.mark.parametrize("options", [[], ["--enable-threads"]], ids=" ".join)
def test_under_uwsgi_a_worker_publishes_though_none_of_its_threads_and_no_fork_hook_runs(
    options: list[str], tmp_path: Path, connect_args: dict[str, Any]
) -> None:
    """No worker is asked for a page, by which it would learn that it has to publish."""
    (tmp_path / "spans").mkdir()
    environment = {
        "FRAMEWORK": "flask",
        "CONNECT_ARGS": json.dumps(connect_args),
        "SPANS": str(tmp_path / "spans"),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared"),
    }
    board = Board(tmp_path / "shared" / "pymysqlpool")

    def published() -> Counter[str]:
        return Counter({str(one["pid"]): sum(pool["borrowed"] for pool in one["pools"]) for one in board.read()})

    def are_idle() -> bool:
        """uWSGI runs no exit handler of a worker that is still busy, also after the client has its whole answer."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(stats)
            with asking.makefile() as answer:
                return {worker["status"] for worker in json.load(answer)["workers"]} == {"idle"}

    application, stats = "tests.observe.worker_application:app", str(tmp_path / "stats")
    options = ["--processes", "2", "--stats", stats, *options]
    with serving("uwsgi", application, environment, threads=1, options=options) as web:
        served: Counter[str] = Counter()

        def ask() -> None:
            served[web.ask("GET", "/one/1")[1].split()[0]] += 1

        def both_have_published() -> bool:
            before = dict(served)
            ask()
            return len(before) == 2 and all(published()[pid] > 1 for pid in before)

        wait_until(both_have_published, "the numbers of both workers")
        if "--enable-threads" in options:
            wait_until(lambda: +published() == served, "all that they served")
        wait_until(are_idle, "idle workers")
    wait_until(lambda: +published() == served, "what they wrote at their end")


def _paths(asked: list[str]) -> set[str]:
    return {*asked, "/numbers", "/pools/metrics", "/pools/metrics/"}


def _answers(web: Web) -> bool:
    try:
        return web.ask("GET", "/numbers")[0] == 200
    except OSError:
        return False
