"""ASGI messages: their types, a helper that sends a complete response, and one that reads a header.

Never: knows about pools.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


async def answer(send: Send, method: str, status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> None:
    """Send a complete response, with `more` headers; the response to HEAD has no body."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def header_of(scope: Scope, name: str) -> str | None:
    """The value of a request's header; None where there is none. The cookies may come in several (HTTP/2)."""
    wanted = name.lower().encode()
    found = [value for key, value in scope.get("headers", ()) if key == wanted]
    return b"; ".join(found).decode("latin-1") if found else None
