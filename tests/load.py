"""An application under a crowd: 200 clients on a pool of 8, of whom some hang up, while sessions are killed.

Kept out of CI except for short runs; `scripts/load [SECONDS] [--server NAME]` runs it (120 s, gunicorn gthread). What
runs is the Flask example under WSGI servers, `load_starlette` under uvicorn and hypercorn, `load_django` under daphne
and runserver.

Each client asks for one thing after the other and knows what the right answer is: pages whose text it knows, numbers
that are its own, changes that it looks for at the end, streams with every row, errors that a view raises with a
transaction open and its session in disorder. At the end: every answer was right or a clean 503, every change that was
acknowledged is there exactly once, nothing is lent, no request waited much longer than the pool's timeout, and no
client was left behind. Exits 1 if not. Prints its figures.

`application()` is the example with three views more.
"""

from __future__ import annotations

import argparse
import csv
import html
import http.client
import io
import json
import os
import random
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pymysql
from flask import Flask, Response, stream_with_context
from pymysql.cursors import SSCursor

from example_apps.flask_app import data
from example_apps.flask_app.app import create_app, db
from pymysqlpool import ConnectionPool
from pymysqlpool.devserver import DevServer
from pymysqlpool.refusals import BUSY
from pymysqlpool_flask import g
from tests.serving import Web, serving
from tests.support import wait_until

CLIENTS = 200
SLOTS = 8
TIMEOUT = 4.0  # seconds that a request waits for a connection
BLOCK_EVERY = 10.0  # seconds; then all connections are held for longer than that, and there must be 503s
SLACK = 15.0  # seconds beyond it in which an answer must have come: two cores serve 200 clients and are them
KILL_EVERY = 0.25  # seconds
APPLICATIONS = {
    "gunicorn gthread": "tests.load:app",
    "gunicorn gevent": "tests.load:app",
    "gunicorn sync": "tests.load:app",
    "waitress": "tests.load:app",
    "uvicorn": "tests.load_starlette:app",
    "hypercorn": "tests.load_starlette:app",
    "daphne": "tests.load_django:asgi",
    "runserver": "tests.load_django:wsgi",
}
SERVERS = tuple(APPLICATIONS)
BUSY_PAGES = {  # what a clean 503 says
    "tests.load": "The board is crowded just now",
    "tests.load_starlette": BUSY,
    "tests.load_django": "The site is busy.",
}
ONE_AT_A_TIME = ("gunicorn sync",)  # a request after the other: the pool is never exhausted
FEW = 12  # clients of such a server, each of whom waits for all others
# What a server does with a stream that fails, with any application: runserver sends neither a length nor chunks, so the
# client cannot see it; daphne keeps the client waiting.
HIDES_A_BREAK = ("runserver",)
WAITS_AT_A_BREAK = ("daphne",)


# -- the application -----------------------------------------------------------------------------------------


def application() -> Flask:
    app = create_app({"SECRET_KEY": "only for a test"})

    @app.get("/echo/<token>")
    def echo(token: str) -> dict[str, Any]:
        """What the session is like before this request has touched it, and an answer of its own."""
        with g.db.cursor() as cursor:
            cursor.execute("SELECT @left, DATABASE(), @@autocommit, @@sql_mode = @@global.sql_mode, %s", (token,))
            left, database, autocommit, as_new, answer = cursor.fetchone()
        return {"clean": left is None and database == "board" and not autocommit and bool(as_new), "answer": answer}

    @app.post("/disorder/<token>")
    def disorder(token: str) -> str:
        """Leave a mess, and raise an unhandled exception."""
        with g.db.cursor() as cursor:
            cursor.execute("SET @left = %s, SESSION sql_mode = '', autocommit = 1", (token,))
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO person (name) VALUES (%s)", (f"never {token}",))
            cursor.execute("USE mysql")
        raise LookupError("as the load wants it")

    @app.get("/broken/<token>")
    def broken(token: str) -> Response:
        """A stream that fails in its middle, with rows unread."""

        def lines() -> Iterator[str]:
            cursor: Any = g.db.cursor(SSCursor)
            cursor.execute("SELECT %s, id FROM notice", (token,))
            yield f"{cursor.fetchone()[0]}\n"
            raise LookupError("as the load wants it")

        return Response(stream_with_context(lines()), mimetype="text/plain")

    @app.get("/numbers")
    def numbers() -> dict[str, Any]:
        return {**dict(app.view_functions["pool_numbers"]()), "wait_time": db.pool.stats().wait_time}

    return app


# -- the clients ---------------------------------------------------------------------------------------------


class Wrong(Exception):
    """An answer that is neither right nor a clean 503."""


class Cut(Exception):
    """A stream that ended early and showed it: the client knows that it has not all."""


class Crowd:
    """What all clients know and write down."""

    def __init__(self, web: Web, known: dict[int, str], server_name: str, timeout: float, block_every: float) -> None:
        self.web = web
        self.timeout = timeout  # seconds, of the pool
        self.block_every = block_every  # seconds
        self.server_name = server_name
        self.busy = BUSY_PAGES[APPLICATIONS[server_name].partition(":")[0]]
        self.known = known  # titles of notices by number
        self.stop = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest = 0.0  # seconds for one answer
        self.acknowledged: list[str] = []  # names and replies whose page said that they are there

    def note(self, what: str, seconds: float = 0.0) -> None:
        with self._lock:
            self.statuses[what] += 1
            self.longest = max(self.longest, seconds)

    def complain(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)

    def acknowledge(self, token: str) -> None:
        with self._lock:
            self.acknowledged.append(token)


class Client(threading.Thread):
    def __init__(self, crowd: Crowd, number: int) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.crowd = crowd
        self.chance = random.Random(number)
        self.number = number
        self.asked = 0
        self.answers = 0

    def run(self) -> None:
        wishes: list[tuple[Callable[[], None], int]] = [
            (self.see_a_notice, 24),
            (self.see_the_board, 8),
            (self.hear_an_echo, 24),
            (self.move_to_town, 8),
            (self.reply, 10),
            (self.lose_the_way, 4),
            (self.be_disorderly, 8),
            (self.read_everything, 1),
            (self.see_a_stream_break, 4),
            (self.wait_for_the_report, 3),
            (self.hang_up, 6),
        ]
        if self.crowd.server_name in WAITS_AT_A_BREAK:
            wishes.remove((self.see_a_stream_break, 4))
        kinds, weights = zip(*wishes, strict=True)
        while not self.crowd.stop.is_set():
            (wish,) = self.chance.choices(kinds, weights)
            self.asked += 1
            try:
                wish()
                self.answers += 1
            except Cut:
                self.crowd.note("stream cut off, and seen to be")
            except Wrong as wrong:
                self.crowd.complain(f"{wish.__name__}: {wrong}")
            except (OSError, http.client.HTTPException) as error:
                self.crowd.complain(f"{wish.__name__}: no answer: {error!r}")

    @property
    def token(self) -> str:
        return f"{self.number}-{self.asked}"

    # -- what they want ----------------------------------------------------------------------------------------

    def see_a_notice(self) -> None:
        number = self.chance.choice(list(self.crowd.known))
        page = self.ask("GET", f"/notice/{number}", 200)
        self.check(page is None or html.escape(self.crowd.known[number], quote=False) in _plain(page), "another notice")

    def see_the_board(self) -> None:
        page = self.ask("GET", f"/?page={self.chance.randint(1, 100)}", 200)
        self.check(page is None or page.count('<li class="card') == 20, "not 20 notices")

    def hear_an_echo(self) -> None:
        answer = self.ask("GET", f"/echo/{self.token}", 200)
        self.check(answer is None or json.loads(answer) == {"clean": True, "answer": self.token}, f"{answer}")

    def move_to_town(self) -> None:
        name = f"n{self.token}"
        if self.ask("POST", "/people", 302, name=name) is not None:
            self.crowd.acknowledge(name)
            page = self.ask("POST", "/people", 409, name=name)
            self.check(page is None or f"is called {name} already" in page, "another name")

    def reply(self) -> None:
        body = f"r{self.token}"
        if (
            self.ask(
                "POST", f"/notice/{self.chance.choice(list(self.crowd.known))}/reply", 302, body=body, name=self.name
            )
            is not None
        ):
            self.crowd.acknowledge(body)

    def lose_the_way(self) -> None:
        page = self.ask("GET", "/notice/99999999", 404)
        self.check(page is None or "Blown away" in page, "another page")

    def be_disorderly(self) -> None:
        self.ask("POST", f"/disorder/{self.token}", 500)

    def read_everything(self) -> None:
        answer = self.ask("GET", "/export.csv", 200, stream=True)
        if answer is not None:
            numbers = [int(row[0]) for row in list(csv.reader(io.StringIO(answer)))[1:]]
            wanted = sorted(self.crowd.known)
            if self.crowd.server_name in HIDES_A_BREAK:
                wanted = wanted[: len(numbers)]  # the session was killed in between, and the client is not told
            self.check(numbers == wanted, f"{len(numbers)} of {len(self.crowd.known)} rows")

    def see_a_stream_break(self) -> None:
        try:
            answer = self.ask("GET", f"/broken/{self.token}", 200, stream=True)
        except Cut:
            self.crowd.note("200, broken off as it should")
            return
        if self.crowd.server_name in HIDES_A_BREAK:
            self.check(answer in (None, f"{self.token}\n"), f"another stream: {answer!r}")
            return
        self.check(answer is None, f"a whole answer to what breaks: {answer!r}")

    def wait_for_the_report(self) -> None:
        answer = self.ask("GET", f"/report?hold={self.chance.uniform(0.05, 0.4)}", 200)
        counted = None if answer is None else sum(topic["notices"] for topic in json.loads(answer)["report"])
        self.check(counted in (None, len(self.crowd.known)), "another report")

    def hang_up(self) -> None:
        """Half-way in the request, before the answer, or in the middle of a stream; without closing in order."""
        with self.crowd.web.connect() as client:
            path = self.chance.choice(("/", "/export.csv", "/report?hold=0.2", f"/echo/{self.token}"))
            request = f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()
            kind = self.chance.randrange(3)
            client.sendall(request[: len(request) // 2] if kind == 0 else request)
            if kind == 2:
                client.settimeout(self.crowd.timeout + SLACK)
                client.recv(500)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.crowd.note("the client hung up")

    # -- asking ----------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, right: int, stream: bool = False, **form: str) -> str | None:
        """The body of the right answer; None where it was a clean 503."""
        connection = http.client.HTTPConnection("127.0.0.1", self.crowd.web.port, timeout=self.crowd.timeout + SLACK)
        started = time.monotonic()
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request(method, path, urlencode(form) if form else None, headers)
            answer = connection.getresponse()
            head = time.monotonic()
            try:
                body = answer.read().decode()
            except (http.client.IncompleteRead, ConnectionError) as error:
                if stream:
                    raise Cut from error
                raise Wrong(f"{answer.status} with half a body: {error!r}") from error
        finally:
            connection.close()
        self.crowd.note(str(answer.status), (head if stream else time.monotonic()) - started)
        if answer.status == 503:
            clean = int(answer.headers.get("Retry-After", 0)) >= 1 and self.crowd.busy in body
            self.check(clean and "Traceback" not in body, f"a 503 that is not clean: {body[-200:]!r}")
            return None
        self.check(answer.status == right, f"{answer.status} instead of {right}: {body[-200:]!r}")
        return body

    def check(self, right: bool, otherwise: str) -> None:
        if not right:
            raise Wrong(otherwise)


class Blocker(Client):
    """One of the requests that, together, take every connection."""

    def run(self) -> None:
        while not self.crowd.stop.wait(self.crowd.block_every):
            try:
                self.ask("GET", f"/report?hold={held_for(self.crowd.timeout)}", 200)
            except (Wrong, OSError, http.client.HTTPException) as error:
                self.crowd.complain(f"blocker: {error!r}")


def held_for(timeout: float) -> float:
    """How many seconds a blocker holds a connection: they do not begin at the same moment."""
    return min(5.0, timeout + 2)  # /report allows no more


def _plain(page: str) -> str:
    return page.replace("&#39;", "'").replace("&#34;", '"')


# -- the disturbances, and the judgement -----------------------------------------------------------------------


def kill_sessions(server: DevServer, stop: threading.Event, timeout: float) -> int:
    """End one of the board's sessions now and then, whatever it is doing; but let the blockers block."""
    chance, killed = random.Random(0), 0
    with pymysql.connect(**server.connect_args) as admin, admin.cursor() as cursor:
        while not stop.wait(KILL_EVERY):
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE id <> CONNECTION_ID() AND db = 'board' AND COALESCE(info, '') NOT LIKE %s",
                (f"SELECT SLEEP({held_for(timeout):g}%",),
            )
            sessions = [number for (number,) in cursor.fetchall()]
            if sessions:
                try:
                    cursor.execute("KILL CONNECTION %s", (chance.choice(sessions),))
                    killed += 1
                except pymysql.err.OperationalError as error:
                    if error.args[0] != 1094:  # it has ended by itself
                        raise
    return killed


def written(server: DevServer) -> Counter[str]:
    """What is committed of what the clients wanted to write, and how often."""
    with pymysql.connect(**server.connect_args) as admin, admin.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM person WHERE name REGEXP '^(n[0-9]|never)'"
            " UNION ALL SELECT body FROM reply WHERE body REGEXP '^r[0-9]'"
        )
        return Counter(text for (text,) in cursor.fetchall())


def run(
    seconds: float,
    server_name: str = SERVERS[0],
    clients: int = CLIENTS,
    report: Any = print,
    timeout: float = TIMEOUT,
    block_every: float = BLOCK_EVERY,
) -> list[str]:
    """The load; returns what was wrong."""
    with (
        DevServer(database="board") as database,
        tempfile.TemporaryFile("w+") as log,
    ):
        with ConnectionPool(**database.connect_args) as pool:
            data.load(pool)
            with pool.get_connection() as connection:
                connection.execute("SELECT id, title FROM notice")
                known = dict(connection.fetchall())
        environment = {"FLASK_PYMYSQLPOOL__" + key.upper(): str(value) for key, value in database.connect_args.items()}
        environment |= {"FLASK_PYMYSQLPOOL__SIZE": str(SLOTS), "FLASK_PYMYSQLPOOL__MAXSIZE": str(SLOTS)}
        environment |= {"FLASK_PYMYSQLPOOL__TIMEOUT": str(timeout)}
        environment["BOARD"] = json.dumps(_board(server_name, database.connect_args, timeout))
        one_at_a_time = server_name in ONE_AT_A_TIME
        clients = min(clients, FEW) if one_at_a_time else clients
        with serving(server_name, APPLICATIONS[server_name], environment, threads=clients + 2 * SLOTS, log=log) as web:
            crowd, killers = Crowd(web, known, server_name, timeout, block_every), threading.Event()
            people = [Client(crowd, number) for number in range(clients)]
            blockers = [Blocker(crowd, clients + number) for number in range(0 if one_at_a_time else SLOTS)]
            killed: list[int] = []
            killer = threading.Thread(target=lambda: killed.append(kill_sessions(database, killers, timeout)))
            started = time.monotonic()
            for thread in (killer, *people, *blockers):
                thread.start()
            crowd.stop.wait(seconds)  # so long the load is to last; nothing ends it sooner
            crowd.stop.set()
            for client in (*people, *blockers):
                client.join(timeout + 2 * SLACK)
            killers.set()
            killer.join()
            lasted = time.monotonic() - started
            numbers = _all_home(web)
        return judge(crowd, people, killed, lasted, numbers, written(database), log, report)


def _board(server_name: str, connect_args: dict[str, Any], timeout: float) -> dict[str, Any]:
    if APPLICATIONS[server_name].startswith("tests.load_django"):
        return {**connect_args, "pool": {"min_size": SLOTS, "max_size": SLOTS, "timeout": timeout}}
    return {**connect_args, "size": SLOTS, "maxsize": SLOTS, "timeout": timeout}


def _all_home(web: Web) -> dict[str, Any]:
    numbers: dict[str, Any] = {}

    def home() -> bool:
        numbers.update(json.loads(web.ask("GET", "/numbers")[1]))
        return bool(numbers["in_use"] + numbers["waiting"] == 0)

    with suppress(AssertionError):  # the judgement tells what is missing
        wait_until(home, "all are home", SLACK)
    return numbers


def judge(
    crowd: Crowd,
    people: list[Client],
    killed: list[int],
    lasted: float,
    numbers: dict[str, Any],
    there: Counter[str],
    log: Any,
    report: Any,
) -> list[str]:
    wrong = list(crowd.wrong)
    wrong += [f"{client.name} hangs" for client in people if client.is_alive()]
    wrong += [
        f"{token} was acknowledged and is there {there[token]} times"
        for token in crowd.acknowledged
        if there[token] != 1
    ]
    wrong += [f"{token} is there {count} times" for token, count in there.items() if count > 1]
    wrong += [f"{token} is there, and was to be rolled back" for token in there if token.startswith("never")]
    for gauge in ("in_use", "waiting", "leaked", "closing"):
        if numbers[gauge]:
            wrong.append(f"at the end {gauge}={numbers[gauge]}")
    if numbers["total"] > SLOTS:
        wrong.append(f"{numbers['total']} connections of {SLOTS}")
    if (
        crowd.server_name not in ONE_AT_A_TIME
        and lasted > crowd.block_every + held_for(crowd.timeout)
        and not numbers["timeouts"]
    ):
        wrong.append("the pool was exhausted for longer than its timeout, and refused nothing")
    if crowd.longest > crowd.timeout + SLACK:
        wrong.append(f"a request waited {crowd.longest:.1f} s")
    answers = sorted(client.answers for client in people)
    if answers[0] < statistics.median(answers) / 10:
        wrong.append(f"a client was left behind: {answers[0]} answers, where half had {statistics.median(answers)}")
    report(f"{sum(crowd.statuses.values()) / lasted:.0f} requests/s of {len(people)} clients for {lasted:.0f} s")
    for what, number in sorted(crowd.statuses.items()):
        report(f"  {number:7} {what}")
    report(f"{sum(killed)} sessions killed; the pool: {json.dumps(numbers)}")
    report(f"changes acknowledged: {len(crowd.acknowledged)}, each there once unless said below")
    report(f"longest wait for an answer: {crowd.longest:.2f} s (the pool's timeout is {crowd.timeout:g} s)")
    report(f"answers to one client: least {answers[0]}, median {statistics.median(answers):.0f}, most {answers[-1]}")
    report(f"wrong: {len(wrong)}")
    for each in wrong[:20]:
        report(f"  {each}")
    if wrong:
        log.seek(0)
        report("the server's last words:\n" + "".join(log.readlines()[-60:]))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/load", description="An application under a crowd.")
    parser.add_argument("seconds", type=float, nargs="?", default=120.0)
    parser.add_argument("--server", choices=SERVERS, default=SERVERS[0])
    given = parser.parse_args()
    return 1 if run(given.seconds, given.server) else 0


app = application() if "FLASK_PYMYSQLPOOL__HOST" in os.environ else None

if __name__ == "__main__":
    sys.exit(main())
