"""The tour: real HTTP requests to the running board, and what the pool did about each.

Every step prints what the client saw and the pool's numbers before and after, and checks what it claims. A step that
does not show it says so, and the tour as a whole has failed.

Never: looks into the pool. It asks the board's own /pool.json, over HTTP, as the browser does.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

PATIENCE = 20.0  # seconds until a state that must come is missed
LATE = 0.15  # seconds by which a thread may be late to note that it was served
CARD = '<li class="card'


class Shown(Exception):
    """A step did not show what it claims."""


class Answer:
    """What a client saw."""

    def __init__(self, response: http.client.HTTPResponse, seconds: float) -> None:
        self.status, self.reason = response.status, response.reason
        self.session = int(response.getheader("X-Database-Connection") or 0)
        self.body = response.read().decode()
        self.seconds = seconds


class Tour:
    """Args: where the board is, and how to end sessions on the database server."""

    def __init__(self, host: str, port: int, end_sessions: Callable[[], list[int]]) -> None:
        self._address = host, port
        self._end_sessions = end_sessions
        self._color = sys.stdout.isatty()

    def run(self) -> bool:
        """All steps; whether each of them showed what it claims."""
        steps = (
            self.normal_page,
            self.integrity_error,
            self.killed_connection,
            self.crowd,
            self.abandoned_statement,
        )
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

    def normal_page(self) -> str:
        """A normal page."""
        page = self._ask("GET", "/", "the board")
        _claim(page.status == 200 and page.body.count(CARD) == 20, "the page with 20 notices")
        now = self._all_home()
        _claim(now["created"] == 1 and now["borrowed"] == 1, "one connection, made when the page asked for it")
        return "the page borrowed a connection at its first query, and the end of the request gave it back"

    def integrity_error(self) -> str:
        """A view that raises IntegrityError."""
        self._ask("POST", "/people", "a newcomer", name="Ines Tern")
        before = self._all_home()
        again = self._ask("POST", "/people", "the same name again", name="Ines Tern")
        page = self._ask("GET", "/", "the board")
        now = self._all_home()
        _claim(again.status == 409 and "IntegrityError" in again.body, "a 409 for the duplicate")
        _claim(page.session == again.session, "the next page on the same database session")
        _claim(_changes(before, now) == {}, "no connection made or discarded")
        return f"session {page.session} was rolled back and kept: the error was the application's, not the connection's"

    def killed_connection(self) -> str:
        """A connection killed on the server between requests."""
        first = self._ask("GET", "/", "the board")
        before = self._all_home()
        ended = self._end_sessions()
        print(f"   the database server ended session {', '.join(map(str, ended))}")
        page = self._ask("GET", "/", "the board")
        now = self._all_home()
        _claim(first.session in ended, "the pool's own session ended")
        _claim(page.status == 200 and page.body.count(CARD) == 20, "the page as always, no error")
        _claim(page.session not in ended, "a new session")
        _claim(_changes(before, now) == {"dead": len(ended), "created": 1}, "the dead found and one made instead")
        return f"the pool saw that the socket was dead before lending it, and made session {page.session}"

    def crowd(self) -> str:
        """More clients than connections."""
        limit = self._numbers()["maxsize"]
        number = 3 * limit
        answers: list[Answer | None] = [None] * number
        before = self._all_home()

        def client(index: int) -> None:
            # The first ones hold on until all have come; then connections come back one by one.
            hold = 1.2 + 0.06 * index if index < limit else 0.06 * limit
            answers[index] = self._send("GET", f"/report?hold={hold}")

        threads = [threading.Thread(target=client, args=(index,), daemon=True) for index in range(number)]
        for index, thread in enumerate(threads):
            thread.start()
            self._until(_arrived(index + 1), f"client {index + 1} got a connection or a place in the queue")
        queue = self._numbers()
        for thread in threads:
            thread.join(PATIENCE)
        now = self._all_home()
        served = [json.loads(answer.body) for answer in answers if answer is not None and answer.status == 200]
        print(f"   {number} clients asked for GET /report: {len(served)} got 200 OK")
        _claim(len(served) == number, "an answer to each request")
        print(f"   when all had come: {_line(queue)}")
        waits = [report["waited"] * 1000 for report in served]
        print(f"   waited (ms): {' '.join(f'{wait:.0f}' for wait in waits)}")
        times = [report["served_at"] for report in served]
        _claim(queue["waiting"] == number - limit, f"{number - limit} clients waiting")
        _claim(now["total"] <= limit and now["waits"] - before["waits"] >= number - limit, "the bound held")
        _claim(all(times[i] > max(times[:i]) - LATE for i in range(1, number)), "service in order of arrival")
        return f"never more than {limit} connections; {number - limit} clients waited and were served as they had come"

    def abandoned_statement(self) -> str:
        """A statement abandoned half-way."""
        before = self._all_home()
        with socket.create_connection(self._address, timeout=PATIENCE) as client:
            client.sendall(b"GET /export.csv HTTP/1.0\r\n\r\n")
            read = len(client.recv(4096))
            self._until(lambda now: now["in_use"] == 1, "the export holds a connection")
            # Gone at once, without closing in order: a browser that was closed.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left = time.monotonic()
        now = self._all_home()
        seconds = time.monotonic() - left
        print(f"   GET /export.csv  the client read {read} bytes of the stream and hung up")
        _claim(_changes(before, now) == {"interrupted": 1}, "the half-read connection discarded, and no other")
        page = self._ask("GET", "/", "the board")
        _claim(page.status == 200 and page.body.count(CARD) == 20, "the next page with its own rows")
        return f"rows were still under way, so that connection is not lent again; it was gone {seconds:.2f} s later"

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

    def _ask(self, method: str, path: str, what: str, **form: str) -> Answer:
        answer = self._send(method, path, **form)
        print(
            f"   {method} {path}  {what}: {answer.status} {answer.reason}, {answer.seconds * 1000:.0f} ms, "
            f"database session {answer.session}"
        )
        return answer

    def _numbers(self) -> dict[str, Any]:
        numbers: dict[str, Any] = json.loads(self._send("GET", "/pool.json").body)
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


def _arrived(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda now: bool(now["in_use"] + now["waiting"] >= number)


def _claim(true: bool, what: str) -> None:
    if not true:
        raise Shown(f"expected {what}")


def _line(numbers: dict[str, Any]) -> str:
    discarded = ", ".join(f"{number} {reason}" for reason, number in numbers["discarded"].items()) or "none"
    return (
        f"{numbers['in_use']} in use, {numbers['idle']} idle of {numbers['maxsize']}, {numbers['waiting']} waiting | "
        f"borrowed {numbers['borrowed']}, created {numbers['created']}, discarded: {discarded}"
    )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, int]:
    """Connections made and discarded meanwhile."""
    changes = {reason: count - before["discarded"].get(reason, 0) for reason, count in now["discarded"].items()}
    changes["created"] = now["created"] - before["created"]
    return {name: change for name, change in changes.items() if change}
