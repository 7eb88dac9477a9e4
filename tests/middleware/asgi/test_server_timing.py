"""The Server-Timing header (behaviour 48)."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from pymysqlpool.asgi import PoolMiddleware, current_async_connection

from .support import (
    Exchange,
    Make,
    ok,
    routes,
    run,
    value,
)


def test_server_timing_is_added_when_something_was_borrowed(make: Make) -> None:
    """48"""
    pool = make()

    async def idle(request: Request) -> PlainTextResponse:
        return PlainTextResponse("idle")

    async def main() -> None:
        app = routes(pool, ok, idle, server_timing=True)
        assert (await Exchange(app, "/ok").run()).headers["server-timing"].startswith("dbwait;dur=")
        assert "server-timing" not in (await Exchange(app, "/idle").run()).headers

    run(main)


def test_server_timing_is_added_to_what_the_application_has_set(make: Make) -> None:
    """48: and is made of valid tokens; a request that borrowed nothing keeps the application's alone."""
    pool = make()

    async def main() -> None:
        for borrows in (True, False):
            heads: list[dict[str, Any]] = []

            async def app(scope: Any, receive: Any, send: Any, borrows: bool = borrows) -> None:
                if borrows:
                    await value(await current_async_connection())
                headers = [(b"server-timing", b"app;dur=1.5"), (b"x-other", b"kept")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"timed"})

            async def send(message: Any, heads: list[dict[str, Any]] = heads) -> None:
                if message["type"] == "http.response.start":
                    heads.append(message)

            exchange = Exchange(app)
            await PoolMiddleware(app, pool, server_timing=True)(exchange.scope, exchange.receive, send)
            (head,) = heads
            assert (b"x-other", b"kept") in head["headers"]
            timings = [text.decode() for name, text in head["headers"] if name == b"server-timing"]
            assert timings[0] == "app;dur=1.5"
            assert len(timings) == 1 + borrows
            for timing in timings[1:]:
                assert re.fullmatch(r'dbwait;dur=\d+\.\d+, db;dur=\d+\.\d+;desc="1 query"', timing), timing

    run(main)
