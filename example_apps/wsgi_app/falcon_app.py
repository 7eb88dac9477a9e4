"""Falcon."""

from __future__ import annotations

import falcon

from pymysqlpool.wsgi import PoolMiddleware

from . import book


class Book:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = book.read()
        response.content_type = falcon.MEDIA_TEXT

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        try:
            response.text = book.write(request.bounded_stream.read().decode())
        except ValueError as error:
            raise falcon.HTTPBadRequest(description=str(error)) from error


class Everything:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.stream = book.stream()
        response.content_type = falcon.MEDIA_TEXT


class Numbers:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = book.numbers()


app = falcon.App()
app.add_route("/", Book())
app.add_route("/all", Everything())
app.add_route("/numbers", Numbers())
book.open_book()
application = PoolMiddleware(app, book.pool, transaction="request")
