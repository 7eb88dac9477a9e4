"""Bottle."""

from __future__ import annotations

from collections.abc import Iterator

import bottle

from pymysqlpool.wsgi import PoolMiddleware

from . import book

app = bottle.Bottle()


@app.get("/")
def read() -> str:
    return book.read()


@app.post("/")
def write() -> str:
    try:
        return book.write(bottle.request.body.read().decode())
    except ValueError as error:
        raise bottle.HTTPError(400, str(error)) from error


@app.get("/all")
def everything() -> Iterator[bytes]:
    return book.stream()


@app.get("/numbers")
def numbers() -> dict[str, int]:
    return book.numbers()


book.open_book()
application = PoolMiddleware(app, book.pool, transaction="request")
