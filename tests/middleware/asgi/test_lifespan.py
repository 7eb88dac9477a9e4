"""Starting and ending with the server; scopes that are not ours (behaviour 58)."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette

from pymysqlpool.asgi import PoolMiddleware

from .support import (
    Make,
    run,
)


async def live(app: Any) -> list[dict[str, Any]]:
    """One lifespan, as a server drives it; returns what the application said."""
    said: list[dict[str, Any]] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(events)

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app({"type": "lifespan"}, receive, send)
    return said


async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"


@pytest.mark.parametrize("inner", [Starlette(), no_lifespan], ids=["starlette", "plain"])
def test_the_lifespan_ends_a_pool_that_the_middleware_owns(make: Make, inner: Any) -> None:
    """58: whether the application has a lifespan itself or not."""
    pool = make()

    async def main() -> None:
        said = await live(PoolMiddleware(inner, pool, owns_pool=True, eager=True))
        assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    run(main)
    assert pool.stats().created == 1
    assert "closed" in repr(pool)


@pytest.mark.parametrize("inner", [Starlette(), no_lifespan], ids=["starlette", "plain"])
def test_a_start_that_fails_is_said_only_when_eager(make: Make, inner: Any) -> None:
    """58"""

    async def main() -> None:
        for eager in (False, True):
            pool = make(host="127.0.0.1", port=1, timeout=0.1)
            said = await live(PoolMiddleware(inner, pool, owns_pool=True, eager=eager))
            assert said[0]["type"] == ("lifespan.startup.failed" if eager else "lifespan.startup.complete")
            assert len(said) == (1 if eager else 2)

    run(main)


def test_other_scopes_are_handed_on_untouched(make: Make) -> None:
    """58"""
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    async def main() -> None:
        untouched: Any = ({"type": "mail"}, object(), object())
        await PoolMiddleware(app, make())(*untouched)
        assert all(one is other for one, other in zip(seen[0], untouched, strict=True))
        assert untouched[0] == {"type": "mail"}
        with pytest.raises(AssertionError):
            await PoolMiddleware(no_lifespan, make())({"type": "lifespan"}, *untouched[1:])

    run(main)


@pytest.mark.parametrize("pool", [None, "mysql://localhost", 5])
def test_what_is_no_pool_is_refused_when_the_application_is_made(pool: Any) -> None:
    with pytest.raises(TypeError, match=f"needs an AsyncConnectionPool or a ConnectionPool, not {type(pool).__name__}"):
        PoolMiddleware(no_lifespan, pool)
