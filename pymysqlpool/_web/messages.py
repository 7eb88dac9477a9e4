"""What an ASGI server and an application say to each other: the types, and a whole answer in one call.

Never: knows of pools.
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
    """Send a whole response; one to HEAD has no body."""
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), header]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
