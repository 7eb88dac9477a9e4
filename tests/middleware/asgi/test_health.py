"""The readiness answer (behaviour 50)."""

from __future__ import annotations

import asyncio
import json
import socket
from time import monotonic
from typing import Any

from pymysqlpool.asgi import PoolMiddleware

from .support import (
    Exchange,
    Make,
    ok,
    routes,
    run,
    still,
)


async def readiness(app: Any, method: str = "GET") -> tuple[int, dict[str, Any]]:
    done = await asyncio.wait_for(Exchange(app, "/ready", method).run(), 10)
    return done.status, json.loads(done.body or b"{}")


def test_a_pool_that_is_exhausted_but_works_is_ready(make: Make) -> None:
    """50: it borrows nothing, does not queue, takes no slot, and does not even ask the server."""
    pool = make(size=1, maxsize=1, timeout=30)

    async def main() -> None:
        app = routes(pool, ok, ready_path="/ready")
        async with pool.get_connection():
            waiting = asyncio.create_task(Exchange(app, "/ok").run())
            while pool.stats().waiting < 1:
                await asyncio.sleep(0.001)
            before = pool.stats()
            assert await readiness(app) == (
                200,
                {
                    "ready": True,
                    "reason": "a connection was used a moment ago",
                    "in_use": 1,
                    "idle": 0,
                    "waiting": 1,
                    "maxsize": 1,
                },
            )
            assert await readiness(app, "HEAD") == (200, {})
            assert pool.stats() == before
        assert (await waiting).body == b"1"
        assert (await Exchange(app, "/ready", "POST").run()).status == 404, "only GET and HEAD are ours"

    run(main)


def test_without_recent_proof_the_server_is_asked_beside_the_pool(make: Make, admin: Any) -> None:
    """50: many requests at once ask it once."""
    pool = make(size=1, maxsize=1, timeout=30)

    def sessions() -> int:
        with admin.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Connections'")
            return int(cursor.fetchone()[1])

    async def main() -> None:
        app = PoolMiddleware(still, pool, ready_path="/ready")
        async with pool.get_connection():
            app._health.recent = 0.0  # what happened lately is no proof
            before = await asyncio.to_thread(sessions)
            answers = await asyncio.gather(*(readiness(app) for _ in range(20)))
            assert {(status, health["reason"]) for status, health in answers} == {(200, "the server answers")}
            assert await asyncio.to_thread(sessions) == before + 1
        app._health.recent = 60.0
        now = pool.stats()
        assert (now.borrowed, now.created) == (1, 1)

    run(main)


def test_a_database_that_is_down_is_not_ready(make: Make) -> None:
    """50: said within a second, also when it takes connections and never answers; a closed pool is not ready either."""
    down = make(host="127.0.0.1", port=1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        mute = make(host="127.0.0.1", port=silent.getsockname()[1], timeout=30)

        async def main() -> None:
            for pool in (down, mute):
                began = monotonic()
                status, health = await readiness(PoolMiddleware(still, pool, ready_path="/ready"))
                assert (status, health["reason"]) == (503, "no session could be opened (2003)")
                assert monotonic() - began < 5
            assert (await Exchange(PoolMiddleware(still, down)).run()).body == b"still", "liveness asks no server"
            closed = make()
            await closed.close()
            status, health = await readiness(PoolMiddleware(still, closed, ready_path="/ready"))
            assert (status, health["reason"]) == (503, "the pool is closed")

        run(main)
