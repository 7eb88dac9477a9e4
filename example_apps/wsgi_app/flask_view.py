"""Flask, by the middleware alone. With `g.db` and more: pymysqlpool_flask, as in example_apps/flask_app."""

from __future__ import annotations

from flask import Flask, Response, request

from pymysqlpool.wsgi import PoolMiddleware

from . import book

app = Flask(__name__)


@app.get("/")
def read() -> Response:
    return Response(book.read(), mimetype="text/plain")


@app.post("/")
def write() -> tuple[str, int]:
    try:
        return book.write(request.get_data(as_text=True)), 200
    except ValueError as error:
        return f"{error}\n", 400


@app.get("/all")
def everything() -> Response:
    return Response(book.stream(), mimetype="text/plain")


@app.get("/numbers")
def numbers() -> dict[str, int]:
    return book.numbers()


book.open_book()
application = PoolMiddleware(app, book.pool, transaction="request")
