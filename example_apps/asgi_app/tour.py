"""The tour: real HTTP requests and websockets to the running log, and what the pool did about each.

Every step prints what the clients saw and the pool's numbers before and after, and checks what it claims. A step that
does not show it says so, and the tour as a whole has failed.

Never: looks into the pool. It asks the application's own /numbers, over HTTP, as the browser does.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlencode

from websockets.sync.client import connect

PATIENCE = 20.0  # seconds until a state that must come is missed
STREAMS = 25
CROWD = 60


class Shown(Exception):
    """A step did not show what it claims."""


class Answer:
    """What a client saw."""

    def __init__(self, response: http.client.HTTPResponse, seconds: float) -> None:
        self.status, self.reason = response.status, response.reason
        self.retry_after = response.getheader("Retry-After")
        self.timing = response.getheader("Server-Timing")
        self.body = response.read().decode()
        self.seconds = seconds


class Tour:
    """Args: where the log is."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._color = sys.stdout.isatty()

    def run(self) -> bool:
        """All steps; whether each of them showed what it claims."""
        steps = (self.two_kinds, self.crowd, self.open_streams, self.cancelled_statement, self.busy)
        well = True
        for number, step in enumerate(steps, 1):
            title = (step.__doc__ or "").rstrip(".")
            print(f"\n{self._paint('1', f'{number}. {title}')}")
            before = self._numbers()
            try:
                shown = step()
            except (Shown, OSError, http.client.HTTPException) as error:
                well = False
                mark, shown = self._paint("31", "NOT SHOWN"), str(error) or repr(error)
            else:
                mark = self._paint("32", "shown")
            print(f"   pool before  {_line(before)}")
            print(f"   pool after   {_line(self._numbers())}")
            print(f"   {mark}: {shown}", flush=True)
        return well

    # -- the steps -------------------------------------------------------------------------------------------

    def two_kinds(self) -> str:
        """An async endpoint, and a sync one in a thread."""
        page = self._ask("GET", "/")
        ships = self._ask("GET", "/ships")
        now = self._all_home()
        _claim(page.status == 200 and page.body.count("<li>") == 20, "the page with 20 entries")
        _claim(ships.status == 200 and len(json.loads(ships.body)) == 10, "the numbers of 10 ships")
        _claim(now["created"] == 1 and now["borrowed"] == 2, "one connection, lent twice")
        _claim("<dt>in use</dt>" in self._send("GET", "/pools/").body, "the status page")
        return f"one pool for both, each borrowed at its first query (Server-Timing: {page.timing})"

    def crowd(self) -> str:
        """Sixty requests at once."""
        before = self._all_home()
        with ThreadPoolExecutor(CROWD) as clients:
            paths = ["/ships" if number % 2 else "/" for number in range(CROWD)]
            answers = list(clients.map(lambda path: self._send("GET", path), paths))
        now = self._all_home()
        good = sum(answer.status == 200 for answer in answers)
        slowest = max(answer.seconds for answer in answers) * 1000
        print(f"   {CROWD} clients, half of them to the sync endpoint: {good} got 200 OK, in {slowest:.0f} ms at most")
        _claim(good == CROWD, "an answer to each request")
        _claim(now["total"] <= now["maxsize"] and now["borrowed"] - before["borrowed"] == CROWD, "the bound held")
        return f"{now['waits'] - before['waits']} waited, on the event loop or in their thread, and none in vain"

    def open_streams(self) -> str:
        """Open streams and idle websockets."""
        with ExitStack() as open_ones:
            last = int(max(_ids(self._send("GET", "/").body), default=0))
            streams = [open_ones.enter_context(self._listening(last)) for _ in range(STREAMS)]
            sockets = [
                open_ones.enter_context(connect(f"ws://{self._address[0]}:{self._address[1]}/radio"))
                for _ in range(STREAMS)
            ]
            idle = self._until(lambda now: now["in_use"] == 0, "nothing is lent while all of them are open")
            print(f"   {STREAMS} streams and {STREAMS} websockets are open: {_line(idle)}")
            said = self._ask("POST", "/entries", ship="Kestrel", remark="enters the harbour")
            _claim(said.status == 303, "a new entry")
            heard = [next(stream) for stream in streams]
            _claim(all(entry["ship"] == "Kestrel" for entry in heard), "every stream tells of it")
            for socket in sockets:
                socket.send("Kestrel")
            answers = {str(socket.recv(PATIENCE)) for socket in sockets}
            _claim(answers == {"Kestrel enters the harbour"}, "every websocket answers")
            self._until(lambda now: now["in_use"] == 0, "nothing is lent again")
        return (
            f"{2 * STREAMS} clients were served by {idle['maxsize']} connections, and hold none while nothing happens"
        )

    def cancelled_statement(self) -> str:
        """A statement that is cancelled."""
        before = self._all_home()
        slow = self._ask("GET", "/weather?seconds=30&patience=0.3")
        now = self._all_home()
        _claim(slow.status == 504 and slow.seconds < PATIENCE / 2, "a 504 in time")
        _claim(sum(now["discarded"].values()) - sum(before["discarded"].values()) == 1, "its connection discarded")
        with ThreadPoolExecutor(8) as clients:
            pages = list(clients.map(lambda _: self._send("GET", "/"), range(24)))
        _claim(all(page.status == 200 and page.body.count("<li>") == 20 for page in pages), "all pages with their rows")
        return "the connection that a thread still used was not lent; the server was told to stop the statement"

    def busy(self) -> str:
        """More than the pool can do in time."""
        limit = self._all_home()["maxsize"]
        with ThreadPoolExecutor(2 * limit) as clients:
            slow = [clients.submit(self._send, "GET", "/weather?seconds=2.5&patience=9") for _ in range(limit)]
            self._until(lambda now: now["in_use"] == limit, "all connections are in use")
            late = self._ask("GET", "/")
            _claim(late.status == 503 and late.retry_after is not None, "503 with Retry-After")
            _claim(all(one.result().status == 200 for one in slow), "the others get their answers")
        page = self._ask("GET", "/")
        _claim(page.status == 200, "the next page as always")
        return f"told after {late.seconds:.1f} s to come back in {late.retry_after} s, instead of waiting for ever"

    # -- asking ----------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, **form: str) -> Answer:
        connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE)
        try:
            started = time.monotonic()
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            connection.request(method, path, urlencode(form) if form else None, headers)
            return Answer(connection.getresponse(), time.monotonic() - started)
        finally:
            connection.close()

    def _ask(self, method: str, path: str, **form: str) -> Answer:
        answer = self._send(method, path, **form)
        print(f"   {method} {path}: {answer.status} {answer.reason}, {answer.seconds * 1000:.0f} ms")
        return answer

    @contextmanager
    def _listening(self, after: int) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a stream, from an open connection."""
        connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE)
        connection.request("GET", f"/news?after={after}")
        response = connection.getresponse()
        try:
            yield (json.loads(line[5:]) for line in response if line.startswith(b"data:"))
        finally:
            response.close()
            connection.close()

    def _numbers(self) -> dict[str, Any]:
        numbers: dict[str, Any] = json.loads(self._send("GET", "/numbers").body)
        return numbers

    def _until(self, state: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not state(now := self._numbers()):
            if time.monotonic() > deadline:
                raise Shown(f"expected that {what}; the pool: {_line(now)}")
            time.sleep(0.002)
        return now

    def _all_home(self) -> dict[str, Any]:
        """The numbers once nothing is lent: a client has its answer a moment before the pool has its connection."""
        return self._until(
            lambda now: now["in_use"] + now["waiting"] + now["closing"] == 0, "all connections come home"
        )

    def _paint(self, color: str, text: str) -> str:
        return f"\033[{color}m{text}\033[0m" if self._color else text


def _ids(page: str) -> list[str]:
    return [part.split('"')[0] for part in page.split("/news?after=")[1:]]


def _claim(true: bool, what: str) -> None:
    if not true:
        raise Shown(f"expected {what}")


def _line(numbers: dict[str, Any]) -> str:
    discarded = ", ".join(f"{number} {reason}" for reason, number in numbers["discarded"].items()) or "none"
    return (
        f"{numbers['in_use']} in use, {numbers['idle']} idle of {numbers['maxsize']}, {numbers['waiting']} waiting | "
        f"borrowed {numbers['borrowed']}, created {numbers['created']}, discarded: {discarded}"
    )
