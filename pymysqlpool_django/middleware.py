"""503 with Retry-After for a request that failed because the database was not available at that moment.

    MIDDLEWARE = ["pymysqlpool_django.middleware.UnavailableMiddleware", ...]  # first, so that it sees all others

The pool was exhausted, the server is lost, full or starting, or it is a replica instead of a primary. Django would
answer 500. A response of the site itself (by a view, an exception handler of another middleware, a `handler500` with
another status) is left as it is. The page is the template "503.html", rendered without context, or a plain sentence.

Never: asks the database, retries, answers 503 for an error that another try does not cure (a login, SQL, a statement
that is too large).
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast
from weakref import WeakKeyDictionary

from asgiref.sync import markcoroutinefunction
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist, loader

from pymysqlpool.failures import is_temporary
from pymysqlpool.refusals import RefusalLog

TEMPLATE = "503.html"
_failures: WeakKeyDictionary[HttpRequest, BaseException] = WeakKeyDictionary()


def _note(sender: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Note the exception of which Django makes a 500."""
    error = sys.exception()
    if request is not None and error is not None and is_temporary(error):
        _failures[request] = error


class UnavailableMiddleware:
    """Answers 503 where the database was not available; for synchronous and asynchronous sites."""

    sync_capable = True  #: for Django
    async_capable = True  #: for Django
    retry_after = 1  #: seconds, of the header `Retry-After`; a subclass may have another number

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async: bool = iscoroutinefunction(get_response)
        self._log = RefusalLog()
        if self.is_async:
            markcoroutinefunction(self)
        # Django makes a 500 of exceptions in other middlewares and in the rendering of a response.
        got_request_exception.connect(_note, dispatch_uid="pymysqlpool_django.middleware")

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self.is_async:
            return self._answer(request)
        return self._in_place_of(cast(HttpResponse, self.get_response(request)), request)

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        return self._in_place_of(await self.get_response(request), request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called with an exception of a view that no inner middleware has answered."""
        return self.unavailable(request, exception) if is_temporary(exception) else None

    def _in_place_of(self, response: HttpResponse, request: HttpRequest) -> HttpResponse:
        error = _failures.pop(request, None)
        if error is None or response.status_code != 500:
            return response
        return self.unavailable(request, error)

    def unavailable(self, request: HttpRequest, error: BaseException) -> HttpResponse:
        """Return the response. Override it for another one."""
        self._log.note(f"{request.method} {request.path}", error)
        try:
            page = loader.get_template(TEMPLATE).render()
        except TemplateDoesNotExist:
            page = "<h1>Service unavailable</h1><p>The site is busy. Please try again in a moment.</p>"
        response = HttpResponse(page, status=503)
        response["Retry-After"] = str(self.retry_after)
        return response
