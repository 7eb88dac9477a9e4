"""Plain WSGI."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pymysqlpool.wsgi import PoolMiddleware

from . import book

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def visitors_book(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
    text = [("Content-Type", "text/plain; charset=utf-8")]
    if path == "/numbers":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(book.numbers()).encode()]
    if path == "/all":
        start_response("200 OK", text)
        return book.stream()
    if path != "/":
        start_response("404 Not Found", text)
        return [b"There is only one page.\n"]
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        answer = book.write(environ["wsgi.input"].read(length).decode()) if method == "POST" else book.read()
    except ValueError as error:
        start_response("400 Bad Request", text)
        return [f"{error}\n".encode()]
    start_response("200 OK", text)
    return [answer.encode()]


book.open_book()
application = PoolMiddleware(visitors_book, book.pool, transaction="request")
