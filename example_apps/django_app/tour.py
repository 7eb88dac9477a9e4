"""A short tour of real requests to the running site, told in the terminal. Each step claims something and checks it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from typing import Any

from .sample import LIBRARIAN

CROWD = 60


class Visitor:
    """A browser, as far as a tour needs one: it keeps cookies, and fills in the token of a form."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))

    def get(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        body = urllib.parse.urlencode(form).encode() if form is not None else None
        try:
            with self._opener.open(self._base + path, body, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, path: str, **form: str) -> tuple[int, str]:
        """Open the page, and send its form."""
        _, page = self.get(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        return self.get(path, {**form, "csrfmiddlewaretoken": token[1] if token else ""})

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])


class Tour:
    def __init__(self, base: str, end_sessions: Callable[[], int], largest: int) -> None:
        self._base = base
        self._end_sessions = end_sessions
        self._largest = largest  # connections the pool may have

    def run(self) -> bool:
        """Go through all steps; True when everything was as claimed."""
        well = True
        for number, (claim, held, detail) in enumerate(self._steps(), 1):
            print(f"{number:3}. {'ok ' if held else 'NO '} {claim}\n          {detail}", flush=True)
            well &= held
        return well

    def _steps(self) -> Iterator[tuple[str, bool, str]]:
        visitor = Visitor(self._base)
        status, page = visitor.get("/")
        yield "a page of the site", status == 200, f"GET / says {status} with {page.count('/tool/')} tools to click on"

        sessions = {visitor.json("/api/tools.json")["session"] for _ in range(20)}
        yield (
            # A connection goes home after the answer was sent; the next request may be faster.
            "twenty requests, twenty threads, one database session or two: no request connects anew",
            len(sessions) <= 2,
            f"GET /api/tools.json was answered over session {' and '.join(map(str, sorted(sessions)))}",
        )

        pulse = visitor.json("/pulse.json")
        yield "an asynchronous view with the asynchronous ORM", pulse["tools"] > 0, f"GET /pulse.json says {pulse}"

        scarce = min(
            (one for one in visitor.json("/api/tools.json")["tools"] if one["left"]), key=lambda one: one["id"]
        )
        status, page = visitor.post(f"/tool/{scarce['id']}/", neighbour="A visitor")
        yield "a form is a transaction", status == 200 and "A visitor" in page, f"{scarce['name']} lent, and it shows"
        yield self._rush()
        yield self._ended_sessions(visitor)

        statuses = Counter(Visitor(self._base).get(f"/no/such/page/{number}")[0] for number in range(20))
        yield "error pages query too, and give back", statuses == {404: 20}, f"20 requests answered {dict(statuses)}"
        yield self._crowd()

        visitor.post("/admin/login/", username=LIBRARIAN, password=LIBRARIAN, next="/admin/")
        status, page = visitor.get("/admin/library/loan/")
        yield "Django's admin", status == 200 and "Select loan to change" in page, "the librarian sees the loans"
        status, page = visitor.get("/pool/")
        yield "the pool has a page", status == 200 and "in use" in page, "GET /pool/ shows its numbers"
        _, page = visitor.get("/pools/")
        _, other = Visitor(self._base).get("/pools/")
        staff_only = "Connection pools" in page and "Connection pools" not in other
        yield "and a status page for staff", staff_only, "GET /pools/ shows the librarian what holds connections"
        (numbers,) = visitor.json("/pools.json")["pools"]["default"]
        yield (
            "nothing is left behind",
            numbers["in_use"] <= 1 and numbers["leaked"] == 0,
            "lent {borrowed} times, {created} connections made, in use {in_use} (this request), leaked {leaked}".format(
                **numbers
            ),
        )

    def _rush(self) -> tuple[str, bool, str]:
        """Twelve neighbours want the same tool at the same moment; the row lock lets as many have it as there are."""
        tools = Visitor(self._base).json("/api/tools.json")["tools"]
        wanted = max(tools, key=lambda one: one["left"])

        def lend(number: int) -> int:
            return Visitor(self._base).post(f"/tool/{wanted['id']}/", neighbour=f"Neighbour {number}")[0]

        with ThreadPoolExecutor(12) as threads:
            statuses = Counter(threads.map(lend, range(12)))
        return (
            "select_for_update: twelve want the same tool at once, none gets one that is not there",
            statuses == {200: wanted["left"], 409: 12 - wanted["left"]},
            f"{wanted['left']} left of the {wanted['name'].lower()}: {statuses[200]} got one, {statuses[409]} did not",
        )

    def _ended_sessions(self, visitor: Visitor) -> tuple[str, bool, str]:
        ended = self._end_sessions()
        statuses = [visitor.get("/")[0] for _ in range(3)]
        return (
            "the server ends every session, and no visitor notices",
            ended > 0 and statuses == [200, 200, 200],
            f"{ended} sessions killed, the next requests say {statuses}",
        )

    def _crowd(self) -> tuple[str, bool, str]:
        def visit(number: int) -> int:
            return Visitor(self._base).get(("/", "/api/tools.json", "/pulse.json")[number % 3])[0]

        with ThreadPoolExecutor(CROWD) as threads:
            statuses = Counter(threads.map(visit, range(CROWD)))
        return (
            f"{CROWD} visitors at once on {self._largest} connections: they wait their turn",
            statuses == {200: CROWD},
            f"answered {dict(statuses)}",
        )
