"""Flask under real servers: greenlets that are killed, workers that are, and the end (behaviours 39, 41, 42)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.serving import SERVERS, Web, serving
from tests.support import wait_until

from .conftest import ask

APPLICATION = "tests.flask.served:app"


@pytest.fixture
def environment(connect_args: dict[str, Any], tmp_path: Path) -> dict[str, str]:
    options = {**connect_args, "size": 3, "maxsize": 3, "timeout": 30}
    config = {f"FLASK_PYMYSQLPOOL__{name.upper()}": json.dumps(value) for name, value in options.items()}
    return {**config, "TELL_THE_END": str(tmp_path / "end")}


def _endings(environment: dict[str, str]) -> list[dict[str, Any]]:
    file = Path(environment["TELL_THE_END"])
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _sessions(admin: Any) -> int:
    with admin.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db IS NOT NULL"
        )
        return int(cursor.fetchone()[0])


def _aborted(admin: Any) -> int:
    with admin.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Aborted_clients'")
        return int(cursor.fetchone()[1])


def test_killed_and_timed_out_greenlets_never_cost_another_request_its_answer(environment: dict[str, str]) -> None:
    """39: at write, read and wait; afterwards every connection is there and answers what it is asked."""
    chance, wrong = random.Random(39), []
    with serving("gunicorn gevent", APPLICATION, environment) as web:

        def client(number: int) -> None:
            for step in range(10):
                token = f"{number}-{step}"
                answer = web.ask("GET", f"/echo/{token}")
                if answer != (200, token):
                    wrong.append((token, answer))
                try:
                    status, body = web.ask("GET", f"/{('killed', 'patience')[step % 2]}/{chance.uniform(0, 0.02)}")
                except (OSError, http.client.HTTPException):
                    continue  # the greenlet that would have answered is dead
                if step % 2 and (status, body) not in ((200, "whole"), (200, "timed out"), (503, body)):
                    wrong.append((token, (status, body)))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert wrong == []
        assert _all_home(web)["total"] <= 3
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(web.ask("GET", "/sleep/1"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: json.loads(web.ask("GET", "/numbers")[1])["in_use"] == 3, "all three can be had at once")
        for thread in threads:
            thread.join(20)
        assert answers == [(200, "slept 0")] * 3


def test_a_greenlet_that_a_view_spawns_does_not_share_its_lease(environment: dict[str, str]) -> None:
    """39"""
    with serving("gunicorn gevent", APPLICATION, environment) as web:
        status, body = web.ask("GET", "/spawned")
        assert status == 200
        assert json.loads(body) == {"without": "NoRequestScopeError", "another": True, "still": True}
        assert _all_home(web)["in_use"] == 0


@pytest.mark.parametrize(
    ("path", "there"),
    [("/sleep/40", "LOCATE('SLEEP(40', info)"), ("/wait", "db IS NOT NULL HAVING COUNT(*) = 3")],
    ids=["in a statement", "in the queue"],
)
def test_a_worker_that_is_timed_out_ends_at_once_and_keeps_nothing(
    environment: dict[str, str], admin: Any, path: str, there: str
) -> None:
    """41: gunicorn's SIGABRT raises SystemExit wherever the worker is; nothing may wait for the network then."""
    with serving("gunicorn sync", APPLICATION, environment, options=["--timeout", "0"]) as web:
        assert web.ask("GET", "/echo/before") == (200, "before")
        worker = json.loads(web.ask("GET", "/numbers")[1])["pid"]
        client = threading.Thread(target=_ask_in_vain, args=(web, path))
        client.start()
        looking = f"SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND {there}"
        wait_until(lambda: ask(admin, looking), "the worker is at it")
        started = time.time()
        os.kill(worker, signal.SIGABRT)  # as gunicorn does after its --timeout
        (end,) = wait_until(lambda: _endings(environment), "the worker has ended in good order", timeout=20)
        assert end["at"] - started < 10
        if path != "/wait":  # whose connections were taken past the request
            assert (end["in_use"], sum(end["discarded"].values())) == (0, 1)
        client.join(20)
        assert web.ask("GET", "/echo/after") == (200, "after")
        wait_until(lambda: _sessions(admin) <= 1, "the sessions of the dead worker have ended")


def _ask_in_vain(web: Web, path: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        web.ask("GET", path)


@pytest.mark.parametrize("web_server", list(SERVERS))
def test_a_server_that_ends_says_goodbye_on_its_idle_connections(
    environment: dict[str, str], admin: Any, web_server: str
) -> None:
    """42: the database server counts no aborted client."""
    wait_until(lambda: _sessions(admin) == 0, "no other session is there")
    before = _aborted(admin)
    with serving(web_server, APPLICATION, environment) as web:
        threads = [threading.Thread(target=web.ask, args=("GET", "/sleep/0.2")) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert json.loads(web.ask("GET", "/numbers")[1])["idle"] >= 1
        web.stop()
    wait_until(lambda: _sessions(admin) == 0, "all sessions have ended")
    assert _aborted(admin) == before
    assert [end["in_use"] for end in _endings(environment)] == [0]


@pytest.mark.parametrize("web_server", ["gunicorn gthread", "gunicorn gevent"])
def test_a_request_under_way_is_answered_before_the_server_ends(
    environment: dict[str, str], admin: Any, web_server: str
) -> None:
    """42"""
    answers: list[Any] = []
    with serving(web_server, APPLICATION, environment) as web:
        thread = threading.Thread(target=lambda: answers.append(web.ask("GET", "/sleep/1")))
        thread.start()
        wait_until(lambda: json.loads(web.ask("GET", "/numbers")[1])["in_use"] == 1, "it is under way")
        assert web.stop() == 0
        thread.join(20)
    assert answers == [(200, "slept 0")]
    wait_until(lambda: _sessions(admin) == 0, "all sessions have ended")


def _all_home(web: Web) -> dict[str, Any]:
    numbers: dict[str, Any] = {}

    def home() -> bool:
        numbers.update(json.loads(web.ask("GET", "/numbers")[1]))
        return bool(numbers["in_use"] + numbers["waiting"] == 0)

    wait_until(home, "all connections come home", timeout=20)
    return numbers
