"""Money is neither made nor lost, whatever is killed, deadlocked, exhausted or swallowed; and nothing stays lent."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from flask import Response, g

from pymysqlpool.transaction import transaction

from .conftest import MakeSite, Site, ask

ACCOUNTS, THREADS, REQUESTS = 5, 6, 40


@pytest.fixture
def bank(make_site: MakeSite, admin: Any) -> Iterator[Site]:
    logging.disable(logging.CRITICAL)
    ask(admin, "DROP TABLE IF EXISTS account, visit")
    ask(admin, "CREATE TABLE account (id INT PRIMARY KEY, amount INT) ENGINE=InnoDB")
    ask(admin, "CREATE TABLE visit (id INT PRIMARY KEY AUTO_INCREMENT) ENGINE=InnoDB")
    ask(admin, "INSERT INTO account SELECT seq, 100 FROM seq_1_to_5")
    yield make_site(transaction="request", timeout=0.5, init_command="SET innodb_lock_wait_timeout = 1")
    logging.disable(logging.NOTSET)
    ask(admin, "DROP TABLE IF EXISTS account, visit")


def move() -> None:
    """As much public code does it: a failed statement is repeated, and some errors come from elsewhere."""
    source, target = random.sample(range(1, ACCOUNTS + 1), 2)
    g.db.execute_query("UPDATE account SET amount = amount - 5 WHERE id = %s", (source,))
    if random.random() < 0.2:
        raise KeyError
    with g.db as connection:
        for _ in range(3):
            try:
                connection.cursor().execute("UPDATE account SET amount = amount + 5 WHERE id = %s", (target,))
                return
            except pymysql.err.OperationalError:
                pass
    raise KeyError


def test_the_sum_is_the_same_at_the_end(bank: Site, admin: Any, connect_args: dict[str, Any]) -> None:
    @bank.app.after_request
    def count(response: Response) -> Response:
        with suppress(pymysql.Error):
            g.db.execute_query("INSERT INTO visit () VALUES ()")
        return response

    @bank.app.post("/<how>")
    def index(how: str) -> Any:
        if how == "swallowed":
            try:
                with bank.db.transaction():
                    move()
            except KeyError:
                pass
        elif how == "block":
            with transaction(g.db):
                move()
        else:
            move()
        return "ok"

    statuses: Counter[int] = Counter()
    over = threading.Event()

    def visit() -> None:
        for _ in range(REQUESTS):
            how = random.choice(["swallowed", "block", "plain"])
            statuses[bank.client.post(f"/{how}").status_code] += 1

    def kill() -> None:
        with pymysql.connect(**connect_args, autocommit=True) as own:
            mine = (own.thread_id(), admin.thread_id(), connect_args["user"])
            while not over.wait(0.02):
                victim = ask(
                    own,
                    "SELECT id FROM information_schema.processlist WHERE id NOT IN (%s, %s) AND user = %s LIMIT 1",
                    *mine,
                )
                if victim:
                    with suppress(pymysql.Error):  # it has gone by itself
                        own.kill(victim)

    killer = threading.Thread(target=kill)
    visitors = [threading.Thread(target=visit) for _ in range(THREADS)]
    for thread in (killer, *visitors):
        thread.start()
    for thread in visitors:
        thread.join()
    over.set()
    killer.join()
    assert sum(statuses.values()) == THREADS * REQUESTS
    assert statuses.keys() <= {200, 500, 503}
    assert ask(admin, "SELECT SUM(amount) FROM account") == ACCOUNTS * 100
    assert bank.in_use == 0
