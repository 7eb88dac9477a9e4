"""A WSGI and an ASGI application that makes one page for each request.

Never: looks at the path (the mounting application has done so), reads a body, lets a page be cached or framed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Answer = tuple[str, bytes]  # content type, body

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def serve_wsgi(make: Callable[[], Answer]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Type", "text/plain")])
            return [b"GET or HEAD\n"]
        kind, body = make()
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS.items()])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def serve_asgi(make: Callable[[], Answer]) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this page answers http, not {scope['type']!r}")
        status, kind, body = 405, "text/plain", b"GET or HEAD\n"
        headers = {"Allow": "GET, HEAD"}
        if scope["method"] in ("GET", "HEAD"):
            kind, body = await asyncio.to_thread(make)  # it reads files
            status, headers = 200, HEADERS
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return application
