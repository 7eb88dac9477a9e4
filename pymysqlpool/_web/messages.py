"""ASGI messages: their types, and a helper that sends a complete response.

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


async def answer(send: Send, method: str, status: int, kind: bytes, body: bytes, header: tuple[bytes, bytes]) -> None:
    """Send a complete response; the response to HEAD has no body."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), header]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
